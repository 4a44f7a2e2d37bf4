/**
 * A disk in memory, which can be partitioned, formatted and mounted like any other.
 *
 *     bun examples/ramdisk.ts MEBIBYTES
 *     deno run --allow-ffi examples/ramdisk.ts MEBIBYTES
 *     mkfs.ext4 /dev/ublkb0 && mount /dev/ublkb0 /mnt
 *
 * Needs root and the kernel's module ublk_drv (Linux 6.5). Memory is taken a mebibyte at a time, when it is first written to,
 * and given back when all of it is discarded. The handlers return no promises: what is asked for is done by the time they
 * return. SIGINT and SIGTERM stop it, and the device is gone.
 */
import { createDisk, type DiskRequest } from "uring/ublk";
import { main, type Serving } from "./common/server.ts";

const MIB = 1 << 20;
const MOST_MIB = 1 << 20;

/** Mebibytes of the disk; what was never written to is not there. */
class Memory {
  readonly #pieces: (Uint8Array | undefined)[];

  constructor(mebibytes: number) {
    this.#pieces = new Array<undefined>(mebibytes).fill(undefined);
  }

  read({ data, offset, length }: DiskRequest): void {
    for (let done = 0; done < length;) {
      const at = (offset + done) % MIB;
      const part = Math.min(length - done, MIB - at);
      const piece = this.#pieces[(offset + done - at) / MIB];
      if (piece === undefined) data.fill(0, done, done + part);
      else data.set(piece.subarray(at, at + part), done);
      done += part;
    }
  }

  write({ data, offset, length }: DiskRequest): void {
    for (let done = 0; done < length;) {
      const at = (offset + done) % MIB;
      const part = Math.min(length - done, MIB - at);
      const piece = this.#pieces[(offset + done - at) / MIB] ??= new Uint8Array(MIB);
      piece.set(data.subarray(done, done + part), at);
      done += part;
    }
  }

  zero({ offset, length }: DiskRequest): void {
    for (let done = 0; done < length;) {
      const at = (offset + done) % MIB;
      const part = Math.min(length - done, MIB - at);
      const index = (offset + done - at) / MIB;
      if (part === MIB) this.#pieces[index] = undefined;
      else this.#pieces[index]?.fill(0, at, at + part);
      done += part;
    }
  }
}

async function serve(text: string | undefined): Promise<Serving> {
  const mebibytes = Number(text);
  if (!(Number.isInteger(mebibytes) && mebibytes > 0 && mebibytes <= MOST_MIB)) {
    throw new RangeError(`"${text}" is no number of mebibytes: 1 to ${MOST_MIB}`);
  }
  const memory = new Memory(mebibytes);
  const disk = await createDisk({ size: mebibytes * MIB }, {
    read: (request) => memory.read(request),
    write: (request) => memory.write(request),
    discard: (request) => memory.zero(request),
    writeZeroes: (request) => memory.zero(request),
  });
  return { address: disk.path, stop: () => disk.stop(), ended: disk.closed };
}

await main({
  name: "ramdisk",
  usage: "MEBIBYTES",
  positionals: 1,
  told: "serving",
  serve: ({ positionals: [mebibytes] }) => serve(mebibytes),
});
