/** Where time comes from; tests put in one that they turn by hand. */
export interface Clock {
  /** Milliseconds since some moment. */
  now(): number;
  /** Runs `then` once after `ms` milliseconds, unless the returned function is called before. */
  after(ms: number, then: () => void): () => void;
}

/** The longest time that a Node timer can hold. */
const LONGEST = 0x7fffffff;

/** The machine's clock. Its timers keep no process alive: connections do. */
export const systemClock: Clock = {
  now: () => performance.now(),
  after(ms, then) {
    const timer = setTimeout(then, Math.min(Math.max(ms, 0), LONGEST));
    timer.unref();
    return () => clearTimeout(timer);
  },
};
