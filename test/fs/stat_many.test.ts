/** Thousands of stats at once: what the kernel has in memory is asked directly, and everything else gets its turn. */
import assert from "node:assert/strict";
import * as nodeFs from "node:fs";
import { symlinkSync, writeFileSync } from "node:fs";
import * as fs from "../../src/fs/mod.ts";
import { content } from "../support/content.ts";
import { TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { failure } from "../support/operations.ts";

checkLeaks({ sharedRings: 1 });

test("stat: thousands at once, each with its own answer, whichever way it is asked", async () => {
  using dir = new TempDir();
  for (let i = 0; i < 50; i++) {
    writeFileSync(dir.of(`file ä${i}`), content(i));
    symlinkSync(`file ä${i}`, dir.of(`link${i}`));
  }
  const encoder = new TextEncoder();
  await Promise.all(Array.from({ length: 3000 }, async (_, n) => {
    const i = n % 50;
    if (n % 7 === 0) assert.equal((await failure(fs.stat(dir.of(`none${n}`)))).code, "ENOENT");
    else if (n % 7 === 1) assert.equal((await fs.lstat(dir.of(`link${i}`))).isSymbolicLink(), true);
    else if (n % 7 === 2) assert.equal((await fs.stat(dir.of(`link${i}`))).size, i);
    else if (n % 7 === 3) assert.equal((await fs.lstat(encoder.encode(dir.of(`file ä${i}`)))).size, i);
    else if (n % 7 === 4) {
      const about = await fs.stat(dir.of(`file ä${i}`), { bigint: true });
      assert.equal(about.ino, nodeFs.statSync(dir.of(`file ä${i}`), { bigint: true }).ino);
    } else assert.equal((await fs.lstat(dir.of(`file ä${i}`))).size, i);
  }));
});

test("stat: what has changed since is seen", async () => {
  using dir = new TempDir();
  for (let i = 0; i < 200; i++) {
    writeFileSync(dir.of("file"), content(i));
    assert.equal((await fs.stat(dir.of("file"))).size, i);
  }
  nodeFs.unlinkSync(dir.of("file"));
  assert.equal((await failure(fs.stat(dir.of("file")))).code, "ENOENT");
});

test("stat: of paths that are too long", async () => {
  for (const length of [1000, 1365, 4094, 4095, 4096, 10_000]) {
    const { code } = await failure(fs.stat("/none/".padEnd(length, "a/")));
    assert.equal(code, length < 4096 ? "ENOENT" : "ENAMETOOLONG", String(length));
  }
});

test("stat: others get their turn between those of one turn, and of a loop", async () => {
  let turns = 0;
  let counting = true;
  const count = (): void => {
    turns++;
    if (counting) setImmediate(count);
  };
  setImmediate(count);
  await Promise.all(Array.from({ length: 1000 }, () => fs.stat("/")));
  assert.ok(turns >= 10, `${turns} turns while 1000 were asked at once`);
  turns = 0;
  for (let i = 0; i < 1000; i++) await fs.stat("/");
  assert.ok(turns >= 10, `${turns} turns while 1000 were asked one after the other`);
  counting = false;
});
