/**
 * Copies files to the standard output, in order, with several reads in flight; the output goes through the ring, too.
 *
 *     bun examples/cat.ts FILE…
 *     deno run --allow-ffi examples/cat.ts FILE…
 *
 * Linux 5.6. `-` is the standard input. A file that cannot be read is reported and does not stop it.
 */
import process from "node:process";
import { Uring, UringError } from "uring";
import { AT_EMPTY_PATH, POLLIN, POLLOUT } from "uring/ring";

const STDIN = 0;
const STDOUT = 1;
const CHUNK = 128 * 1024;
const READS_IN_FLIGHT = 8;

/** Writes all of `bytes`, however many writes that takes. */
async function writeAll(uring: Uring, fd: number, bytes: Uint8Array): Promise<void> {
  for (let written = 0; written < bytes.length;) {
    try {
      written += await uring.write(fd, bytes.subarray(written));
    } catch (error) {
      // A pipe that was made non-blocking and is full.
      if (!(error instanceof UringError && error.code === "EAGAIN")) throw error;
      await uring.poll(fd, POLLOUT);
    }
  }
}

/** Something without offsets: a pipe, a terminal, a socket. One read after the other. */
async function copyStream(uring: Uring, from: number, to: number): Promise<void> {
  const buffer = new Uint8Array(CHUNK);
  for (;;) {
    try {
      const length = await uring.read(from, buffer);
      if (length === 0) return;
      await writeAll(uring, to, buffer.subarray(0, length));
    } catch (error) {
      if (!(error instanceof UringError && error.code === "EAGAIN" && error.syscall === "read")) throw error;
      await uring.poll(from, POLLIN);
    }
  }
}

/** A regular file, several chunks at a time. */
async function copyFile(uring: Uring, from: number, to: number): Promise<void> {
  const buffers = Array.from({ length: READS_IN_FLIGHT }, () => new Uint8Array(CHUNK));
  let offset = 0;
  for (let ended = false; !ended;) {
    const start = offset;
    // All of them go to the kernel in one system call.
    const reads = buffers.map((buffer, i) => uring.read(from, buffer, { offset: start + i * CHUNK }));
    const lengths = await Promise.all(reads);
    for (const [i, length] of lengths.entries()) {
      await writeAll(uring, to, buffers[i]!.subarray(0, length));
      offset += length;
      ended = length === 0;
      // What was read behind a short read does not follow it: ask for it anew.
      if (length < CHUNK) break;
    }
  }
}

async function copy(uring: Uring, path: string): Promise<void> {
  const fd = path === "-" ? STDIN : await uring.openat(path);
  try {
    const about = await uring.statx("", { dirfd: fd, flags: AT_EMPTY_PATH });
    // The standard input may have been read in part: go on where it is.
    if (about.isFile() && fd !== STDIN) await copyFile(uring, fd, STDOUT);
    else await copyStream(uring, fd, STDOUT);
  } finally {
    if (fd !== STDIN) await uring.close(fd);
  }
}

async function main(paths: readonly string[]): Promise<number> {
  await using uring = new Uring();
  let failures = 0;
  for (const path of paths.length === 0 ? ["-"] : paths) {
    try {
      await copy(uring, path);
    } catch (error) {
      if (!(error instanceof UringError)) throw error;
      // Nobody reads any more: that is how `cat … | head` ends.
      if (error.code === "EPIPE") return 0;
      console.error(`cat: ${path}: ${error.message}`);
      failures++;
    }
  }
  return failures === 0 ? 0 : 1;
}

process.exitCode = await main(process.argv.slice(2));
