import { call } from './dispatch';
import { setThread, threadIndex } from './thread';

// Jobs that threads share. All state is in the first 16 KiB of the memory, which the host keeps free; each thread has an instance of this
// module over the same memory. A job is one kernel call whose last two arguments are a range: its pieces are taken, in any order and by
// any thread, by moving a ticket on. Kernels give each unit of their range the same bits whatever piece it falls in.
//
// The ticket is 64 bits: the number of the job above, the next piece below. A thread that comes late sees another job number or no piece
// left, and its exchange fails; so nobody waits for a thread that sleeps, only for pieces that were taken.

const TICKET: usize = 64;
/** The upper half of the ticket: what idle threads watch. */
const JOB: usize = 68;
const DONE: usize = 72;
/** 1 when a thread dropped its piece because the kernel trapped. */
const FAILED: usize = 76;
const SLEEPING: usize = 80;
const READY: usize = 84;
const STOP: usize = 88;
/** 1 while the caller sleeps until the last piece is done. */
const JOINING: usize = 92;
/** Lowest place at which a kernel found a bad value, as an unsigned number. */
const FAULT: usize = 96;
const CODE: usize = 100;
const ARGS: usize = 104;
/** Number of arguments, the range's two included. */
const COUNT: usize = 108;
const BEGIN: usize = 112;
const END: usize = 116;
const PIECE: usize = 120;
const PIECES: usize = 124;
/** Words of arguments for each thread. */
const SLOTS: usize = 256;
const slotBytes: usize = 128;

function takePieces(): void {
  const slot = SLOTS + <usize>threadIndex() * slotBytes;
  while (true) {
    const ticket = atomic.load<u64>(TICKET);
    const piece = <u32>ticket;
    if (piece >= load<u32>(PIECES)) return;
    const code = load<i32>(CODE);
    const count = <usize>load<u32>(COUNT);
    const begin = load<i32>(BEGIN) + <i32>piece * load<i32>(PIECE);
    const end = min(begin + load<i32>(PIECE), load<i32>(END));
    const args = <usize>load<u32>(ARGS);
    for (let i: usize = 0; i < count; i++) store<u32>(slot + (i << 2), load<u32>(args + (i << 2)));
    if (atomic.cmpxchg<u64>(TICKET, ticket, ticket + 1) != ticket) continue;
    store<i32>(slot + ((count - 2) << 2), begin);
    store<i32>(slot + ((count - 1) << 2), end);
    const place = call(code, slot);
    if (place >= 0) noteFault(<u32>place);
    finish();
  }
}

function noteFault(place: u32): void {
  while (true) {
    const before = atomic.load<u32>(FAULT);
    if (before <= place || atomic.cmpxchg<u32>(FAULT, before, place) == before) return;
  }
}

function finish(): void {
  atomic.add<i32>(DONE, 1);
  if (atomic.load<i32>(JOINING)) atomic.notify(DONE, 1);
}

/** Waits until `count` pieces are done: a while awake, then asleep where the caller's thread may. */
function join(count: i32, mayWait: i32): void {
  for (let spins = 0; ; spins++) {
    const done = atomic.load<i32>(DONE);
    if (done >= count) return;
    if (spins < 20000 || !mayWait) continue;
    atomic.store<i32>(JOINING, 1);
    atomic.wait<i32>(DONE, done, -1);
    atomic.store<i32>(JOINING, 0);
  }
}

/**
 * Runs one kernel over the range of its last two arguments in pieces of `piece` units, together with the threads that are awake or wake up.
 * Returns the lowest place of a bad value, -1 when there is none, or -2 when a kernel trapped on another thread.
 */
export function fork(code: i32, args: usize, count: i32, piece: i32, mayWait: i32): i32 {
  const begin = load<i32>(args + ((<usize>count - 2) << 2));
  const end = load<i32>(args + ((<usize>count - 1) << 2));
  const pieces = (end - begin + piece - 1) / piece;
  store<i32>(CODE, code);
  store<u32>(ARGS, <u32>args);
  store<i32>(COUNT, count);
  store<i32>(BEGIN, begin);
  store<i32>(END, end);
  store<i32>(PIECE, piece);
  store<i32>(PIECES, pieces);
  store<u32>(FAULT, 0xffffffff);
  atomic.store<i32>(DONE, 0);
  const job = (atomic.load<u64>(TICKET) >> 32) + 1;
  atomic.store<u64>(TICKET, job << 32);
  const sleeping = atomic.load<i32>(SLEEPING);
  if (sleeping) atomic.notify(JOB, min(sleeping, pieces - 1));
  takePieces();
  join(pieces, mayWait);
  // From here on nobody may take a piece, also not of the next job's numbers by this job's ticket.
  atomic.store<u64>(TICKET, (job << 32) | 0xffffffff);
  if (atomic.load<i32>(FAILED)) {
    atomic.store<i32>(FAILED, 0);
    return -2;
  }
  return <i32>load<u32>(FAULT);
}

/** After a trap on the calling thread: lets the others finish what they took, and drops the rest of the job. */
export function abandon(mayWait: i32): void {
  while (true) {
    const ticket = atomic.load<u64>(TICKET);
    const taken = min(<u32>ticket, load<u32>(PIECES));
    if (atomic.cmpxchg<u64>(TICKET, ticket, ticket | 0xffffffff) != ticket) continue;
    // The piece that trapped is taken and will not be done.
    if (<u32>ticket != 0xffffffff) join(<i32>taken - 1, mayWait);
    atomic.store<i32>(FAILED, 0);
    return;
  }
}

/** What the worker calls after a trap, before it serves again. */
export function failed(): void {
  atomic.store<i32>(FAILED, 1);
  finish();
}

/** Threads that take part. */
export function ready(): i32 {
  return atomic.load<i32>(READY);
}

/** Ends `serve` in all threads. */
export function stop(): void {
  atomic.store<i32>(STOP, 1);
  atomic.add<i32>(JOB, 1);
  atomic.notify(JOB, -1);
}

/** Takes part in jobs until `stop`: watches for the next one `spins` times, then sleeps. `first` is 0 when called again after a trap. */
export function serve(index: i32, spins: i32, first: i32): void {
  setThread(index);
  let seen = atomic.load<i32>(JOB);
  if (first) atomic.add<i32>(READY, 1);
  while (!atomic.load<i32>(STOP)) {
    takePieces();
    for (let i = 0; atomic.load<i32>(JOB) == seen; i++) {
      if (i < spins) continue;
      atomic.add<i32>(SLEEPING, 1);
      atomic.wait<i32>(JOB, seen, -1);
      atomic.sub<i32>(SLEEPING, 1);
      break;
    }
    seen = atomic.load<i32>(JOB);
  }
}

/**
 * Runs `count` recorded calls: for each a code, the number of argument words, a piece size (0 when it is not shared) and the arguments.
 * Returns -1, or the index of the call that found a bad value, whose place is then at `place`, -2 when a kernel trapped on another thread.
 */
export function run(list: usize, count: i32, place: usize, mayWait: i32): i32 {
  let at = list;
  for (let i = 0; i < count; i++) {
    const code = load<i32>(at), words = load<i32>(at, 4), piece = load<i32>(at, 8);
    const args = at + 12;
    const result = piece && atomic.load<i32>(READY) ? fork(code, args, words, piece, mayWait) : call(code, args);
    if (result != -1) {
      store<i32>(place, result);
      return i;
    }
    at = args + ((<usize>words) << 2);
  }
  return -1;
}
