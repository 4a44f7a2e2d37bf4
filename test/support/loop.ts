/**
 * What the tests of the loop share.
 *
 * @module
 */
import assert from "node:assert/strict";
import process from "node:process";
import {
  AF_UNIX,
  IORING_SETUP_CLAMP,
  IORING_SETUP_COOP_TASKRUN,
  IORING_SETUP_CQE32,
  IORING_SETUP_CQE_MIXED,
  IORING_SETUP_DEFER_TASKRUN,
  IORING_SETUP_NO_MMAP,
  IORING_SETUP_NO_SQARRAY,
  IORING_SETUP_REGISTERED_FD_ONLY,
  IORING_SETUP_SINGLE_ISSUER,
  IORING_SETUP_SQE128,
  IORING_SETUP_SQPOLL,
  IORING_SETUP_SUBMIT_ALL,
  IORING_SETUP_TASKRUN_FLAG,
  O_CLOEXEC,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_STREAM,
} from "../../src/ffi/abi.ts";
import { cString } from "../../src/ffi/cstring.ts";
import { check } from "../../src/ffi/errors.ts";
import { system } from "../../src/ffi/system.ts";
import { waker } from "../../src/loop/waker.ts";
import { Uring, type UringOptions } from "../../src/mod.ts";
import { Fd } from "./descriptors.ts";
import { setInFlightProbe } from "./leaks.ts";
import { missingRing, sleep as block } from "./rings.ts";

// Rings with work in flight, wherever they are made.
setInFlightProbe(() => waker.size);

/** Ways to set up a ring that wake the event loop in different ways, with the reason why this kernel lacks one. */
export const FLAGS: readonly {
  readonly name: string;
  readonly flags: number;
  readonly skip: string | false;
}[] = [
  ["no flags", 0],
  ["COOP_TASKRUN", IORING_SETUP_COOP_TASKRUN],
  ["COOP_TASKRUN TASKRUN_FLAG", IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG],
  ["DEFER_TASKRUN", IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN],
  [
    "DEFER_TASKRUN TASKRUN_FLAG",
    IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
  ],
  ["SQPOLL", IORING_SETUP_SQPOLL],
].map(([name, flags]) => ({
  name: name as string,
  flags: flags as number,
  skip: missingRing({ flags: flags as number }),
}));

const DEFER = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;

/** Kinds and sizes of ring under which everything must work the same. */
export const URING_KINDS: Readonly<Record<string, UringOptions>> = {
  "the default": {},
  "4096 entries": { entries: 4096 },
  "4 entries": { entries: 4 },
  "2 entries": { entries: 2 },
  "1 entry": { entries: 1 },
  "2 entries and 2 completions": { entries: 2, cqEntries: 2 },
  "no flags": { flags: 0 },
  "no flags, 1 entry": { flags: 0, entries: 1 },
  "COOP_TASKRUN": { flags: IORING_SETUP_COOP_TASKRUN },
  "COOP_TASKRUN TASKRUN_FLAG": { flags: IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG, entries: 8 },
  "DEFER_TASKRUN": { flags: DEFER, entries: 4 },
  "SINGLE_ISSUER": { flags: IORING_SETUP_SINGLE_ISSUER },
  "SUBMIT_ALL CLAMP": { flags: IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CLAMP },
  "SQPOLL": { flags: IORING_SETUP_SQPOLL },
  "SQPOLL, 4 entries": { flags: IORING_SETUP_SQPOLL, entries: 4 },
  "SQE128": { flags: IORING_SETUP_SQE128 },
  "CQE32": { flags: IORING_SETUP_CQE32 },
  "SQE128 CQE32": { flags: IORING_SETUP_SQE128 | IORING_SETUP_CQE32, entries: 8 },
  "DEFER_TASKRUN SQE128 CQE32": { flags: DEFER | IORING_SETUP_SQE128 | IORING_SETUP_CQE32 },
  "CQE_MIXED": { flags: IORING_SETUP_CQE_MIXED },
  "NO_SQARRAY": { flags: IORING_SETUP_NO_SQARRAY, entries: 4 },
  "NO_MMAP": { flags: IORING_SETUP_NO_MMAP },
  "REGISTERED_FD_ONLY": { flags: IORING_SETUP_NO_MMAP | IORING_SETUP_REGISTERED_FD_ONLY },
};

