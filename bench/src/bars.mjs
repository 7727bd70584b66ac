// What is aimed at, and whether a set of runs reaches it. All on the newest Node that was measured; ratios are within one run.

const WASM = ['onnxruntime-web', 'tfjs-wasm', 'jax-js'];
const NATIVE = ['onnxruntime-node', 'node-llama-cpp'];

/** Rows of runs, with what bars are made of. */
class Figures {
  constructor(runs) {
    this.runs = runs;
  }

  run(group, threads) {
    const found = this.runs.filter((run) => run.group === group && run.threads === threads);
    return found.sort((a, b) => Number.parseInt(b.node, 10) - Number.parseInt(a.node, 10))[0];
  }

  rows(group, threads, what) {
    return this.run(group, threads)?.rows.filter((row) => row.what === what) ?? [];
  }

  ours(group, threads, what, kind = 'f32') {
    return this.rows(group, threads, what).find((row) => row.peer === 'unroll' && row.kind === kind)?.median;
  }

  /** The best of some peers, over all kinds of weights unless some are named. */
  best(group, threads, what, peers, kinds) {
    const found = this.rows(group, threads, what).filter(
      (row) => peers.includes(row.peer) && (kinds === undefined || kinds.includes(row.kind)),
    );
    return found.length === 0 ? undefined : found.reduce((a, b) => (b.median > a.median ? b : a));
  }

  limit(group, threads, names) {
    const found = this.run(group, threads)?.rows.filter(({ kind, what }) => kind === 'limit' && names.includes(what)) ?? [];
    return found.length === 0 ? undefined : Math.max(...found.map(({ median }) => median));
  }
}

const percent = (value) => `${(100 * value).toFixed(0)} %`;
const times = (value) => `${value.toFixed(2)} x`;
const missing = { text: 'not measured', reached: undefined };

/** A value against the least that is wanted. */
function atLeast(value, least, show = times, more = '') {
  if (value === undefined || Number.isNaN(value)) return missing;
  return { text: `${show(value)}${more}`, reached: value >= least };
}

function atMost(value, most, show, more = '') {
  if (value === undefined || Number.isNaN(value)) return missing;
  return { text: `${show(value)}${more}`, reached: value <= most };
}

const over = (a, b) => (a === undefined || b === undefined ? undefined : a / b);
const than = (row) => (row === undefined ? '' : ` (${row.peer} ${row.kind})`);

function gemmBars(f) {
  return ['512 x 512 x 512', '1024 x 1024 x 1024', '128 x 1024 x 4096'].flatMap((what) => {
    const ours = f.ours('gemm', 1, what);
    const peer = f.best('gemm', 1, what, WASM);
    return [
      [
        `f32 GEMM ${what}, 1 thread`,
        '>= 90 % of the 4 x 8 micro-kernel',
        atLeast(over(ours, f.limit('gemm', 1, ['f32-plain', 'f32-relaxed'])), 0.9, percent),
      ],
      [`f32 GEMM ${what}, 1 thread`, '>= 1.5 x the best WebAssembly peer', atLeast(over(ours, peer?.median), 1.5, times, than(peer))],
    ];
  });
}

function quantisedBars(f) {
  const what = '128 x 1024 x 4096';
  const ours = f.ours('gemm-quantised', 1, what, 'q8');
  const peer = f.best('gemm-quantised', 1, what, WASM);
  const list = [
    [
      `q8 GEMM ${what}, 1 thread`,
      '>= 85 % of the integer-dot micro-kernel',
      atLeast(over(ours, f.limit('gemm-quantised', 1, ['int16-dot'])), 0.85, percent),
    ],
    [`q8 GEMM ${what}, 1 thread`, '>= 1.15 x the best WebAssembly peer', atLeast(over(ours, peer?.median), 1.15, times, than(peer))],
  ];
  for (const kind of ['q8', 'q4']) {
    const rate = f.ours('gemv', 1, '1 x 4096 x 4096', kind);
    const native = f.best('gemv', 1, '1 x 4096 x 4096', NATIVE, kind === 'q8' ? ['q8', 'dynq8'] : ['q4']);
    const peak = f.limit('gemv', 1, ['int16-dot']);
    const shares =
      rate === undefined || native === undefined || peak === undefined
        ? ''
        : `; ${percent(rate / native.median)} of native${than(native)}, ${percent((2 * rate) / peak)} of the integer-dot peak`;
    list.push([
      `${kind} GEMV 4096 x 4096, 1 thread`,
      '>= 15 G weights/s',
      atLeast(rate, 15, (value) => `${value.toFixed(1)} G weights/s`, shares),
    ]);
  }
  return list;
}

