/**
 * Operations on open files and pipes.
 *
 * @module
 */
import assert from "node:assert/strict";
import { readFileSync, statSync, writeFileSync } from "node:fs";
import {
  FALLOC_FL_KEEP_SIZE,
  IORING_OP_CLOSE,
  IORING_OP_FADVISE,
  IORING_OP_FALLOCATE,
  IORING_OP_FILES_UPDATE,
  IORING_OP_FIXED_FD_INSTALL,
  IORING_OP_FSYNC,
  IORING_OP_FTRUNCATE,
  IORING_OP_MADVISE,
  IORING_OP_PIPE,
  IORING_OP_READ,
  IORING_OP_READ_FIXED,
  IORING_OP_READ_MULTISHOT,
  IORING_OP_READV,
  IORING_OP_READV_FIXED,
  IORING_OP_SPLICE,
  IORING_OP_SYNC_FILE_RANGE,
  IORING_OP_TEE,
  IORING_OP_WRITE,
  IORING_OP_WRITE_FIXED,
  IORING_OP_WRITEV,
  IORING_OP_WRITEV_FIXED,
  MADV_WILLNEED,
  O_CREAT,
  O_RDWR,
  POSIX_FADV_WILLNEED,
  SYNC_FILE_RANGE_WRITE,
} from "../../../src/ffi/abi.ts";
import type { Uring } from "../../../src/mod.ts";
import { Fd, type TempDir } from "../descriptors.ts";
import { bytes, text, WaitingPipe } from "../operations.ts";
import { type OperationCase, owned, rejected } from "./case.ts";

/** A file with this content, opened without the library. */
function fileWith(dir: TempDir, content: string): Fd {
  writeFileSync(dir.of("file"), content);
  return Fd.open(dir.of("file"), O_RDWR | O_CREAT);
}

function contentOf(dir: TempDir): string {
  return readFileSync(dir.of("file"), "utf8");
}

async function nothingChanged(
  dir: TempDir,
  operation: (fd: number) => Promise<void>,
): Promise<void> {
  using file = fileWith(dir, "content");
  await operation(file.fd);
  assert.equal(contentOf(dir), "content");
}

async function fixed(
  uring: Uring,
  dir: TempDir,
  run: (fd: number, buffer: ReturnType<Uring["registerBuffer"]>) => Promise<void>,
): Promise<void> {
  using file = fileWith(dir, "0123456789");
  await using buffer = uring.registerBuffer(4096);
  await run(file.fd, buffer);
}

