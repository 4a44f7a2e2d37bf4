/** Files of more than 2 GiB: more than a read transfers, and more than Node's `readFile` takes. */
import assert from "node:assert/strict";
import { closeSync, ftruncateSync, openSync, readFileSync, writeSync } from "node:fs";
import process from "node:process";
import * as fs from "../../src/fs/mod.ts";
import { decode } from "../../src/fs/encoding.ts";
import { TempDir } from "../support/descriptors.ts";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";

checkLeaks({ sharedRings: 1 });

const SIZE = 2 ** 31 + 5000;
const END = "the end";
/** The most that one read or write transfers. */
const MOST = 0x7fff_f000;
/** The content, the file in the page cache, and room for the others on the machine. */
const NEEDED = 8 * 2 ** 30;

function available(): number {
  const kib = /^MemAvailable:\s+(\d+) kB$/m.exec(readFileSync("/proc/meminfo", "utf8"))?.[1];
  return Number(kib ?? 0) * 1024;
}

// Its two or three seconds are spent once; which ring reads makes no difference to the length.
const kind = process.env["URING_TEST_KIND"] ?? "the default";
const skip = firstReason(
  kind !== "the default" && "runs with the default kind of ring only",
  available() < NEEDED && "needs 8 GiB of memory",
);

test("files over 2 GiB: readFile, read, writes, streams; text is too long", { skip }, async () => {
  using dir = new TempDir();
  const path = dir.of("large");
  const fd = openSync(path, "w");
  ftruncateSync(fd, SIZE);
  writeSync(fd, Buffer.from(END), 0, END.length, SIZE - END.length);
  closeSync(fd);
  const content = await fs.readFile(path);
  const endOf = (bytes: Uint8Array): string => new TextDecoder().decode(bytes.subarray(-END.length));
  assert.deepEqual([content.length, content[0], endOf(content)], [SIZE, 0, END]);
  assert.throws(() => decode(content, "utf8"), { code: "ERR_STRING_TOO_LONG" });
  content.fill(1, MOST - 1);
  await using file = await fs.open(path);
  assert.equal((await file.read(content)).bytesRead, MOST);
  assert.deepEqual([content[MOST - 1], content[MOST]], [0, 1]);
  assert.equal((await file.read(content, MOST)).bytesRead, SIZE - MOST);
  assert.equal(endOf(content), END);
  assert.equal((await file.read(content, { position: SIZE - 3 })).bytesRead, 3);
  await using sink = await fs.open("/dev/null", "w");
  assert.equal((await sink.write(content)).bytesWritten, MOST);
  await sink.writeFile(content);
  let length = 0;
  for await (const chunk of file.createReadStream({ start: 2 ** 31 - 10, autoClose: false })) {
    length += (chunk as Uint8Array).length;
  }
  assert.equal(length, 5010);
});
