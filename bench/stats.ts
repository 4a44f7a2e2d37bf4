/** What is said of a list of measurements. */
export interface Summary {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

/** The middle value, or the mean of the two in the middle. Throws a `RangeError` if there is none. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle];
  const lower = sorted.length % 2 === 1 ? upper : sorted[middle - 1];
  if (upper === undefined || lower === undefined) throw new RangeError("no values");
  return (lower + upper) / 2;
}

/** Median and range. Throws a `RangeError` if there are no values. */
export function summarize(values: readonly number[]): Summary {
  return { median: median(values), min: Math.min(...values), max: Math.max(...values) };
}

/** `12345.6` → `12,346`; small numbers keep three significant digits: `0.123`, `1.23`, `12.3`, `123`. */
export function number(value: number): string {
  const size = Math.abs(value);
  const digits = size >= 100 || size === 0 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3;
  return value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/** Nanoseconds in the unit that suits their size. */
export function duration(ns: number): string {
  const size = Math.abs(ns);
  if (size < 1e3) return `${ns.toFixed(1)} ns`;
  if (size < 1e6) return `${number(ns / 1e3)} µs`;
  if (size < 1e9) return `${number(ns / 1e6)} ms`;
  return `${number(ns / 1e9)} s`;
}

/** Operations per second, with the prefix that suits. */
export function rate(perSecond: number): string {
  if (perSecond < 1e3) return `${number(perSecond)}/s`;
  if (perSecond < 1e6) return `${number(perSecond / 1e3)} k/s`;
  return `${number(perSecond / 1e6)} M/s`;
}

/** A ratio as `1.04×`, with fewer digits where it is large. */
export function times(ratio: number): string {
  return `${ratio >= 10 ? ratio.toFixed(1) : ratio.toFixed(2)}×`;
}
