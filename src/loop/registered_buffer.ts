/**
 * Registered buffers: memory that the kernel has mapped once and for all, so that no operation on it has to.
 *
 * @module
 */
import { MAP_HUGETLB, RLIMIT_MEMLOCK } from "../ffi/abi.ts";
import { UringError } from "../ffi/errors.ts";
import { readSmallFile } from "../ffi/kernel.ts";
import { Mapping } from "../ffi/memory.ts";
import { pinned } from "../ffi/pin.ts";
import { system } from "../ffi/system.ts";
import type { Driver } from "./driver.ts";
import { leak, whenUnused } from "./memory_users.ts";

/** The most that the kernel takes as one registered buffer. */
const MOST_BYTES = 2 ** 30;
/** The most that the kernel takes in all. */
const MOST_BUFFERS = 16384;
const ENOBUFS = 105;
const ENOMEM = 12;
const UNLIMITED = 2n ** 64n - 1n;

/** A buffer's memory and its place in the table: what outlives the object that the user had. */
interface Area {
  readonly table: BufferTable;
  readonly slot: number;
  readonly mapping: Mapping;
}

// By their memory, without a reference to the object that the user has: it may be dropped.
const registered = new WeakMap<ArrayBufferLike, Area>();

// An object that is dropped without being disposed of gives its place back; its memory goes with the last view of it.
const dropped = new FinalizationRegistry<Area>(({ table, slot, mapping }) => {
  registered.delete(mapping.buffer);
  table.retire(slot, mapping, false, () => {});
});

/**
 * Memory of the library's own that is registered with a ring: what `uring.registerBuffer` gives, and what
 * `readFixed`, `writeFixed` and their like work on. It begins at a page, as `O_DIRECT` wants it.
 *
 * Disposing of it has it refused by new operations at once; its memory is given back as soon as no operation works on it,
 * and every view of it is empty from then on. `await using` waits for that. Where it is never disposed of, it goes when
 * nothing refers to it any more. It outlives its ring, as plain memory.
 *
 * @example
 * ```ts
 * await using buffer = uring.registerBuffer(1 << 20);
 * const length = await uring.readFixed(fd, buffer, { offset: 0 });
 * console.log(buffer.bytes.subarray(0, length));
 * ```
 */
export class RegisteredBuffer implements Disposable, AsyncDisposable {
  /** Its length in bytes. */
  readonly size: number;
  /** Where it begins. @internal */
  readonly address: number;
  /** Its index in the ring's table. @internal */
  readonly slot: number;
  readonly #table: BufferTable;
  readonly #mapping: Mapping;
  readonly #bytes: Uint8Array;
  #disposed: Promise<void> | null = null;

  /** @internal */
  constructor(table: BufferTable, slot: number, mapping: Mapping, size: number) {
    this.#table = table;
    this.#mapping = mapping;
    this.#bytes = new Uint8Array(mapping.buffer, 0, size);
    this.slot = slot;
    this.size = size;
    this.address = mapping.address;
    const area = { table, slot, mapping };
    dropped.register(this, area, this);
    registered.set(mapping.buffer, area);
  }

