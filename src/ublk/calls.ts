/**
 * System calls that only disks need.
 *
 * @module
 */
import { O_CLOEXEC } from "../ffi/abi.ts";
import { cString } from "../ffi/cstring.ts";
import type { Functions } from "../ffi/symbols.ts";
import { adapter, system } from "../ffi/system.ts";

const TABLE = {
  // ssize_t pread(int fd, void *buf, size_t count, off_t offset)
  pread: { result: "word", args: ["i32", "bytes", "word", "word"] },
  // ssize_t pwrite(int fd, const void *buf, size_t count, off_t offset)
  pwrite: { result: "word", args: ["i32", "bytes", "word", "word"] },
  // int prctl(int option, unsigned long arg2, unsigned long arg3, unsigned long arg4, unsigned long arg5)
  prctl: { result: "i32", args: ["i32", "word", "word", "word", "word"] },
  // pid_t getpid(void)
  getpid: { result: "i32", args: [] },
} as const;

const PR_SET_IO_FLUSHER = 57;

let opened: Functions<typeof TABLE> | undefined;

function calls(): Functions<typeof TABLE> {
  return opened ??= adapter.open(system().libc, TABLE);
}

/** The result of a call, or `-errno`. */
function orErrno(result: number): number {
  return result === -1 || result >= 2 ** 63 ? system().errno() : result;
}

/** Opens a device; returns the descriptor or `-errno`. */
export function openDevice(path: string, flags: number): number {
  return system().rare.open(cString(path), flags | O_CLOEXEC, 0);
}

/** `pread(2)` or `pwrite(2)` of all of `memory`; returns how much it was, or `-errno`. */
export function transferAt(fd: number, memory: Uint8Array, position: number, writes: boolean): number {
  const { pread, pwrite } = calls();
  return orErrno((writes ? pwrite : pread)(fd, memory, memory.byteLength, position));
}

/** This process as the kernel numbers it. */
export function processId(): number {
  return calls().getpid();
}

let disks = 0;

/**
 * A disk more (or fewer) is served by this thread. As long as there is one, memory that the thread asks for is not made free
 * by writing to disks: writing to its own would wait for this very thread. Needs `CAP_SYS_RESOURCE`, else nothing changes.
 */
export function countDisk(change: 1 | -1): void {
  const before = disks;
  disks += change;
  if (before === 0 || disks === 0) calls().prctl(PR_SET_IO_FLUSHER, disks > 0 ? 1 : 0, 0, 0, 0);
}