function gemvBars(f) {
  const what = '1 x 4096 x 4096';
  const ours = f.ours('gemv', 1, what);
  const peer = f.best('gemv', 1, what, [...WASM, ...NATIVE], ['f32']);
  const stream = (threads) => over(f.limit('gemv', threads, ['stream']), 4);
  return [
    ['f32 GEMV 4096 x 4096, 1 thread', '>= 90 % of the WebAssembly read stream', atLeast(over(ours, stream(1)), 0.9, percent)],
    ['f32 GEMV 4096 x 4096, 1 thread', '>= 0.95 x the best of all peers', atLeast(over(ours, peer?.median), 0.95, times, than(peer))],
    [
      'f32 GEMV 4096 x 4096, 2 threads',
      '>= 90 % of the two-thread read stream',
      atLeast(over(f.ours('gemv', 2, what), stream(2)), 0.9, percent),
    ],
  ];
}

function threadBars(f) {
  const pairs = [
    ['gemm', '1024 x 1024 x 1024', 'f32'],
    ['gemm', '128 x 1024 x 4096', 'f32'],
    ['gemm-quantised', '128 x 1024 x 4096', 'q8'],
  ];
  return pairs.map(([group, what, kind]) => {
    const names = kind === 'q8' ? ['int16-dot'] : ['f32-plain', 'f32-relaxed'];
    const alone = over(f.limit(group, 2, names), f.limit(group, 1, names));
    return [
      `${kind} GEMM ${what}, 2 threads`,
      '>= 1.8 x one thread',
      atLeast(
        over(f.ours(group, 2, what, kind), f.ours(group, 1, what, kind)),
        1.8,
        times,
        alone === undefined ? '' : `; the micro-kernel alone ${times(alone)}`,
      ),
    ];
  });
}

function decodeBars(f) {
  const group = 'decode-110m';
  return [1, 2].flatMap((threads) => {
    const name = `decode, ~110 M, ${threads} thread${threads === 1 ? '' : 's'}`;
    const what = '110m, decode';
    const [f32, q8, q4] = ['f32', 'q8', 'q4'].map((kind) => f.ours(group, threads, what, kind));
    const llama = (kind) => f.best(group, threads, what, ['node-llama-cpp'], [kind])?.median;
    const peer = f.best(group, threads, what, WASM);
    const slower = q8 === undefined || q4 === undefined ? undefined : Math.min(q8, q4);
    return [
      [`q8 ${name}`, '>= 0.9 x native llama.cpp q8_0', atLeast(over(q8, llama('q8')), 0.9)],
      [`q8 ${name}`, '>= 2 x every WebAssembly peer', atLeast(over(q8, peer?.median), 2, times, than(peer))],
      [`q4 ${name}`, '>= 0.7 x native llama.cpp q4_0', atLeast(over(q4, llama('q4')), 0.7)],
      [`q8 and q4 ${name}`, 'both faster than unroll f32', atLeast(over(slower, f32), 1)],
    ];
  });
}

