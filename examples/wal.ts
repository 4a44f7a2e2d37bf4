/**
 * A write-ahead log: records that are on the disk when `append` says so, many writers sharing one sync, and recovery that
 * never reads a torn record.
 *
 * ```sh
 * bun examples/wal.ts LOG append     # appends each line of the standard input; prints its number once it is durable
 * bun examples/wal.ts LOG recover    # prints what is in the log, and cuts off what a crash has left behind
 * ```
 *
 * @module
 */
import process from "node:process";
import { type FileHandle, open } from "uring/fs";

// A record: the length of its payload, the CRC-32 of the length and the payload, the payload. With the length in it the
// checksum of nothing is not 0, so that zeros, which a crash may leave behind, are no records.
const LENGTH = 4;
const HEADER = 8;

/** A log that is open for appending. */
export class Wal implements AsyncDisposable {
  readonly #file: FileHandle;

  private constructor(file: FileHandle) {
    this.#file = file;
  }

  /** Opens a log, or makes one; a torn end is cut off first. */
  static async open(path: string): Promise<{ wal: Wal; records: Uint8Array[] }> {
    const file = await open(path, "a+");
    const records: Uint8Array[] = [];
    let end = 0;
    for await (const record of recordsOf(file)) {
      records.push(record);
      end += HEADER + record.length;
    }
    if (end < (await file.stat()).size) {
      await file.truncate(end);
      await file.sync();
    }
    return { wal: new Wal(file), records };
  }

  /** Appends a record; resolves when it is on the disk. */
  async append(payload: Uint8Array): Promise<void> {
    const record = new Uint8Array(HEADER + payload.length);
    const view = new DataView(record.buffer);
    view.setUint32(0, payload.length, true);
    record.set(payload, HEADER);
    view.setUint32(LENGTH, checksum(record), true);
    await this.#file.append(record, { durable: true });
  }

  /** Closes the log. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file.close();
  }
}

/** The records of a log up to the first that is not whole. */
async function* recordsOf(file: FileHandle): AsyncGenerator<Uint8Array> {
  const bytes = await file.readFile();
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let at = 0; at + HEADER <= bytes.length;) {
    const length = view.getUint32(at, true);
    const payload = bytes.subarray(at + HEADER, at + HEADER + length);
    if (payload.length < length) return;
    if (checksum(bytes.subarray(at, at + HEADER + length)) !== view.getUint32(at + LENGTH, true)) return;
    yield payload;
    at += HEADER + length;
  }
}

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? 0xedb8_8320 ^ (crc >>> 1) : crc >>> 1;
  return crc;
});

/** The CRC-32 of a record without the checksum in it. */
function checksum(record: Uint8Array): number {
  let crc = 0xffff_ffff;
  for (let i = 0; i < record.length; i++) {
    if (i < LENGTH || i >= HEADER) crc = TABLE[(crc ^ record[i]!) & 0xff]! ^ (crc >>> 8);
  }
  return ~crc >>> 0;
}

async function appendLines(wal: Wal): Promise<void> {
  const decoder = new TextDecoder();
  const encoder = new TextEncoder();
  const appends: Promise<void>[] = [];
  let text = "";
  let count = 0;
  const add = (line: string): void => {
    const number = count++;
    // Nobody waits for the line before: those that come together are synced together.
    appends.push(wal.append(encoder.encode(line)).then(() => void process.stdout.write(`${number}\n`)));
  };
  for await (const chunk of process.stdin) {
    const lines = (text + decoder.decode(chunk as Uint8Array, { stream: true })).split("\n");
    text = lines.pop()!;
    lines.forEach(add);
  }
  if (text !== "") add(text);
  await Promise.all(appends);
}

async function main(path: string | undefined, what: string | undefined): Promise<void> {
  if (path === undefined || (what !== "append" && what !== "recover")) {
    process.stderr.write("usage: wal.ts LOG append|recover\n");
    process.exit(2);
  }
  const { wal, records } = await Wal.open(path);
  await using _ = wal;
  if (what === "append") await appendLines(wal);
  else for (const record of records) process.stdout.write(`${new TextDecoder().decode(record)}\n`);
}

if (import.meta.main) await main(process.argv[2], process.argv[3]);
