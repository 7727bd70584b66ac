// Why a bar is missed, and how far the figure is from what the machine allows: printed below the bars for those that the runs in
// bench/results do not reach. Figures name the command that gives them.

/** A bar's name begins with `bar`, and its aim holds `aim`. */
export const notes = [
  {
    bar: 'q8 GEMM',
    aim: 'integer-dot micro-kernel',
    text: `Scaling each group of 32 takes 3 vector operations beside the 32 that multiply and add it, so 91 % of the micro-kernel is the most that a format with
groups of 32 allows. The inner loop without the scaling reached 94 % in the same process; the rest is widening the columns, packing the rows and rounding them (\`docs/decisions.md\`, "Quantised weights").`,
  },
  {
    bar: 'q8 GEMM',
    aim: 'best WebAssembly peer',
    text: 'dynq8 has one scale for a whole matrix, so it multiplies without a word about groups; ours keeps a scale for each 32 weights and activations, which cost 9 % at least. Four runs of one day gave 1.12 to 1.16 x.',
  },
  {
    bar: 'q8 GEMV',
    aim: '15 G weights/s',
    text: 'Bound by reading 17.8 MB: the read stream of the same run, one byte and a sixteenth a weight, is the most. A matrix of 1024 x 4096, which the third-level cache holds, reaches what the products alone allow (below).',
  },
  {
    bar: 'f32 GEMV',
    aim: '',
    text: "Bound by reading 64 MiB, and so is every peer: how fast that goes differs from one process to the next by more than what is missing (least and greatest of the machine's row below).",
  },
  {
    bar: '',
    aim: '1.8 x one thread',
    text: `The bar's row has what the micro-kernel alone gained from a second thread in the same runs: while other work holds the second processor, that is the limit. In one
process, thread counts in turns, 60 products each, the best pair was 1.91 to 1.97 x and the median 1.72 to 1.78 x, with other work on both processors.`,
  },
  {
    bar: 'cost of a token, 0.5 M decoder',
    aim: 'every WebAssembly peer',
    text: `Little more than half of a token passes in kernels ("Where the time of unroll goes", tiny, decode), most of that in reading 434,000 weights, 1.7 MB, from the third-level cache:
with q4 weights, an eighth of the bytes, the same host reaches 2.4 x (below). The rest is the host's, two asynchronous iterators and some twenty operations beside the recorded passes, no single one of them large.`,
  },
  {
    bar: 'cost of a token, 0.5 M decoder',
    aim: 'onnxruntime-node',
    text: 'Half of a token passes in kernels, the rest in JavaScript: two asynchronous iterators, 20 operations outside the recorded passes, tables of keys. See the profile below.',
  },
  {
    bar: 'a token of the embedded model',
    aim: 'inside kernels',
    text: 'Short runs measure code that the engine has not compiled yet: 165 tokens pass before the first that counts. The share of a warm process is above 70 %.',
  },
];

/** The note of a bar, if there is one. */
export const noteFor = (what, aim) => notes.find((note) => what.startsWith(note.bar) && aim.includes(note.aim))?.text;
