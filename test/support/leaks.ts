/**
 * Fails a test file that leaves a descriptor, a mapping or an operation in flight behind. Each test file calls
 * {@link checkLeaks} once, at its top.
 *
 * Descriptors are compared by what they point to (`/proc/self/fd`), mappings by what they map (`/proc/self/maps`):
 * only what belongs to io_uring or is shared and anonymous, since the runtime's heap comes and goes. What the runtime
 * opens for itself (event loops, caches) is told apart from what the library opens, and one waker per process is
 * allowed, because it lives as long as its thread.
 *
 * @module
 */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { after } from "node:test";

/** Something that was there after the tests of a file and not before. */
export interface Leak {
  readonly kind: "io_uring" | "eventfd" | "socket" | "pipe" | "file" | "other" | "mapping" | "in flight";
  /** The descriptor's number, when it is one. */
  readonly fd?: number;
  /** What the descriptor points to or the memory maps, such as `socket:[4711]`. */
  readonly what: string;
}

/** What a test file may leave behind. */
export interface LeakOptions {
  /** True for a leak that is meant to be; asked once per leak. */
  readonly allow?: (leak: Leak) => boolean;
  /**
   * Rings that stay open by design besides the waker's, such as the one that `uring/fs` shares: one descriptor and
   * three mappings each. Default 0.
   */
  readonly sharedRings?: number;
}

/** What is open at one moment. */
export interface Snapshot {
  readonly fds: ReadonlyMap<number, string>;
  /** What is mapped → how many times. */
  readonly mappings: ReadonlyMap<string, number>;
}

/** A waker: an eventfd, a tiny ring (its entries and its queues), a pair of sockets. */
const WAKER: Readonly<Record<string, number>> = { io_uring: 1, eventfd: 1, socket: 2, mapping: 3 };
const RING: Readonly<Record<string, number>> = { io_uring: 1, mapping: 3 };

/** Opened by the runtimes for themselves, at a time of their choosing. */
const RUNTIME = [
  /^anon_inode:\[(eventpoll|timerfd|inotify|pidfd|signalfd)\]$/,
  /_cache_v\d+(-wal|-shm|-journal)?$/, // Deno's caches
  /^\/dev\/(null|u?random|tty|pts\/\d+)$/,
  /^\/proc\//,
  /^\/(usr\/|lib|etc\/)/,
];

let inFlight: () => number = () => 0;

/** Tells the check how to count the operations in flight of the whole thread; without one, none are. */
export function setInFlightProbe(probe: () => number): void {
  inFlight = probe;
}

/** Reads what is open and mapped now. */
export function snapshot(): Snapshot {
  const fds = new Map<number, string>();
  for (const name of readdirSync("/proc/self/fd")) {
    try {
      fds.set(Number(name), readlinkSync(`/proc/self/fd/${name}`));
    } catch {
      // The descriptor of the directory itself, closed by now.
    }
  }
  const mappings = new Map<string, number>();
  for (const line of readFileSync("/proc/self/maps", "utf8").split("\n")) {
    const what = mappingKind(line);
    if (what !== undefined) mappings.set(what, (mappings.get(what) ?? 0) + 1);
  }
  return { fds, mappings };
}

function mappingKind(line: string): string | undefined {
  // address perms offset dev inode path
  const [, perms, , , , ...path] = line.trim().split(/\s+/);
  const target = path.join(" ");
  if (target.startsWith("anon_inode:[io_uring]")) return "anon_inode:[io_uring]";
  if (perms?.[3] === "s" && (target === "" || target.startsWith("/dev/zero"))) {
    return "shared anonymous memory";
  }
  return undefined;
}

function fdKind(what: string): Leak["kind"] {
  if (what === "anon_inode:[io_uring]") return "io_uring";
  if (what === "anon_inode:[eventfd]") return "eventfd";
  if (what.startsWith("socket:")) return "socket";
  if (what.startsWith("pipe:")) return "pipe";
  return what.startsWith("/") ? "file" : "other";
}

