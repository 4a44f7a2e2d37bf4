/**
 * Memory from `mmap`: it never moves, the kernel may keep its address, and it goes away when told or when nothing
 * can reach it any more.
 *
 * @module
 */
import {
  MADV_DONTFORK,
  MAP_ANONYMOUS,
  MAP_NORESERVE,
  MAP_POPULATE,
  MAP_PRIVATE,
  MAP_SHARED,
  PROT_NONE,
  PROT_READ,
  PROT_WRITE,
} from "./abi.ts";
import { check } from "./errors.ts";
import { adapter, system } from "./system.ts";

interface Area {
  readonly address: number;
  readonly byteLength: number;
}

// The registry watches the ArrayBuffer and not the Mapping: whoever still holds any view of the memory holds that.
const areas = new FinalizationRegistry<Area>((area) => {
  system().munmap(area.address, area.byteLength);
});

const mapped = new WeakSet<ArrayBufferLike>();

/** Whether memory is that of a {@link Mapping}, which the runtime neither moves nor frees. */
export function isMapped(memory: ArrayBufferLike): boolean {
  return mapped.has(memory);
}

/** Calls back once nothing works on `memory` any more, and says whether it may be given back. */
export type UnmapGuard = (memory: ArrayBuffer, then: (free: boolean) => void) => void;

let guard: UnmapGuard = (_, then) => then(true);

/** Has somebody asked before any memory is given back. @internal */
export function guardMappings(by: UnmapGuard): void {
  guard = by;
}

/** A piece of mapped memory. */
export class Mapping implements Disposable {
  /** Where it begins. */
  readonly address: number;
  /** Its length in bytes. */
  readonly byteLength: number;
  #buffer: ArrayBuffer | null;

  private constructor(address: number, byteLength: number) {
    this.address = address;
    this.byteLength = byteLength;
    this.#buffer = adapter.bufferAt(address, byteLength);
    mapped.add(this.#buffer);
    areas.register(this.#buffer, { address, byteLength }, this);
  }

  /** Zeroed memory of this process; the child of a `fork` does not see it. */
  static anonymous(byteLength: number, extraFlags = 0): Mapping {
    return Mapping.#map(byteLength, MAP_PRIVATE | MAP_ANONYMOUS | extraFlags, -1, 0);
  }

  /** Memory that a descriptor offers (a ring's), shared with the kernel. */
  static shared(byteLength: number, fd: number, offset: number): Mapping {
    return Mapping.#map(byteLength, MAP_SHARED | MAP_POPULATE, fd, offset);
  }

  /** Memory that a file has, shared with whoever else maps it; pages come when they are touched. */
  static ofFile(byteLength: number, fd: number): Mapping {
    return Mapping.#map(byteLength, MAP_SHARED, fd, 0);
  }

  /** Memory that a descriptor offers for reading only: writing to it ends the process. */
  static readable(byteLength: number, fd: number, offset: number): Mapping {
    return Mapping.#map(byteLength, MAP_SHARED | MAP_POPULATE, fd, offset, PROT_READ);
  }

  static #map(
    byteLength: number,
    flags: number,
    fd: number,
    offset: number,
    protection: number = PROT_READ | PROT_WRITE,
  ): Mapping {
    const sys = system();
    const address = check(sys.mmap(0, byteLength, protection, flags, fd, offset), "mmap");
    // A forked child that wrote to the rings would corrupt its parent's.
    sys.madvise(address, byteLength, MADV_DONTFORK);
    return new Mapping(address, byteLength);
  }

  /**
   * The memory.
   *
   * @throws TypeError after {@link Mapping.unmap}.
   */
  get buffer(): ArrayBuffer {
    if (this.#buffer === null) throw new TypeError("The memory is unmapped");
    return this.#buffer;
  }

  /**
   * Gives the memory back. Every view of it becomes empty first, so that none can touch what is no longer there. What an
   * operation of a `Uring` still works on goes when that has ended; under a `Ring` it goes at once.
   */
  unmap(): void {
    const buffer = this.#buffer;
    if (buffer === null) return;
    this.#buffer = null;
    areas.unregister(this);
    buffer.transfer();
    if (!buffer.detached) return; // Better leaked than pulled from under a view.
    guard(buffer, (free) => {
      if (free) check(system().munmap(this.address, this.byteLength), "munmap");
    });
  }

  /** The same as {@link Mapping.unmap}. */
  [Symbol.dispose](): void {
    this.unmap();
  }
}

/** Takes address space without memory, and returns the function that gives it back. */
export function reserveAddressSpace(byteLength: number): () => void {
  const flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  const address = check(system().mmap(0, byteLength, PROT_NONE, flags, -1, 0), "mmap");
  return () => {
    system().munmap(address, byteLength);
  };
}
