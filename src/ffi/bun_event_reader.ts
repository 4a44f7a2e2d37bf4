/**
 * The thread behind Bun's {@link EventReader}: reads an eventfd, blocking, and says when it has.
 *
 * @module
 */
import { dlopen, FFIType } from "bun:ffi";
import type { Pointer } from "bun:ffi";

declare const self: Worker;

const LENGTH = 8;

self.onmessage = (event: MessageEvent<{ library: string; fd: number; memory: number }>): void => {
  const { library, fd, memory } = event.data;
  const { read } = dlopen(library, {
    read: { args: [FFIType.i32, FFIType.ptr, FFIType.u32], returns: FFIType.i32 },
  }).symbols;
  read(fd, memory as Pointer, LENGTH);
  self.postMessage(null);
};

// Ready: see openEventReader.
self.postMessage(null);
