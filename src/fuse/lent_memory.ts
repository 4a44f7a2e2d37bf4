/**
 * Memory that the kernel and a handler work on in turns.
 *
 * @module
 */
import { MADV_DONTFORK, MFD_CLOEXEC } from "../ffi/abi.ts";
import { cString } from "../ffi/cstring.ts";
import { check } from "../ffi/errors.ts";
import { Mapping } from "../ffi/memory.ts";
import { system } from "../ffi/system.ts";
import { mapFile, memfdCall, truncateCall } from "./calls.ts";

const NAME = cString("uring-fuse");

/**
 * The same pages mapped twice: once for the kernel, once for JavaScript. A handler that does not come back keeps its
 * view, and the pages behind that, while the kernel gets others at the address that it knows: neither can then harm
 * the other.
 */
export class LentMemory {
  /** Where the kernel finds it, for good. */
  readonly address: number;
  /** Its length in bytes. */
  readonly byteLength: number;
  #mapping: Mapping;

  /** @param byteLength A multiple of the page size. */
  constructor(byteLength: number) {
    this.byteLength = byteLength;
    const fd = makePages(byteLength);
    try {
      this.#mapping = Mapping.ofFile(byteLength, fd);
      this.address = check(mapFile(fd, byteLength), "mmap");
      // A child of a fork has no business with it.
      system().madvise(this.address, byteLength, MADV_DONTFORK);
    } finally {
      system().close(fd);
    }
  }

  /** The memory as JavaScript has it now. */
  get buffer(): ArrayBuffer {
    return this.#mapping.buffer;
  }

  /**
   * Puts other pages in place. Views of those before stay as they are, and go when nobody can reach them any more.
   */
  replace(): void {
    const fd = makePages(this.byteLength);
    try {
      const mapping = Mapping.ofFile(this.byteLength, fd);
      check(mapFile(fd, this.byteLength, this.address), "mmap");
      system().madvise(this.address, this.byteLength, MADV_DONTFORK);
      this.#mapping = mapping;
    } finally {
      system().close(fd);
    }
  }

  /** Gives the kernel's side back; the kernel must be done with it. */
  unmapKernel(): void {
    system().munmap(this.address, this.byteLength);
  }

  /** Gives JavaScript's side back: views of it become empty. */
  unmap(): void {
    this.#mapping.unmap();
  }
}

function makePages(byteLength: number): number {
  const fd = check(memfdCall(NAME, MFD_CLOEXEC), "memfd_create");
  const result = truncateCall(fd, byteLength);
  if (result < 0) system().close(fd);
  check(result, "ftruncate");
  return fd;
}
