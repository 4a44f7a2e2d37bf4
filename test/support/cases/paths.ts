/**
 * Operations on paths and attributes.
 *
 * @module
 */
import assert from "node:assert/strict";
import { existsSync, readFileSync, readlinkSync, statSync, writeFileSync } from "node:fs";
import {
  IORING_OP_FGETXATTR,
  IORING_OP_FSETXATTR,
  IORING_OP_GETXATTR,
  IORING_OP_LINKAT,
  IORING_OP_MKDIRAT,
  IORING_OP_OPENAT,
  IORING_OP_OPENAT2,
  IORING_OP_RENAMEAT,
  IORING_OP_SETXATTR,
  IORING_OP_STATX,
  IORING_OP_SYMLINKAT,
  IORING_OP_UNLINKAT,
  O_RDWR,
} from "../../../src/ffi/abi.ts";
import type { Uring } from "../../../src/mod.ts";
import { Fd, TempDir } from "../descriptors.ts";
import { text } from "../operations.ts";
import { missingXattrs } from "../xattrs.ts";
import { type OperationCase, owned, rejected } from "./case.ts";

function fileIn(dir: TempDir, content = "content"): string {
  writeFileSync(dir.of("file"), content);
  return dir.of("file");
}

async function readBack(uring: Uring, fd: Parameters<Uring["read"]>[0]): Promise<string> {
  const buffer = new Uint8Array(100);
  return text(buffer, await uring.read(fd, buffer, { offset: 0 }));
}

const skipXattrs = missingXattrs();

/** Names and attributes. */
export const PATH_CASES: readonly OperationCase[] = [
  {
    method: "openat",
    op: IORING_OP_OPENAT,
    run: async (uring, dir) => {
      using file = await owned(uring.openat(fileIn(dir)));
      assert.equal(await readBack(uring, file.fd), "content");
    },
  },
  {
    method: "openat",
    what: "into a direct descriptor",
    op: IORING_OP_OPENAT,
    kernel: "5.15",
    run: async (uring, dir) => {
      const file = await uring.openat(fileIn(dir), { direct: true });
      assert.equal(await readBack(uring, file), "content");
      await uring.close(file);
    },
  },
  {
    method: "openat2",
    op: IORING_OP_OPENAT2,
    run: async (uring, dir) => {
      using file = await owned(uring.openat2(fileIn(dir)));
      assert.equal(await readBack(uring, file.fd), "content");
    },
  },
  {
    method: "statx",
    op: IORING_OP_STATX,
    run: async (uring, dir) => {
      assert.equal((await uring.statx(fileIn(dir))).size, 7);
    },
  },
  {
    method: "unlinkat",
    op: IORING_OP_UNLINKAT,
    run: async (uring, dir) => {
      await uring.unlinkat(fileIn(dir));
      assert.equal(existsSync(dir.of("file")), false);
    },
  },
  {
    method: "renameat",
    op: IORING_OP_RENAMEAT,
    run: async (uring, dir) => {
      await uring.renameat(fileIn(dir), dir.of("other"));
      assert.equal(existsSync(dir.of("file")), false);
      assert.equal(readFileSync(dir.of("other"), "utf8"), "content");
    },
  },
  {
    method: "mkdirat",
    op: IORING_OP_MKDIRAT,
    run: async (uring, dir) => {
      await uring.mkdirat(dir.of("made"), { mode: 0o700 });
      assert.ok(statSync(dir.of("made")).isDirectory());
    },
  },
  {
    method: "linkat",
    op: IORING_OP_LINKAT,
    run: async (uring, dir) => {
      await uring.linkat(fileIn(dir), dir.of("same"));
      assert.equal(statSync(dir.of("same")).ino, statSync(dir.of("file")).ino);
    },
  },
  {
    method: "symlinkat",
    op: IORING_OP_SYMLINKAT,
    run: async (uring, dir) => {
      await uring.symlinkat("target", dir.of("link"));
      assert.equal(readlinkSync(dir.of("link")), "target");
    },
  },
  {
    method: "setxattr",
    op: IORING_OP_SETXATTR,
    skip: skipXattrs,
    run: async (uring, dir) => {
      await uring.setxattr(fileIn(dir), "user.test", "value");
      assert.equal(text(await uring.getxattr(dir.of("file"), "user.test")), "value");
    },
  },
  {
    method: "getxattr",
    op: IORING_OP_GETXATTR,
    skip: skipXattrs,
    run: async (uring, dir) => {
      const path = fileIn(dir);
      await rejected(uring.getxattr(path, "user.test"), "ENODATA");
      await uring.setxattr(path, "user.test", "value");
      assert.equal(text(await uring.getxattr(path, "user.test")), "value");
    },
  },
  {
    method: "fsetxattr",
    op: IORING_OP_FSETXATTR,
    skip: skipXattrs,
    run: async (uring, dir) => {
      using file = Fd.open(fileIn(dir), O_RDWR);
      await uring.fsetxattr(file.fd, "user.test", "value");
      assert.equal(text(await uring.fgetxattr(file.fd, "user.test")), "value");
    },
  },
  {
    method: "fgetxattr",
    op: IORING_OP_FGETXATTR,
    skip: skipXattrs,
    run: async (uring, dir) => {
      using file = Fd.open(fileIn(dir), O_RDWR);
      await rejected(uring.fgetxattr(file.fd, "user.test"), "ENODATA");
      await uring.fsetxattr(file.fd, "user.test", "value");
      assert.equal(text(await uring.fgetxattr(file.fd, "user.test")), "value");
    },
  },
];