/** What is in `after` and not in `before`, less what the runtime opened for itself. */
export function compare(before: Snapshot, after: Snapshot): Leak[] {
  const leaks: Leak[] = [];
  // The runtimes duplicate their own sockets and pipes for each worker: the same inode as before is theirs.
  const known = new Set([...before.fds.values()].filter((what) => /^(socket|pipe):/.test(what)));
  // So do they with the standard streams, when a worker or a child first uses them.
  for (const fd of [0, 1, 2]) known.add(before.fds.get(fd) ?? "");
  let loops = 0;
  for (const [fd, what] of after.fds) {
    if (before.fds.get(fd) === what || known.has(what)) continue;
    if (what === "anon_inode:[eventpoll]") loops++;
    if (RUNTIME.some((pattern) => pattern.test(what))) continue;
    leaks.push({ kind: fdKind(what), fd, what });
  }
  for (const [what, count] of after.mappings) {
    for (let i = before.mappings.get(what) ?? 0; i < count; i++) leaks.push({ kind: "mapping", what });
  }
  // Every event loop that the runtime starts brings one eventfd of its own.
  return excuse(leaks, { eventfd: loops });
}

/** Drops as many leaks of each kind as are allowed. */
function excuse(leaks: readonly Leak[], allowance: Readonly<Record<string, number>>): Leak[] {
  const left = { ...allowance };
  return leaks.filter(({ kind }) => {
    const count = left[kind] ?? 0;
    left[kind] = count - 1;
    return count <= 0;
  });
}

/** What has leaked since `before` and is not allowed. */
export function findLeaks(before: Snapshot, options: LeakOptions = {}): Leak[] {
  // Each may have a second one, for many whole files.
  const rings = 2 * (options.sharedRings ?? 0);
  const allowance: Record<string, number> = { ...WAKER };
  for (const [kind, count] of Object.entries(RING)) allowance[kind] = (allowance[kind] ?? 0) + rings * count;
  const { allow } = options;
  const found = compare(before, snapshot());
  const leaks = excuse(allow === undefined ? found : found.filter((leak) => !allow(leak)), allowance);
  const pending = inFlight();
  if (pending !== 0) {
    const leak: Leak = { kind: "in flight", what: `${pending} operations` };
    if (!allow?.(leak)) leaks.push(leak);
  }
  return leaks;
}

interface Globals {
  readonly Bun?: { gc(force: boolean): void };
  readonly Deno?: { readonly test: { afterAll(body: () => Promise<void>): void } };
  readonly gc?: () => void;
}

const runtime = globalThis as unknown as Globals;

/** Collects garbage and lets finalizers, closing sockets and ended children catch up. */
export async function settle(): Promise<void> {
  runtime.Bun?.gc(true);
  // Only there with --v8-flags=--expose-gc.
  if (runtime.Bun === undefined) runtime.gc?.();
  await new Promise<void>((resolve) => setImmediate(resolve));
  await new Promise<void>((resolve) => setTimeout(resolve, 20));
}

/** How often to look again before what is left counts as leaked: in all at least 1.2 s. */
const ATTEMPTS = 60;

/**
 * Registers the check for the calling test file: what is open when it is called is compared with what is open after
 * the file's last test. The file fails with a list of what has leaked.
 */
export function checkLeaks(options: LeakOptions = {}): void {
  const before = snapshot();
  const verify = async (): Promise<void> => {
    let leaks = findLeaks(before, options);
    for (let i = 0; i < ATTEMPTS && leaks.length > 0; i++) {
      await settle();
      leaks = findLeaks(before, options);
    }
    if (leaks.length > 0) throw new Error(`leaked: ${leaks.map(describe).join(", ")}`);
  };
  // Deno never runs the `after` of `node:test` at the top of a file.
  if (runtime.Deno !== undefined) runtime.Deno.test.afterAll(verify);
  else after(verify);
}

function describe({ fd, kind, what }: Leak): string {
  return fd === undefined ? `${kind} (${what})` : `descriptor ${fd} (${what})`;
}