  /**
   * The memory.
   *
   * @throws TypeError once it was disposed of.
   */
  get bytes(): Uint8Array {
    if (this.#disposed !== null) throw new TypeError("The registered buffer is disposed of");
    return this.#bytes;
  }

  /** Whether it was disposed of. */
  get disposed(): boolean {
    return this.#disposed !== null;
  }

  /** The memory for an operation of `driver`, which keeps it as `op.view` until the end. @internal */
  use(driver: Driver): Uint8Array {
    if (this.#disposed !== null) throw new TypeError("The registered buffer is disposed of");
    if (this.#table.driver !== driver) throw new TypeError("The registered buffer belongs to another ring");
    // Transferred to someone else: then it is theirs, and not to be written by us.
    if (this.#bytes.length === 0) throw new TypeError("The registered buffer's memory is detached");
    return this.#bytes;
  }

  /** Refuses new operations at once, and gives the memory back when the last one has ended. */
  [Symbol.dispose](): void {
    void this.#dispose();
  }

  /** The same, and resolves when the memory was given back. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.#dispose();
  }

  #dispose(): Promise<void> {
    if (this.#disposed === null) {
      dropped.unregister(this);
      registered.delete(this.#bytes.buffer);
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#disposed = promise;
      this.#table.retire(this.slot, this.#mapping, true, resolve);
    }
    return this.#disposed;
  }
}

/** The place of memory among a ring's registered buffers; −1 when it lies in none. @internal */
export function registeredSlot(memory: ArrayBufferLike, driver: Driver): number {
  const area = registered.get(memory);
  return area === undefined || area.table.driver !== driver ? -1 : area.slot;
}

/** Checks how many registered buffers there can be. */
export function checkTableSize(size: number): number {
  if (!Number.isInteger(size) || size < 1 || size > MOST_BUFFERS) {
    throw new RangeError(`registeredBuffers must be an integer from 1 to ${MOST_BUFFERS}, not ${size}`);
  }
  return size;
}

/** The buffers that are registered with one ring. */
export class BufferTable {
  /** The ring's engine. */
  readonly driver: Driver;
  readonly #size: number;
  #registered = false;
  #used = 0;
  readonly #free: number[] = [];

  /**
   * @param driver The ring's engine.
   * @param size How many buffers there can be.
   */
  constructor(driver: Driver, size: number) {
    this.driver = driver;
    this.#size = size;
  }

  /** Maps memory and registers it; the memory may be out of the system's pool of huge pages. */
  add(size: number, hugePages: boolean): RegisteredBuffer {
    if (!Number.isInteger(size) || size < 1 || size > MOST_BYTES) {
      throw new RangeError(
        `The size of a registered buffer is an integer from 1 to ${MOST_BYTES}, not ${size}`,
      );
    }
    this.#register();
    const { ring } = this.driver;
    const slot = this.#free.at(-1) ?? this.#used;
    if (slot >= this.#size) {
      throw new UringError(ENOBUFS, "register_buffer", {
        hint: `all ${this.#size} places are taken; a Uring with more registeredBuffers has more`,
      });
    }
    const mapping = hugePages ? mapHuge(size) : Mapping.anonymous(size);
    try {
      ring.registerBuffersUpdateTag(slot, [{ address: mapping.address, length: size }], []);
    } catch (error) {
      mapping.unmap();
      throw explained(error, size);
    }
    if (slot === this.#used) this.#used++;
    else this.#free.pop();
    return new RegisteredBuffer(this, slot, mapping, size);
  }

  /**
   * Takes a buffer back once no operation works on it.
   *
   * @param unmap Whether its memory is given back too, whoever has views of it.
   * @param done Called at the end.
   */
  retire(slot: number, mapping: Mapping, unmap: boolean, done: () => void): void {
    whenUnused(mapping.buffer, (free) => {
      this.#remove(slot);
      // Memory that was transferred away belongs to views that nobody here knows.
      if (!free || mapping.buffer.detached) leak(mapping);
      else if (unmap) mapping.unmap();
      done();
    });
  }

  #remove(slot: number): void {
    // The table goes with the ring.
    if (this.driver.gone) return;
    try {
      this.driver.ring.registerBuffersUpdateTag(slot, [null], []);
    } catch {
      // The kernel keeps the pages: the place stays taken.
      return;
    }
    this.#free.push(slot);
  }

  /** Registers the empty table, at first use. */
  #register(): void {
    if (this.#registered) return;
    this.driver.ring.registerBuffersSparse(this.#size);
    this.#registered = true;
  }
}

/** Maps whole huge pages, since parts of one cannot be given back. */
function mapHuge(size: number): Mapping {
  const kibibytes = /^Hugepagesize:\s*(\d+) kB$/m.exec(readSmallFile("/proc/meminfo") ?? "")?.[1];
  const page = 1024 * Number(kibibytes ?? 2048);
  try {
    return Mapping.anonymous(Math.ceil(size / page) * page, MAP_HUGETLB);
  } catch (error) {
    if (!(error instanceof UringError) || error.errno !== -ENOMEM) throw error;
    throw new UringError(ENOMEM, "register_buffer", {
      cause: error,
      hint: `too few huge pages of ${page} bytes are free; vm.nr_hugepages sets how many there are`,
    });
  }
}

/** Tells an ordinary user what stands in the way. */
function explained(error: unknown, size: number): unknown {
  if (!(error instanceof UringError) || error.errno !== -ENOMEM) return error;
  const limits = pinned(16);
  if (system().rare.getrlimit(RLIMIT_MEMLOCK, limits.bytes) !== 0) return error;
  const limit = new DataView(limits.bytes.buffer).getBigUint64(0, true);
  return new UringError(ENOMEM, "register_buffer", {
    cause: error,
    hint: limit === UNLIMITED
      ? `${size} bytes`
      : `${size} bytes; RLIMIT_MEMLOCK allows an ordinary user ${limit} bytes of registered buffers and rings in all; ` +
        "raise it (ulimit -l, LimitMEMLOCK=)",
  });
}
