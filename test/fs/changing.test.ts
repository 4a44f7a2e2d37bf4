/** Files and directories that change while they are worked on: a result or Node's error, and nothing left open. */
import assert from "node:assert/strict";
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import * as fs from "../../src/fs/mod.ts";
import { content } from "../support/content.ts";
import { TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { within } from "../support/loop.ts";
import { countDescriptors } from "../support/operations.ts";

checkLeaks({ sharedRings: 1 });

const SIZE = 2_000_000;
const DATA = content(SIZE);
const LESS = 150_000;

/** Some time between now and the end of what was started. */
async function turns(count: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    await (i % 2 === 0 ? null : new Promise((resolve) => setImmediate(resolve)));
  }
}

/** Fails unless it is the beginning of the data; from `cut` on there may be zeros: what the kernel was cutting off just then. */
function assertBeginning(bytes: Uint8Array, what: string, cut: number = SIZE): void {
  assert.ok(bytes.length <= SIZE, `${what}: ${bytes.length} bytes`);
  const sure = Math.min(bytes.length, cut);
  assert.equal(Buffer.compare(bytes.subarray(0, sure), DATA.subarray(0, sure)), 0, `${what}: other bytes`);
  for (let i = cut; i < bytes.length; i++) {
    if (bytes[i] !== 0 && bytes[i] !== DATA[i]) assert.fail(`${what}: byte ${i} is ${bytes[i]}`);
  }
}

test("a file that shrinks while it is read is read up to where it ends", async () => {
  using dir = new TempDir();
  const path = dir.of("file");
  const { signal } = new AbortController();
  const reads: Readonly<Record<string, () => Promise<Uint8Array>>> = {
    "readFile": () => fs.readFile(path),
    "readFile with a signal": () => fs.readFile(path, { signal }),
    "readFile into memory": () =>
      fs.readFile(path, { buffer: (size) => new Uint8Array(Math.max(size, SIZE)) }),
    "FileHandle.readFile": async () => {
      await using file = await fs.open(path);
      return await file.readFile();
    },
    "createReadStream": async () => {
      const chunks: Uint8Array[] = [];
      for await (const chunk of (await fs.open(path)).createReadStream()) chunks.push(chunk as Uint8Array);
      return Buffer.concat(chunks);
    },
    "readFiles": async () => {
      for await (const { data, error } of fs.readFiles([path])) {
        if (error !== undefined) throw error;
        return data;
      }
      throw new Error("no file");
    },
  };
  for (const [what, read] of Object.entries(reads)) {
    for (let moment = 0; moment < 8; moment++) {
      writeFileSync(path, DATA);
      const reading = read();
      await turns(moment);
      truncateSync(path, LESS);
      const bytes = await within(reading, what);
      assertBeginning(bytes, what, LESS);
      assert.ok(bytes.length >= LESS || bytes.length === 0, `${what}: ${bytes.length} bytes`);
    }
  }
  assert.equal(countDescriptors(/file$/), 0);
});

test("a file that grows while it is read is read up to an end that it had", async () => {
  using dir = new TempDir();
  const path = dir.of("file");
  for (let moment = 0; moment < 8; moment++) {
    writeFileSync(path, DATA.subarray(0, LESS));
    const reading = fs.readFile(path);
    await turns(moment);
    appendFileSync(path, DATA.subarray(LESS));
    const bytes = await within(reading, "readFile");
    assertBeginning(bytes, "readFile");
    assert.ok(bytes.length >= LESS);
  }
});

test("a file that shrinks or goes while it is copied", async () => {
  using dir = new TempDir();
  const [from, to] = [dir.of("from"), dir.of("to")];
  for (const copy of [() => fs.copyFile(from, to), () => fs.cp(from, to)]) {
    for (let moment = 0; moment < 10; moment++) {
      writeFileSync(from, DATA);
      rmSync(to, { force: true });
      const copying = copy().then(() => "copied", (error) => (error as { code: string }).code);
      await turns(moment);
      if (moment % 2 === 0) truncateSync(from, LESS);
      else rmSync(from);
      const ended = await within(copying, "copying");
      assert.match(ended, /^(copied|ENOENT)$/);
      if (ended === "copied") {
        assertBeginning(readFileSync(to), "the copy", LESS);
      }
    }
  }
  assert.equal(countDescriptors(/(from|to)$/), 0);
});

