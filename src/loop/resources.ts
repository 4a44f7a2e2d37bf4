/**
 * What a `Uring` registers with its ring, as objects that can be disposed of.
 *
 * @module
 */
import type { DirectTable } from "./direct.ts";
import type { Driver } from "./driver.ts";
import { MessageStreams } from "./message_streams.ts";
import { Personality } from "./personality.ts";
import { BufferTable, type RegisteredBuffer } from "./registered_buffer.ts";

/** Options of {@link Resources.registerBuffer}. */
export interface RegisterBufferOptions {
  /** Take the memory from the system's pool of huge pages (`vm.nr_hugepages`), whole ones; `ENOMEM` where there are none. */
  hugePages?: boolean;
}

/** The resources of a ring. */
export abstract class Resources extends MessageStreams {
  readonly #buffers: BufferTable;

  /** @internal */
  protected constructor(driver: Driver, directs: DirectTable, registeredBuffers: number) {
    super(driver, directs);
    this.#buffers = new BufferTable(driver, registeredBuffers);
  }

  /**
   * Maps memory and registers it with the ring, for `readFixed`, `writeFixed` and their like:
   * `io_uring_register_buffers_update_tag`, Linux 5.19. It is zeroed and begins at a page, as `O_DIRECT` wants it.
   *
   * @param size How many bytes, at most 1 GiB.
   * @throws RangeError for a size that cannot be, `UringError`: `ENOMEM` where memory is short or `RLIMIT_MEMLOCK` does
   * not allow so much, `ENOBUFS` when all places are taken.
   */
  registerBuffer(size: number, options: RegisterBufferOptions = {}): RegisteredBuffer {
    this.driver.assertOpen();
    return this.#buffers.add(size, options.hugePages === true);
  }

  /**
   * Takes down the credentials that this thread has now, for the option `personality` of operations:
   * `io_uring_register_personality`, Linux 5.6.
   */
  registerPersonality(): Personality {
    this.driver.assertOpen();
    return new Personality(this.driver);
  }
}
