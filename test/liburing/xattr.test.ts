/** Extended attributes: what liburing's program of this name checks. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { O_CREAT, O_RDWR, type Ring } from "../../src/ring/mod.ts";
import { Fd, TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { type Block, block, blockOf, forEachKind, makeRing, once, path, text } from "../support/rings.ts";

checkLeaks();

const EBADF = -9;
const ENOENT = -2;
const EFAULT = -14;
const E2BIG = -7;

const KEY1 = path("user.val1");
const KEY2 = path("user.val2");
const VALUE1 = blockOf("value1");
const VALUE2 = blockOf("value2-a-lot-longer");

/** The calls of liburing's, on one file by its name and by its descriptor. */
class Attributes {
  readonly #ring: Ring;

  constructor(ring: Ring) {
    this.#ring = ring;
  }
  set(file: number, name: number, { address }: { address: number }, length: number): number {
    return once(this.#ring, (sqe) => sqe.prepSetxattr(name, address, file, 0, length)).res;
  }
  get(file: number, name: number, { address }: { address: number }, length: number): number {
    return once(this.#ring, (sqe) => sqe.prepGetxattr(name, address, file, length)).res;
  }
  fset(fd: number, name: number, { address }: { address: number }, length: number): number {
    return once(this.#ring, (sqe) => sqe.prepFsetxattr(fd, name, address, 0, length)).res;
  }
  fget(fd: number, name: number, { address }: { address: number }, length: number): number {
    return once(this.#ring, (sqe) => sqe.prepFgetxattr(fd, name, address, length)).res;
  }
}

/** Why the file system of temporary files has no attributes, or `false`. */
function missingXattrs(): string | false {
  using dir = new TempDir();
  using file = Fd.open(dir.of("file"), O_CREAT | O_RDWR);
  using ring = makeRing(1);
  const res = new Attributes(ring).fset(file.fd, KEY1, VALUE1, 1);
  return res === 0 ? false : `no extended attributes here: ${res}`;
}

const noXattrs = missingXattrs();
const NULL = { address: 0 };

forEachKind(({ name, options, skip }) => {
  test(`liburing xattr: ${name}: of an open file`, { skip: skip || noXattrs }, () => {
    using dir = new TempDir();
    using ring = makeRing(8, options);
    const attributes = new Attributes(ring);
    using file = Fd.open(dir.of("file"), O_CREAT | O_RDWR);
    const { fd } = file;
    assert.equal(attributes.fset(fd, KEY1, VALUE1, VALUE1.bytes.length), 0);
    assert.equal(attributes.fset(fd, KEY2, VALUE2, VALUE2.bytes.length), 0);
    const value = block(255);
    for (const [key, expected] of [[KEY1, VALUE1], [KEY2, VALUE2]] as const) {
      assert.equal(attributes.fget(fd, key, value, 255), expected.bytes.length);
      assert.equal(text(value, expected.bytes.length), text(expected));
    }
    assert.equal(attributes.fset(-1, KEY1, VALUE1, 6), EBADF);
    assert.equal(attributes.fset(fd, 0, VALUE1, 6), EFAULT);
    assert.equal(attributes.fset(fd, KEY1, NULL, 6), EFAULT);
    assert.equal(attributes.fset(fd, KEY1, VALUE1, 0), 0);
    assert.equal(attributes.fset(fd, KEY1, VALUE1, -1), E2BIG);
    assert.equal(attributes.fget(-1, KEY1, value, 255), EBADF);
    assert.equal(attributes.fget(fd, 0, value, 255), EFAULT);
    assert.equal(attributes.fget(fd, KEY1, value, 0), 0, "its length, which is 0 by now");
  });

  test(`liburing xattr: ${name}: of a file by its name`, { skip: skip || noXattrs }, () => {
    using dir = new TempDir();
    using ring = makeRing(8, options);
    const attributes = new Attributes(ring);
    writeFileSync(dir.of("file"), "");
    const file = path(dir.of("file"));
    const garbage = path(dir.of("complete garbage"));
    assert.equal(attributes.set(file, KEY1, VALUE1, VALUE1.bytes.length), 0);
    assert.equal(attributes.set(file, KEY2, VALUE2, VALUE2.bytes.length), 0);
    const value: Block = block(255);
    for (const [key, expected] of [[KEY1, VALUE1], [KEY2, VALUE2]] as const) {
      assert.equal(attributes.get(file, key, value, 255), expected.bytes.length);
      assert.equal(text(value, expected.bytes.length), text(expected));
    }
    assert.equal(attributes.get(file, KEY2, value, 0), VALUE2.bytes.length, "its length");
    assert.equal(attributes.set(garbage, KEY1, VALUE1, 6), ENOENT);
    assert.equal(attributes.set(0, KEY1, VALUE1, 6), EFAULT);
    assert.equal(attributes.set(file, 0, VALUE1, 6), EFAULT);
    assert.equal(attributes.set(file, KEY1, NULL, 6), EFAULT);
    assert.equal(attributes.set(file, KEY1, VALUE1, 0), 0);
    assert.equal(attributes.get(garbage, KEY1, value, 255), ENOENT);
    assert.equal(attributes.get(0, KEY1, value, 255), EFAULT);
    assert.equal(attributes.get(file, 0, value, 255), EFAULT);
    assert.equal(attributes.get(file, KEY1, NULL, 255), 0, "nothing is written where nothing is");
    assert.equal(attributes.get(file, KEY1, value, 0), 0);
  });
});
