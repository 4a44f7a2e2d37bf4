/**
 * Signals by name.
 *
 * @module
 */

// In the kernel's order, from 1 on; the same on x86-64 and aarch64.
const NAMES = [
  "SIGHUP",
  "SIGINT",
  "SIGQUIT",
  "SIGILL",
  "SIGTRAP",
  "SIGABRT",
  "SIGBUS",
  "SIGFPE",
  "SIGKILL",
  "SIGUSR1",
  "SIGSEGV",
  "SIGUSR2",
  "SIGPIPE",
  "SIGALRM",
  "SIGTERM",
  "SIGSTKFLT",
  "SIGCHLD",
  "SIGCONT",
  "SIGSTOP",
  "SIGTSTP",
  "SIGTTIN",
  "SIGTTOU",
  "SIGURG",
  "SIGXCPU",
  "SIGXFSZ",
  "SIGVTALRM",
  "SIGPROF",
  "SIGWINCH",
  "SIGIO",
  "SIGPWR",
  "SIGSYS",
] as const;

/** The name of a signal. */
export type Signal = (typeof NAMES)[number];

/** The highest number of a signal, with those of real time, which have no names. */
const MOST = 64;

/**
 * The number of a signal.
 *
 * @throws TypeError when there is no signal of that name or number.
 */
export function signalNumber(signal: Signal | number): number {
  const number = typeof signal === "number" ? signal : NAMES.indexOf(signal) + 1;
  if (!Number.isInteger(number) || number < 0 || number > MOST || (number === 0 && signal !== 0)) {
    throw new TypeError(`There is no signal ${JSON.stringify(signal)}`);
  }
  return number;
}

/** The name of a signal; its number, as text, where it has none. */
export function signalName(number: number): Signal | `${number}` {
  return NAMES[number - 1] ?? `${number}`;
}
