/** The table of error numbers against the one that the runtime has from libuv. */
import assert from "node:assert/strict";
import { constants } from "node:os";
import { getSystemErrorMap } from "node:util";
import { ERRNO_NUMBER, ERRNO_TABLE } from "../../src/ffi/errno_table.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";

checkLeaks();

/** libuv numbers what the kernel lacks from here on: `getaddrinfo`'s errors, the end of a file. */
const LIBUV_OWN = 3000;
/** Numbers that Linux leaves out: they once were aliases. */
const HOLES = [41, 58];

const libuv = [...getSystemErrorMap()].filter(([number]) => -number < LIBUV_OWN);

test("codes and messages are libuv's", () => {
  assert.ok(libuv.length > 50, `${libuv.length} errors`);
  for (const [number, [code, message]] of libuv) assert.deepEqual(ERRNO_TABLE[-number], [code, message]);
});

test("every number of Linux has a code and a message", () => {
  for (let number = 1; number <= 133; number++) {
    if (HOLES.includes(number)) continue;
    const [code, message] = ERRNO_TABLE[number]!;
    assert.match(code, /^E[A-Z0-9]+$/);
    assert.ok(message.length > 3);
    assert.equal(ERRNO_NUMBER[code], number);
  }
  assert.equal(Object.keys(ERRNO_TABLE).length, 133 - HOLES.length);
});

test("numbers by code are the C library's", () => {
  const names = Object.entries(constants.errno);
  assert.ok(names.length > 70);
  for (const [code, number] of names) assert.equal(ERRNO_NUMBER[code], number, code);
  assert.equal(ERRNO_NUMBER["EWOULDBLOCK"], ERRNO_NUMBER["EAGAIN"]);
  assert.equal(ERRNO_NUMBER["EOPNOTSUPP"], ERRNO_NUMBER["ENOTSUP"]);
});
