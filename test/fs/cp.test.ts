/** cp, and what copyFile keeps; Node's documented behaviour is the other side. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { pathToFileURL } from "node:url";
import * as fs from "../../src/fs/mod.ts";
import { content } from "../support/content.ts";
import { TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { digest, failure } from "../support/operations.ts";

checkLeaks({ sharedRings: 1 });

async function code(promise: Promise<unknown>): Promise<string> {
  return (await failure(promise) as Error & { code: string }).code;
}

function tree(dir: TempDir): void {
  mkdirSync(dir.of("from/d/e"), { recursive: true });
  writeFileSync(dir.of("from/a"), "a");
  writeFileSync(dir.of("from/d/b"), content(100_000));
  writeFileSync(dir.of("from/d/e/c"), "");
  chmodSync(dir.of("from/d/b"), 0o750);
  symlinkSync("a", dir.of("from/relative"));
  symlinkSync(dir.of("from/d"), dir.of("from/absolute"));
}

test("cp: a file, under its new name, with its permissions, over another", async () => {
  using dir = new TempDir();
  writeFileSync(dir.of("from"), content(5000));
  chmodSync(dir.of("from"), 0o4750);
  await fs.cp(dir.of("from"), dir.of("new/dir/to"));
  assert.equal(digest(readFileSync(dir.of("new/dir/to"))), digest(content(5000)));
  assert.equal(statSync(dir.of("new/dir/to")).mode & 0o7777, 0o4750);
  writeFileSync(dir.of("from"), "shorter");
  await fs.cp(pathToFileURL(dir.of("from")), dir.of("new/dir/to"));
  assert.equal(readFileSync(dir.of("new/dir/to"), "utf8"), "shorter");
  writeFileSync(dir.of("from"), "third");
  await fs.cp(dir.of("from"), dir.of("new/dir/to"), { force: false });
  assert.equal(readFileSync(dir.of("new/dir/to"), "utf8"), "shorter");
  assert.equal(
    await code(fs.cp(dir.of("from"), dir.of("new/dir/to"), { force: false, errorOnExist: true })),
    "ERR_FS_CP_EEXIST",
  );
});

test("cp: a tree, with links made absolute or kept, and onto itself again", async () => {
  using dir = new TempDir();
  tree(dir);
  await fs.cp(dir.of("from"), dir.of("to"), { recursive: true });
  assert.deepEqual(readdirSync(dir.of("to")).sort(), ["a", "absolute", "d", "relative"]);
  assert.equal(digest(readFileSync(dir.of("to/d/b"))), digest(content(100_000)));
  assert.equal(statSync(dir.of("to/d/b")).mode & 0o777, 0o750);
  assert.equal(readlinkSync(dir.of("to/relative")), dir.of("from/a"));
  await fs.cp(dir.of("from"), dir.of("to"), { recursive: true });
  await fs.cp(dir.of("from"), dir.of("kept"), { recursive: true, verbatimSymlinks: true });
  assert.equal(readlinkSync(dir.of("kept/relative")), "a");
  await fs.cp(dir.of("from"), dir.of("followed"), { recursive: true, dereference: true });
  assert.ok(lstatSync(dir.of("followed/relative")).isFile());
  assert.ok(lstatSync(dir.of("followed/absolute")).isDirectory());
  assert.ok(existsSync(dir.of("followed/absolute/e/c")));
});

test("cp: filter, timestamps, progress", async () => {
  using dir = new TempDir();
  tree(dir);
  utimesSync(dir.of("from/a"), 100, 200);
  const asked: string[] = [];
  const told: fs.CopyProgress[] = [];
  await fs.cp(dir.of("from"), dir.of("to"), {
    recursive: true,
    preserveTimestamps: true,
    filter: async (source, destination) => {
      await Promise.resolve();
      asked.push(source);
      assert.equal(destination, source.replace("/from", "/to"));
      return !source.endsWith("/d") && !source.endsWith("absolute");
    },
    onProgress: (progress) => told.push(progress),
  });
  assert.ok(asked.includes(dir.of("from/d")) && !asked.includes(dir.of("from/d/b")));
  assert.deepEqual(readdirSync(dir.of("to")).sort(), ["a", "relative"]);
  assert.equal(statSync(dir.of("to/a")).mtimeMs, 200_000);
  assert.deepEqual(told.at(-1), { path: dir.of("to/a"), files: 1, bytes: 1 });
});

test("cp: what cannot be", async () => {
  using dir = new TempDir();
  tree(dir);
  const recursive = { recursive: true };
  assert.equal(await code(fs.cp(dir.of("from"), dir.of("to"))), "ERR_FS_EISDIR");
  assert.equal(await code(fs.cp(dir.of("from"), dir.of("from/d/x"), recursive)), "ERR_FS_CP_EINVAL");
  assert.equal(await code(fs.cp(dir.of("from"), dir.of("from"), recursive)), "ERR_FS_CP_EINVAL");
  assert.equal(await code(fs.cp(dir.of("from"), dir.of("from/a"), recursive)), "ERR_FS_CP_DIR_TO_NON_DIR");
  assert.equal(await code(fs.cp(dir.of("from/a"), dir.of("from/d"))), "ERR_FS_CP_NON_DIR_TO_DIR");
  symlinkSync(dir.of("from/d"), dir.of("door"));
  assert.equal(await code(fs.cp(dir.of("from"), dir.of("door/x"), recursive)), "ERR_FS_CP_EINVAL");
  execFileSync("mkfifo", [dir.of("fifo")]);
  assert.equal(await code(fs.cp(dir.of("fifo"), dir.of("to"))), "ERR_FS_CP_FIFO_PIPE");
  const none = await failure(fs.cp(dir.of("none"), dir.of("to")));
  assert.equal(none.message, `ENOENT: no such file or directory, lstat '${dir.of("none")}'`);
  assert.equal(
    await code(fs.cp(dir.of("from"), dir.of("to"), { dereference: true, verbatimSymlinks: true })),
    "ERR_INCOMPATIBLE_OPTION_PAIR",
  );
  assert.equal(
    await code(fs.cp(dir.of("from"), dir.of("to"), { recursive: 1 as never })),
    "ERR_INVALID_ARG_TYPE",
  );
  assert.equal(await code(fs.cp(dir.of("from"), dir.of("to"), { mode: 8 })), "ERR_OUT_OF_RANGE");
});

test("copyFile: holes stay holes, wherever they are", async () => {
  using dir = new TempDir();
  const MIB = 1 << 20;
  for (
    const [name, pieces, size] of [
      ["end", [0], 8 * MIB],
      ["start", [6 * MIB], 6 * MIB + 1000],
      ["middle", [0, 3 * MIB + 4096, 7 * MIB], 9 * MIB],
      ["all", [], 5 * MIB],
    ] as const
  ) {
    const path = dir.of(name);
    writeFileSync(path, "");
    truncateSync(path, size);
    await using file = await fs.open(path, "r+");
    for (const at of pieces) {
      await file.write(content(600_000).subarray(0, Math.min(600_000, size - at)), { position: at });
    }
    await file.sync();
    let bytes = 0;
    await fs.copyFile(path, dir.of("copy"), { onProgress: (count) => bytes += count });
    assert.equal(digest(readFileSync(dir.of("copy"))), digest(readFileSync(path)), name);
    assert.equal(statSync(dir.of("copy")).size, size);
    assert.ok(bytes < 2 * MIB, `${name}: ${bytes} bytes were copied`);
    assert.ok(statSync(dir.of("copy")).blocks <= statSync(path).blocks + 64, name);
    await fs.rm(dir.of("copy"));
  }
});
