/**
 * A thread that calls `io_uring_enter` on a ring that is not its own.
 *
 * @module
 */
import { system } from "../../src/ffi/system.ts";

interface Call {
  readonly fd: number;
  readonly toSubmit: number;
  readonly minComplete: number;
  readonly flags: number;
}

const self = globalThis as unknown as {
  onmessage: ((event: MessageEvent<Call>) => void) | null;
  postMessage(result: number | null): void;
};

self.onmessage = ({ data }): void => {
  self.postMessage(system().enter(data.fd, data.toSubmit, data.minComplete, data.flags));
};

// A message that is sent while the modules still load may be lost.
self.postMessage(null);
