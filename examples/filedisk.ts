/**
 * A disk in a file, as a loop device is, but served by this program.
 *
 *     truncate -s 1G disk.img
 *     bun examples/filedisk.ts disk.img
 *     deno run --allow-ffi examples/filedisk.ts disk.img
 *
 * Needs root and the kernel's module ublk_drv (Linux 6.5). From Linux 6.15 on the data is never copied into this program: the
 * file is read into the pages of whoever reads the disk, and written from the pages of whoever writes to it. `--data copy`
 * has it copied all the same.
 *
 * When the program dies, the device stays, and whoever uses it waits. Given the same file and the device's number, the next
 * one goes on, and nothing is lost:
 *
 *     bun examples/filedisk.ts disk.img --recover 0
 *
 * SIGINT and SIGTERM stop it, and the device is gone.
 */
import { Uring } from "uring";
import { type FileHandle, open } from "uring/fs";
import { FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, FALLOC_FL_ZERO_RANGE } from "uring/ring";
import { createDisk, type DiskHandlers, recoverDisk, ublkFeatures } from "uring/ublk";
import { type Arguments, main, type Serving } from "./common/server.ts";

const HOLE = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
const ZEROS = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
const BLOCK = 512;

function diskIn(file: FileHandle): DiskHandlers {
  const uring = Uring.shared;
  return {
    read: (request) => request.transfer(file),
    write: (request) => request.transfer(file),
    flush: () => file.datasync(),
    discard: ({ offset, length }) => uring.fallocate(file.fd, HOLE, offset, length),
    writeZeroes: ({ offset, length, mayUnmap }) =>
      uring.fallocate(file.fd, mayUnmap ? HOLE : ZEROS, offset, length),
  };
}

async function serve({ positionals: [path], options }: Arguments): Promise<Serving> {
  const { recover, data = "direct" } = options;
  if (recover !== undefined && !/^\d{1,7}$/.test(recover)) {
    throw new RangeError(`"${recover}" is no device number`);
  }
  if (data !== "direct" && data !== "copy") throw new RangeError(`"${data}" is neither direct nor copy`);
  const file = await open(path!, "r+");
  try {
    const disk = recover === undefined
      ? await createDisk({
        size: Math.floor((await file.stat()).size / BLOCK) * BLOCK,
        zeroCopy: data === "direct" && (await ublkFeatures()).zeroCopy,
        recovery: "reissue",
      }, diskIn(file))
      : await recoverDisk(Number(recover), diskIn(file));
    return {
      address: disk.path,
      ended: disk.closed,
      async stop() {
        await disk.stop();
        await file.close();
      },
    };
  } catch (error) {
    await file.close();
    throw error;
  }
}

await main({
  name: "filedisk",
  usage: "FILE [--recover DEVICE] [--data direct|copy]",
  positionals: 1,
  options: ["recover", "data"],
  told: "serving",
  serve,
});
