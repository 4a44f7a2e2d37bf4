/** What is said to the kernel, against its own header where there is one. */
import assert from "node:assert/strict";
import { loadAbi } from "../../scripts/gen-abi.ts";
import { readInit } from "../../src/fuse/handshake.ts";
import * as abi from "../../src/fuse/abi.ts";
import { evaluate, type Expression, missingCompiler } from "../support/cc.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";

checkLeaks();

const HEADERS = ["stddef.h", "sys/mount.h", "linux/fuse.h"];
const skip = missingCompiler(HEADERS);

test("constants are those of the headers", { skip }, () => {
  const expressions: Expression[] = [];
  const expected = new Map<string, bigint>();
  for (const [name, value] of Object.entries(abi)) {
    if (typeof value !== "number") continue;
    expected.set(name, BigInt(value));
    expressions.push({ name, c: name });
  }
  const actual = evaluate(HEADERS, expressions);
  for (const [name, value] of actual) assert.equal(expected.get(name), value, name);
  assert.ok(actual.size > 70, `only ${actual.size} were known to the compiler`);
});

test("structs are laid out as in the headers", { skip }, () => {
  const expressions: Expression[] = [];
  const expected = new Map<string, bigint>();
  const expect = (name: string, c: string, value: number): void => {
    expected.set(name, BigInt(value));
    expressions.push({ name, c });
  };
  for (const [name, { size, align, fields }] of Object.entries(loadAbi().fuse.structs)) {
    expect(`sizeof ${name}`, `sizeof(struct ${name})`, size);
    expect(`alignof ${name}`, `_Alignof(struct ${name})`, align);
    for (const [field, [offset, bytes]] of Object.entries(fields)) {
      expect(`${name}.${field}`, `offsetof(struct ${name}, ${field})`, offset);
      if (bytes > 0) expect(`sizeof ${name}.${field}`, `sizeof(((struct ${name} *)0)->${field})`, bytes);
    }
  }
  const actual = evaluate(HEADERS, expressions);
  for (const [name, value] of actual) assert.equal(expected.get(name), value, name);
  assert.ok(actual.size > 250, `only ${actual.size} were known to the compiler`);
});

test("the device says what is wrong with it", () => {
  assert.throws(() => readInit(-1), { code: "EBADF", path: "/dev/fuse" });
});
