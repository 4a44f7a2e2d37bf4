/**
 * The thread behind Bun's {@link EventReader}: reads an eventfd, blocking, and says when it has.
 *
 * @module
 */
import { dlopen, FFIType, ptr } from "bun:ffi";

declare const self: Worker;

const count = new Uint8Array(new ArrayBuffer(8));

self.onmessage = (event: MessageEvent<{ library: string; fd: number }>): void => {
  const { library, fd } = event.data;
  const { read } = dlopen(library, {
    read: { args: [FFIType.i32, FFIType.ptr, FFIType.u32], returns: FFIType.i32 },
  }).symbols;
  read(fd, ptr(count), count.length);
  self.postMessage(null);
};

// Ready: see openEventReader.
self.postMessage(null);
