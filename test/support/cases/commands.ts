/**
 * Commands to drivers, and protection information: shown by what a plain file says to them, since the devices that have
 * more to say are rare.
 *
 * @module
 */
import {
  IORING_OP_READ,
  IORING_OP_URING_CMD,
  IORING_OP_WRITE,
  O_CREAT,
  O_RDWR,
} from "../../../src/ffi/abi.ts";
import type { TempDir } from "../descriptors.ts";
import { openFile } from "../loop.ts";
import { type OperationCase, rejected } from "./case.ts";

const INTEGRITY = { metadata: new Uint8Array(8) };

async function onFile(
  dir: TempDir,
  code: string,
  operate: (fd: number) => Promise<unknown>,
): Promise<void> {
  using file = openFile(dir.of("file"), O_RDWR | O_CREAT);
  await rejected(operate(file.fd), code);
}

/** The entries. */
export const COMMAND_CASES: readonly OperationCase[] = [
  {
    method: "uringCmd",
    op: IORING_OP_URING_CMD,
    run: (uring, dir) => onFile(dir, "ENOTSUP", (fd) => uring.uringCmd(fd, 1)),
  },
  {
    method: "discard",
    op: IORING_OP_URING_CMD,
    kernel: "6.12",
    run: (uring, dir) => onFile(dir, "ENOTSUP", (fd) => uring.discard(fd, 0, 4096)),
  },
  {
    method: "zoneResetAll",
    op: IORING_OP_URING_CMD,
    run: (uring, dir) => onFile(dir, "ENOTSUP", (fd) => uring.zoneResetAll(fd)),
  },
  {
    method: "readIntegrity",
    op: IORING_OP_READ,
    kernel: "6.14",
    run: (uring, dir) =>
      onFile(dir, "EINVAL", (fd) => uring.readIntegrity(fd, new Uint8Array(4096), INTEGRITY, { offset: 0 })),
  },
  {
    method: "writeIntegrity",
    op: IORING_OP_WRITE,
    kernel: "6.14",
    run: (uring, dir) =>
      onFile(dir, "EINVAL", (fd) => uring.writeIntegrity(fd, new Uint8Array(4096), INTEGRITY, { offset: 0 })),
  },
];
