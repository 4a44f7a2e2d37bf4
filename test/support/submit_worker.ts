/**
 * A thread that submits entries of a ring that is not its own, and says which thread it is.
 *
 * @module
 */
import { readlinkSync } from "node:fs";
import { system } from "../../src/ffi/system.ts";

const self = globalThis as unknown as {
  onmessage: ((event: MessageEvent<{ fd: number; toSubmit: number }>) => void) | null;
  postMessage(answer: { submitted: number; thread: string } | null): void;
};

self.onmessage = ({ data }): void => {
  const submitted = system().enter(data.fd, data.toSubmit, 0, 0);
  self.postMessage({ submitted, thread: readlinkSync("/proc/thread-self") });
};

// A message that is sent while the modules still load may be lost.
self.postMessage(null);