/**
 * A ring that learns of completions when it asks for them and not before, whatever kind the others are: what completes in
 * the kernel while JavaScript runs is seen later.
 */
export const DEFERRED: UringOptions = {
  flags: DEFER | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL,
};

/** Why this kernel has no such ring, or `false`. */
export const noDeferred: string | false = missingRing(DEFERRED);

/** Milliseconds; an idle thread of SQPOLL burns a processor that others need. */
export const SQ_IDLE = 5;

/**
 * The kind of ring that tests get which ask for none: the name of one of {@link URING_KINDS} in the environment's
 * `URING_TEST_KIND`, of which the flags are taken. Default: what `Uring` makes.
 */
const DEFAULT_KIND = defaultKind();

function defaultKind(): UringOptions {
  const name = process.env["URING_TEST_KIND"];
  if (name === undefined || name === "") return {};
  const kind = URING_KINDS[name];
  if (kind === undefined) {
    throw new Error(`URING_TEST_KIND must be one of ${Object.keys(URING_KINDS).join(", ")}`);
  }
  return kind.flags === undefined ? {} : { flags: kind.flags };
}

/** Whether tests that ask for no kind of ring get SQPOLL: many operations one after the other then take long. */
export const POLLED: boolean = ((DEFAULT_KIND.flags ?? 0) & IORING_SETUP_SQPOLL) !== 0;

/**
 * Makes a `Uring`. The kernel takes the memory of closed rings off an ordinary user's account a little later, so there
 * is another try when it says `ENOMEM`.
 */
export function makeUring(options: UringOptions = {}): Uring {
  for (let i = 0;; i++) {
    try {
      return new Uring({ sqThreadIdle: SQ_IDLE, ...DEFAULT_KIND, ...options });
    } catch (error) {
      if ((error as { code?: string }).code !== "ENOMEM" || i === 100) throw error;
      block(10);
    }
  }
}

/** Waits so many milliseconds without the library. */
export function sleep(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

/** Keeps the thread busy for so many milliseconds. */
export function busy(milliseconds: number): void {
  const end = performance.now() + milliseconds;
  while (performance.now() < end);
}

/** Collects garbage. */
export function collect(): void {
  const { Bun, gc } = globalThis as unknown as { Bun?: { gc(force: boolean): void }; gc?: () => void };
  if (Bun !== undefined) Bun.gc(true);
  else gc?.();
}

/** Milliseconds after which what has not happened counts as lost. */
const PATIENCE = 60_000;

/** The promise's outcome; fails when it does not settle at all. */
export async function within<T>(promise: Promise<T>, what: string | (() => string)): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const hang = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(new Error(`hangs: ${typeof what === "string" ? what : what()}`));
    }, PATIENCE);
  });
  try {
    return await Promise.race([promise, hang]);
  } finally {
    clearTimeout(timer);
  }
}

/** Waits until a condition holds. */
export async function until(
  condition: () => boolean,
  what: string,
): Promise<void> {
  const end = performance.now() + PATIENCE;
  while (!condition()) {
    assert.ok(performance.now() < end, `still not: ${what}`);
    await sleep(5);
  }
}

/** Two sockets that are connected to each other. */
export class SocketPair implements Disposable {
  readonly a: Fd;
  readonly b: Fd;

  constructor() {
    const fds = new Int32Array(new ArrayBuffer(8));
    check(
      system().socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds),
      "socketpair",
    );
    this.a = new Fd(fds[0]!);
    this.b = new Fd(fds[1]!);
  }

  [Symbol.dispose](): void {
    this.a.close();
    this.b.close();
  }
}

/** Opens a file; Deno's `node:fs` gives out numbers that are no descriptors. */
export function openFile(path: string, flags: number): Fd {
  return new Fd(check(system().rare.open(cString(path), flags | O_CLOEXEC, 0o600), "open", { path }));
}
