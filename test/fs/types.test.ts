/** `uring/fs` can stand where `node:fs/promises` stands: the compiler says so. */
import assert from "node:assert/strict";
import type * as node from "node:fs/promises";
import * as fs from "../../src/fs/mod.ts";
import { test } from "../support/gate.ts";

/** This line is the test; whoever runs the type checker runs it. `exists` is an addition of Bun's. */
const promises: Omit<typeof node, "exists"> = fs;

const FUNCTIONS =
  "access appendFile chmod chown copyFile cp glob lchmod lchown link lstat lutimes mkdir mkdtemp mkdtempDisposable open " +
  "opendir readFile readdir readlink realpath rename rm rmdir stat statfs symlink truncate unlink utimes watch writeFile";
const METHODS =
  "appendFile chmod chown close createReadStream createWriteStream datasync pull read readFile readLines " +
  "readableWebStream readv stat sync truncate utimes write writeFile writer writev";

test("every function of node:fs/promises is there", () => {
  const missing = FUNCTIONS.split(" ").filter((name) => typeof promises[name as "open"] !== "function");
  assert.deepEqual(missing, []);
});

test("a FileHandle has every method of Node's", async () => {
  await using file = await fs.open("/dev/null");
  const missing = METHODS.split(" ").filter((name) => typeof file[name as "read"] !== "function");
  assert.deepEqual(missing, []);
});