/** Reading, writing, and what goes with it. */
export const FILE_CASES: readonly OperationCase[] = [
  {
    method: "read",
    op: IORING_OP_READ,
    run: async (uring, dir) => {
      using file = fileWith(dir, "0123456789");
      const buffer = new Uint8Array(4);
      assert.equal(await uring.read(file.fd, buffer, { offset: 3 }), 4);
      assert.equal(text(buffer), "3456");
    },
  },
  {
    method: "write",
    op: IORING_OP_WRITE,
    run: async (uring, dir) => {
      using file = fileWith(dir, "0123456789");
      assert.equal(await uring.write(file.fd, bytes("abc"), { offset: 5 }), 3);
      assert.equal(contentOf(dir), "01234abc89");
    },
  },
  {
    method: "readMultishot",
    op: IORING_OP_READ_MULTISHOT,
    run: async (uring) => {
      using pipe = new WaitingPipe();
      pipe.write("first");
      const pool = uring.bufferPool({ count: 4, size: 64 });
      const chunks: string[] = [];
      for await (const chunk of uring.readMultishot(pipe.reader.fd, { pool })) {
        if (chunks.push(text(chunk)) === 2) break;
        pipe.write("second");
      }
      assert.deepEqual(chunks, ["first", "second"]);
    },
  },
  {
    method: "readv",
    op: IORING_OP_READV,
    run: async (uring, dir) => {
      using file = fileWith(dir, "0123456789");
      const [a, b] = [new Uint8Array(2), new Uint8Array(3)];
      assert.equal(await uring.readv(file.fd, [a, b], { offset: 1 }), 5);
      assert.deepEqual([text(a), text(b)], ["12", "345"]);
    },
  },
  {
    method: "writev",
    op: IORING_OP_WRITEV,
    run: async (uring, dir) => {
      using file = fileWith(dir, "0123456789");
      assert.equal(await uring.writev(file.fd, [bytes("ab"), bytes("c")], { offset: 8 }), 3);
      assert.equal(contentOf(dir), "01234567abc");
    },
  },
  {
    method: "readFixed",
    op: IORING_OP_READ_FIXED,
    kernel: "5.19",
    run: (uring, dir) =>
      fixed(uring, dir, async (fd, buffer) => {
        assert.equal(await uring.readFixed(fd, buffer, { offset: 2, start: 100, length: 3 }), 3);
        assert.equal(text(buffer.bytes.subarray(100, 103)), "234");
      }),
  },
  {
    method: "writeFixed",
    op: IORING_OP_WRITE_FIXED,
    kernel: "5.19",
    run: (uring, dir) =>
      fixed(uring, dir, async (fd, buffer) => {
        buffer.bytes.set(bytes("abc"), 50);
        assert.equal(await uring.writeFixed(fd, buffer, { offset: 0, start: 50, length: 3 }), 3);
        assert.equal(contentOf(dir), "abc3456789");
      }),
  },
  {
    method: "readvFixed",
    op: IORING_OP_READV_FIXED,
    run: (uring, dir) =>
      fixed(uring, dir, async (fd, buffer) => {
        const parts = [{ start: 10, length: 2 }, { start: 0, length: 3 }];
        assert.equal(await uring.readvFixed(fd, buffer, parts, { offset: 0 }), 5);
        assert.deepEqual([text(buffer.bytes.subarray(10, 12)), text(buffer.bytes, 3)], ["01", "234"]);
      }),
  },
  {
    method: "writevFixed",
    op: IORING_OP_WRITEV_FIXED,
    run: (uring, dir) =>
      fixed(uring, dir, async (fd, buffer) => {
        buffer.bytes.set(bytes("abcdef"));
        const parts = [{ start: 4, length: 2 }, { start: 0, length: 1 }];
        assert.equal(await uring.writevFixed(fd, buffer, parts, { offset: 0 }), 3);
        assert.equal(contentOf(dir), "efa3456789");
      }),
  },
  {
    method: "close",
    op: IORING_OP_CLOSE,
    run: async (uring, dir) => {
      using file = fileWith(dir, "");
      await uring.close(file.fd);
      file.release();
      await rejected(uring.close(file.fd), "EBADF");
    },
  },
  {
    method: "fallocate",
    op: IORING_OP_FALLOCATE,
    run: async (uring, dir) => {
      using file = fileWith(dir, "content");
      await uring.fallocate(file.fd, FALLOC_FL_KEEP_SIZE, 0, 65536);
      await uring.fallocate(file.fd, 0, 0, 8192);
      assert.equal(statSync(dir.of("file")).size, 8192);
    },
  },
  {
    method: "ftruncate",
    op: IORING_OP_FTRUNCATE,
    run: async (uring, dir) => {
      using file = fileWith(dir, "content");
      await uring.ftruncate(file.fd, 3);
      assert.equal(contentOf(dir), "con");
    },
  },
  {
    method: "fsync",
    op: IORING_OP_FSYNC,
    run: (uring, dir) => nothingChanged(dir, (fd) => uring.fsync(fd)),
  },
  {
    method: "fdatasync",
    op: IORING_OP_FSYNC,
    run: (uring, dir) => nothingChanged(dir, (fd) => uring.fdatasync(fd)),
  },
  {
    method: "syncFileRange",
    op: IORING_OP_SYNC_FILE_RANGE,
    run: (uring, dir) => nothingChanged(dir, (fd) => uring.syncFileRange(fd, 0, 0, SYNC_FILE_RANGE_WRITE)),
  },
  {
    method: "fadvise",
    op: IORING_OP_FADVISE,
    run: (uring, dir) => nothingChanged(dir, (fd) => uring.fadvise(fd, 0, 0, POSIX_FADV_WILLNEED)),
  },
  {
    method: "madvise",
    op: IORING_OP_MADVISE,
    run: async (uring) => {
      const memory = new Uint8Array(new ArrayBuffer(8 * 4096));
      memory.fill(7);
      await uring.madvise(memory, MADV_WILLNEED);
      assert.ok(memory.every((byte) => byte === 7));
    },
  },
  {
    method: "registerFile",
    op: IORING_OP_FILES_UPDATE,
    run: async (uring, dir) => {
      using file = fileWith(dir, "content");
      const direct = await uring.registerFile(file.fd);
      const buffer = new Uint8Array(7);
      assert.equal(await uring.read(direct, buffer, { offset: 0 }), 7);
      assert.equal(text(buffer), "content");
      await uring.close(direct);
    },
  },
  {
    method: "fixedFdInstall",
    op: IORING_OP_FIXED_FD_INSTALL,
    run: async (uring, dir) => {
      using file = fileWith(dir, "content");
      const direct = await uring.registerFile(file.fd);
      try {
        using plain = await owned(uring.fixedFdInstall(direct));
        assert.equal(readFileSync(`/proc/self/fd/${plain.fd}`, "utf8"), "content");
      } finally {
        await uring.close(direct);
      }
    },
  },
  {
    method: "pipe",
    op: IORING_OP_PIPE,
    run: async (uring) => {
      const ends = await uring.pipe();
      using reader = new Fd(ends.reader);
      using writer = new Fd(ends.writer);
      assert.equal(await uring.write(writer.fd, bytes("through")), 7);
      const buffer = new Uint8Array(10);
      assert.equal(await uring.read(reader.fd, buffer), 7);
      assert.equal(text(buffer, 7), "through");
    },
  },
  {
    method: "splice",
    op: IORING_OP_SPLICE,
    run: async (uring, dir) => {
      using file = fileWith(dir, "0123456789");
      using pipe = new WaitingPipe();
      assert.equal(await uring.splice(file.fd, pipe.writer.fd, 4, { offsetIn: 2 }), 4);
      const buffer = new Uint8Array(10);
      assert.equal(await uring.read(pipe.reader.fd, buffer), 4);
      assert.equal(text(buffer, 4), "2345");
    },
  },
  {
    method: "tee",
    op: IORING_OP_TEE,
    run: async (uring) => {
      using from = new WaitingPipe();
      using to = new WaitingPipe();
      from.write("both");
      assert.equal(await uring.tee(from.reader.fd, to.writer.fd, 10), 4);
      for (const { reader } of [from, to]) {
        const buffer = new Uint8Array(10);
        assert.equal(await uring.read(reader.fd, buffer), 4);
        assert.equal(text(buffer, 4), "both");
      }
    },
  },
];
