/**
 * A thread that calls `io_uring_enter` and `io_uring_register` on a ring that is not its own.
 *
 * @module
 */
import { readlinkSync } from "node:fs";
import { IORING_ENTER_EXT_ARG } from "../../src/ffi/abi.ts";
import { pinned } from "../../src/ffi/pin.ts";
import { __kernel_timespec, io_uring_getevents_arg } from "../../src/ffi/structs.ts";
import { system } from "../../src/ffi/system.ts";

/** What to enter with. */
export interface EnterCall {
  readonly fd: number;
  readonly toSubmit: number;
  readonly minComplete: number;
  readonly flags: number;
  /** Milliseconds that the wait takes at most; for ever when left out. */
  readonly timeout?: number;
}

/** What to register: nothing, again and again. */
export interface RegisterCall {
  readonly fd: number;
  readonly opcode: number;
  /** How often. */
  readonly times: number;
}

const self = globalThis as unknown as {
  onmessage: ((event: MessageEvent<EnterCall | RegisterCall>) => void) | null;
  postMessage(message: { readonly thread: number } | { readonly result: number }): void;
};

function enter({ fd, toSubmit, minComplete, flags, timeout }: EnterCall): number {
  if (timeout === undefined) return system().enter(fd, toSubmit, minComplete, flags);
  const size = io_uring_getevents_arg.size;
  const arg = pinned(size + __kernel_timespec.size);
  const view = new DataView(arg.bytes.buffer);
  view.setBigUint64(io_uring_getevents_arg.ts, BigInt(arg.address + size), true);
  view.setBigInt64(size + __kernel_timespec.tv_sec, BigInt(Math.floor(timeout / 1000)), true);
  view.setBigInt64(size + __kernel_timespec.tv_nsec, BigInt(timeout % 1000 * 1e6), true);
  return system().enterArg(fd, toSubmit, minComplete, flags | IORING_ENTER_EXT_ARG, arg, size);
}

function register({ fd, opcode, times }: RegisterCall): number {
  let result = 0;
  for (let i = 0; i < times; i++) result = system().register(fd, opcode, null, 0);
  return result;
}

self.onmessage = ({ data }): void => {
  self.postMessage({ result: "opcode" in data ? register(data) : enter(data) });
};

// A message that is sent while the modules still load may be lost.
self.postMessage({ thread: Number(readlinkSync("/proc/thread-self").split("/").at(-1)) });
