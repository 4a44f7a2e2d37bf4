/**
 * Waits with one operation pending, and does nothing else. Usage: idle.ts timer|socket|read|timeout|poll
 * `timer` is the runtime's own `setTimeout` and `socket` a connection of its own: what waiting costs without the library.
 * The others wait for standard input, on which nothing ever comes, or for a time-out.
 */

import { writeSync } from "node:fs";
import { type AddressInfo, connect, createServer } from "node:net";
import process from "node:process";
import type { Uring } from "../../src/mod.ts";

/** Longer than the harness ever looks on. */
const LONG_MS = 600_000;
const STDIN = 0;
const POLLIN = 1;

function begin(uring: Uring, what: string): Promise<unknown> {
  if (what === "read") return uring.read(STDIN, new Uint8Array(new ArrayBuffer(64)));
  if (what === "timeout") return uring.timeout(LONG_MS);
  if (what === "poll") return uring.poll(STDIN, POLLIN);
  throw new Error(`no such operation: ${what}`);
}

async function wait(what: string): Promise<void> {
  const { Uring } = await import("../../src/mod.ts");
  const uring = new Uring({ entries: 256 });
  // Two that complete first, one of them asleep, so that whatever is made at first use has been made.
  await uring.nop();
  await uring.timeout(5);
  const pending = begin(uring, what);
  writeSync(1, "waiting\n");
  await pending;
  throw new Error("it was not to complete");
}

function holdSocket(): void {
  const server = createServer(() => {});
  server.listen(0, "127.0.0.1", () => {
    connect((server.address() as AddressInfo).port, "127.0.0.1", () => writeSync(1, "waiting\n"));
  });
}

const what = process.argv[2] ?? "";
if (what === "timer") {
  setTimeout(() => {}, LONG_MS);
  writeSync(1, "waiting\n");
} else if (what === "socket") holdSocket();
else {
  await wait(what);
}
