/**
 * Whole files by their paths: opened, read and closed together with all the others that are asked for.
 *
 * @module
 */
import type { Buffer } from "node:buffer";
import { STATX_SIZE, STATX_TYPE } from "../ffi/abi.ts";
import type { WholeFile, WholeFileReader } from "../loop/whole_files.ts";
import { type DirectDescriptor, Uring, type UringError } from "../mod.ts";
import { decode, decodeBorrowed, type Encoding } from "./encoding.ts";
import { named } from "./errors.ts";

/** How much of a file is read at a time when nobody knows how much there is. */
const PIECE = 64 * 1024;
/** The most that one read transfers: 2 GiB less a page. */
const MOST = 0x7fff_f000;
/** From here on a worker thread of the kernel's copies, so that this thread goes on meanwhile. */
const LARGE = 1024 * 1024;
/** How much is asked for where the end is expected. */
const AT_END = 4096;

/** What a file is read as. */
export type Content = string | Buffer<ArrayBuffer>;

// One executor for all promises: a closure per promise would cost as much as the promise.
let executing: Reading;
const executor = (resolve: (content: Content) => void, reject: (error: unknown) => void): void => {
  executing.resolve = resolve;
  executing.reject = reject;
};

/** A file on its way. */
class Reading implements WholeFile {
  readonly path: string | Uint8Array;
  readonly flags: number;
  readonly mode = 0o666;
  readonly encoding: Encoding | null | undefined;
  resolve: ((content: Content) => void) | null = null;
  reject: ((error: unknown) => void) | null = null;

  constructor(path: string | Uint8Array, flags: number, encoding: Encoding | null | undefined) {
    this.path = path;
    this.flags = flags;
    this.encoding = encoding;
  }

  whole(bytes: Uint8Array): void {
    let content: Content;
    try {
      content = decodeBorrowed(bytes, this.encoding);
    } catch (error) {
      // Text that is longer than the runtime's strings can be.
      this.reject!(error);
      return;
    }
    this.resolve!(content);
  }

  async more(beginning: Uint8Array, file: DirectDescriptor, by: WholeFileReader): Promise<void> {
    try {
      const bytes = await readOn(by, file, this.path, beginning);
      this.resolve!(decode(bytes, this.encoding));
    } catch (error) {
      this.reject!(error);
    }
  }

  failed(error: UringError): void {
    this.reject!(named(error, error.syscall === "openat" ? "open" : "read"));
  }
}

/** The whole content of a file; the arguments have been checked. */
export function readWhole(
  path: string | Uint8Array,
  flags: number,
  encoding: Encoding | null | undefined,
): Promise<Content> {
  const reading = new Reading(path, flags, encoding);
  executing = reading;
  const promise = new Promise<Content>(executor);
  Uring.shared.wholeFile(reading);
  return promise;
}

/** Reads the rest of a file whose beginning is known. */
async function readOn(
  by: WholeFileReader,
  file: DirectDescriptor,
  path: string | Uint8Array,
  beginning: Uint8Array,
): Promise<Uint8Array<ArrayBuffer>> {
  // No more than a guess: the name may mean another file by now.
  const about = await Uring.shared.statx(path, { mask: STATX_TYPE | STATX_SIZE }).catch(() => null);
  const size = about?.isFile() === true ? about.size : 0;
  let bytes = new Uint8Array(Math.max(size, beginning.length + PIECE));
  bytes.set(beginning);
  let length = beginning.length;
  for (;;) {
    const full = length === bytes.length;
    const target = full ? new Uint8Array(AT_END) : bytes.subarray(length, length + MOST);
    const count = await by.read(
      file,
      target,
      target.length >= LARGE ? { async: true } : undefined,
    );
    if (count === 0) return full ? bytes : bytes.subarray(0, length);
    if (full) {
      const more = new Uint8Array(2 * length);
      more.set(bytes);
      more.set(target.subarray(0, count), length);
      bytes = more;
    }
    length += count;
  }
}