function prefillBars(f) {
  const bar = (kind, least, kinds) => {
    const peer = f.best('decode-110m', 1, '110m, prefill', WASM, kinds);
    const ours = f.ours('decode-110m', 1, '110m, prefill', kind);
    return [
      `${kind} prefill of 128 tokens, ~110 M, 1 thread`,
      `>= ${least} x the best WebAssembly peer`,
      atLeast(over(ours, peer?.median), least, times, than(peer)),
    ];
  };
  return [bar('f32', 1.6, ['f32']), bar('q8', 1.2, undefined)];
}

function hostBars(f) {
  const tiny = f.ours('floor', 1, 'tiny, decode');
  const native = f.best('floor', 1, 'tiny, decode', ['onnxruntime-node'], ['f32']);
  const peer = f.best('floor', 1, 'tiny, decode', WASM, ['f32']);
  const inside = f.ours('profile', 1, 'embedded, decode');
  const start = f.ours('start', 1, 'first token of the embedded model');
  const memory = ['f32', 'q8', 'q4'].map((kind) => [
    `peak memory while loading, ${kind}`,
    '<= 1.15 x the weights + one tensor',
    atMost(f.ours('load', 1, '110m, peak less one stored tensor / weights', kind), 1.15, (value) => `${times(value)} + one tensor`),
  ]);
  return [
    ['cost of a token, 0.5 M decoder', '>= 1.0 x onnxruntime-node', atLeast(over(tiny, native?.median), 1)],
    ['cost of a token, 0.5 M decoder', '>= 2.5 x every WebAssembly peer', atLeast(over(tiny, peer?.median), 2.5, times, than(peer))],
    ['a token of the embedded model', '>= 70 % inside kernels', atLeast(inside, 70, (value) => `${value.toFixed(0)} %`)],
    ['start to first token of the embedded model', '<= 300 ms', atMost(start, 300, (value) => `${value.toFixed(0)} ms`)],
    ...memory,
  ];
}

function qualityBars(f) {
  const bar = (kind, points) => {
    const depths = 'depths 1 to 64';
    const agreed = f.ours('quality', 1, `${depths}: mean top-1 agreement with f32`, kind);
    return [
      `quality of ${kind}, the reckoner's answers`,
      `at every depth within ${points} point${points === 1 ? '' : 's'} of f32`,
      atMost(
        f.ours('quality', 1, `${depths}: most points below f32`, kind),
        points,
        (value) => `${value.toFixed(2)} points below`,
        agreed === undefined ? '' : `; top-1 agreement ${agreed.toFixed(1)} %`,
      ),
    ];
  };
  return [bar('q8', 1), bar('q4', 3)];
}

/** Below this rate of its GEMM, torch runs on a reference BLAS and is no measure. */
const LEAST_TORCH_GFLOPS = 60;

function trainingBars(f) {
  const bar = (what, least, name) => {
    const rows = f.rows('train', 1, `${what}: training`);
    const fastest = (peer) => Math.max(...rows.filter((row) => row.peer === peer).map(({ median }) => median));
    const gemm = f.best('train', 1, `${what}: GEMM 1024 of the same library`, ['torch']);
    const bars = (result) => [`training, ${name}`, `>= ${least} x torch, each with its better number of threads`, result];
    if (gemm === undefined) return bars(missing);
    if (gemm.median < LEAST_TORCH_GFLOPS)
      return bars({ text: `void: torch's GEMM reaches ${gemm.median.toFixed(0)} GFLOPS`, reached: undefined });
    return bars(atLeast(fastest('unroll') / fastest('torch'), least, times, `; torch's GEMM reaches ${gemm.median.toFixed(0)} GFLOPS`));
  };
  return [bar('default batch', 0.4, "the default model's batch"), bar('one sequence of 32 tokens', 1, 'one sequence of 32 tokens')];
}

/** [what, aim, { text, reached }] of every bar. */
export function evaluateBars(runs) {
  const f = new Figures(runs);
  return [gemmBars, quantisedBars, gemvBars, threadBars, decodeBars, prefillBars, hostBars, qualityBars, trainingBars].flatMap((bars) =>
    bars(f),
  );
}
