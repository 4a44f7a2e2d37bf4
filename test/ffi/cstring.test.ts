/** C strings. */
import assert from "node:assert/strict";
import { cString } from "../../src/ffi/cstring.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";

checkLeaks();

test("text becomes UTF-8 and a NUL", () => {
  assert.deepEqual([...cString("")], [0]);
  assert.deepEqual([...cString("/tmp")], [47, 116, 109, 112, 0]);
  assert.deepEqual([...cString("é")], [0xc3, 0xa9, 0]);
  assert.deepEqual([...cString("漢")], [0xe6, 0xbc, 0xa2, 0]);
  assert.deepEqual([...cString("𝄞")], [0xf0, 0x9d, 0x84, 0x9e, 0]);
  assert.deepEqual([...cString("\ud800")], [0xef, 0xbf, 0xbd, 0], "half a pair, as TextEncoder does it");
});

test("bytes are taken as they are, and copied", () => {
  const bytes = Uint8Array.of(0xff, 0xfe, 1);
  const path = cString(bytes);
  assert.deepEqual([...path], [0xff, 0xfe, 1, 0]);
  bytes[0] = 2;
  assert.equal(path[0], 0xff);
  assert.deepEqual([...cString(new TextEncoder().encode("..x..").subarray(2, 3))], [120, 0]);
});

test("a NUL inside is refused", () => {
  const wrong = ["\0", "a\0", "\0b", "a\0b", Uint8Array.of(0), Uint8Array.of(1, 0, 2)];
  for (const path of wrong) {
    assert.throws(() => cString(path), /^TypeError: A path must not contain a NUL byte$/);
  }
});

test("other types are refused", () => {
  for (const path of [null, undefined, 5, {}, [47], new ArrayBuffer(2), new Uint16Array(2)]) {
    assert.throws(
      () => cString(path as unknown as string),
      /^TypeError: A path is a string or a Uint8Array$/,
    );
  }
});

test("the memory is the string's own", () => {
  const path = cString("/x");
  assert.equal(path.byteOffset, 0);
  assert.equal(path.buffer.byteLength, 3);
});
