/**
 * Writes a file to disk with the raw ring: open, write, fsync and close, in one chain and one system call.
 *
 *     bun examples/raw-write.ts [path]
 *     deno run --allow-ffi examples/raw-write.ts [path]
 */
import process from "node:process";
import {
  addressOf,
  cString,
  IOSQE_FIXED_FILE,
  IOSQE_IO_LINK,
  O_CREAT,
  O_TRUNC,
  O_WRONLY,
  Ring,
  type Sqe,
  UringError,
} from "uring/ring";

const target = process.argv[2] ?? "raw-write.txt";
const text = new TextEncoder().encode("Written by io_uring, without a file descriptor.\n");

// The kernel gets addresses, and whoever hands one out must keep the object until the completion is there.
const held: Uint8Array[] = [];

function give(bytes: Uint8Array): number {
  held.push(bytes);
  return addressOf(bytes);
}

const SLOT = 0;
const STEPS = ["open", "write", "fsync", "close"] as const;

/** Queues the operations. They run in this order, and a step that fails cancels those after it. */
function queue(ring: Ring): void {
  const next = (userData: number): Sqe => {
    const sqe = ring.getSqe()!; // There is room: the ring is as large as the chain is long.
    sqe.userData = userData;
    return sqe;
  };
  const open = next(0);
  // Into the ring's own table: the number of an ordinary descriptor would be known too late for the chain.
  open.prepOpenDirect(give(cString(target)), O_WRONLY | O_CREAT | O_TRUNC, 0o644, SLOT);
  open.flags = IOSQE_IO_LINK;
  const write = next(1);
  write.prepWrite(SLOT, give(text), text.length, 0);
  write.flags = IOSQE_IO_LINK | IOSQE_FIXED_FILE;
  const fsync = next(2);
  fsync.prepFsync(SLOT, 0);
  fsync.flags = IOSQE_IO_LINK | IOSQE_FIXED_FILE;
  next(3).prepCloseDirect(SLOT);
}

function main(): void {
  using ring = new Ring(STEPS.length);
  ring.registerFilesSparse(1);
  queue(ring);
  const submitted = ring.submit();
  console.log(`submitted ${submitted} operations with one system call`);

  ring.waitCqeNr(submitted);
  held.length = 0;
  let failed: UringError | undefined;
  ring.forEachCqe((cqe) => {
    const step = STEPS[cqe.userData]!;
    console.log(`${step}: ${cqe.res < 0 ? new UringError(cqe.res, step).code : cqe.res}`);
    if (cqe.res < 0) failed ??= new UringError(cqe.res, step, { path: target });
  });
  if (failed !== undefined) throw failed;
  console.log(`wrote ${text.length} bytes to ${target}, and they are on the disk`);
}

try {
  main();
} catch (error) {
  console.error(error instanceof UringError ? error.message : error);
  process.exitCode = 1;
}