test("a file that grows while it is copied is copied with what came to it, every piece once and in its place", async () => {
  using dir = new TempDir();
  const [from, to] = [dir.of("from"), dir.of("to")];
  const more = content(700_001);
  writeFileSync(from, DATA);
  let pieces = 0;
  let copied = 0;
  await fs.copyFile(from, to, {
    onProgress: (bytes) => {
      if (pieces++ === 2) appendFileSync(from, more);
      copied += bytes;
    },
  });
  assert.ok(pieces > 4);
  assert.equal(copied, SIZE + more.length);
  assert.equal(Buffer.compare(readFileSync(to), Buffer.concat([DATA, more])), 0);
});

test("directories that change while they are walked", async () => {
  using dir = new TempDir();
  const fill = (): void => {
    for (let i = 0; i < 10; i++) {
      mkdirSync(dir.of(`tree/d${i}/e`), { recursive: true });
      writeFileSync(dir.of(`tree/d${i}/e/f`), "");
    }
  };
  const top = dir.of("tree");
  const drained = async (all: AsyncIterable<unknown>): Promise<void> => {
    for await (const _ of all);
  };
  const walks: Readonly<Record<string, () => Promise<unknown>>> = {
    "readdir": () => fs.readdir(top, { recursive: true, withFileTypes: true }),
    "opendir": async () => await drained(await fs.opendir(top, { recursive: true })),
    "glob": () => drained(fs.glob("**/*", { cwd: top })),
    "cp": () => fs.cp(top, dir.of("copy"), { recursive: true }),
    "rm": () => fs.rm(top, { recursive: true }),
    "readFiles": () => drained(fs.readFiles(fs.glob(`${top}/**/f`))),
  };
  for (const [what, walk] of Object.entries(walks)) {
    for (let moment = 0; moment < 6; moment++) {
      fill();
      const walking = walk().then(() => "done", (error) => (error as { code: string }).code);
      await turns(moment);
      for (let i = 0; i < 10; i += 2) rmSync(dir.of(`tree/d${i}`), { recursive: true, force: true });
      for (let i = 1; existsSync(top) && i < 10; i += 2) {
        if (existsSync(dir.of(`tree/d${i}`))) writeFileSync(dir.of(`tree/d${i}/made`), "");
      }
      const ended = await within(walking, what);
      // `rm` meets what was made after it had looked, as Node's does.
      const allowed = what === "glob" || what === "readFiles" ? /^done$/ : /^(done|ENOENT|ENOTEMPTY)$/;
      assert.match(ended, allowed, what);
      await fs.rm(dir.of("copy"), { recursive: true, force: true });
    }
    await fs.rm(top, { recursive: true, force: true });
  }
  assert.equal(countDescriptors(new RegExp(top)), 0);
});

test("what is no plain file: devices, and files of sysfs, which lie about their size", async () => {
  assert.equal((await fs.readFile("/dev/null")).length, 0);
  await fs.writeFile("/dev/null", "nothing");
  assert.equal((await fs.stat("/dev/null")).isCharacterDevice(), true);
  await using zero = await fs.open("/dev/zero");
  const buffer = new Uint8Array(1000).fill(1);
  assert.equal((await zero.read(buffer, { position: 5 })).bytesRead, 1000);
  assert.ok(buffer.every((byte) => byte === 0));
  const sys = "/sys/kernel/mm/transparent_hugepage/enabled";
  if (existsSync(sys)) {
    const said = readFileSync(sys, "utf8");
    assert.notEqual(statSync(sys).size, said.length);
    assert.equal(await fs.readFile(sys, "utf8"), said);
    for await (const { data } of fs.readFiles([sys], { encoding: "utf8" })) assert.equal(data, said);
  }
});
