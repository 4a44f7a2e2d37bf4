/** Names in bytes as text and back. */
import assert from "node:assert/strict";
import { bytesOfText, shown, textOfBytes } from "../../src/fs/byte_names.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { Random } from "../support/random.ts";

checkLeaks();

function bytesOf(text: string): Uint8Array {
  const path = bytesOfText(text);
  return typeof path === "string" ? new TextEncoder().encode(path) : path;
}

test("names: text for any bytes, and the same bytes again", () => {
  for (const text of ["", "plain", "grüße 日本語 😀", "\ufeffmark", "\ufffd"]) {
    assert.equal(textOfBytes(new TextEncoder().encode(text)), text);
    assert.equal(bytesOfText(text), text);
    assert.equal(shown(text), text);
  }
  const random = new Random(1);
  const some = [0x61, 0xc3, 0xa4, 0xe2, 0x82, 0xac, 0xed, 0xa0, 0xf0, 0x9f, 0x98, 0x80, 0xff, 0x2f];
  for (let i = 0; i < 2000; i++) {
    const bytes = Uint8Array.from({ length: random.below(12) }, () => random.pick(some));
    const text = textOfBytes(bytes);
    assert.deepEqual([...bytesOf(text)], [...bytes]);
    assert.ok(!/[\ud800-\udfff]/u.test(shown(text)));
  }
});
