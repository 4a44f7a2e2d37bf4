import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { connect, createServer } from "node:net";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { beside, cannotServe, ended, listeners } from "./servers.ts";

checkLeaks();

const skip = cannotServe();
/** A Worker's program is read by Deno, not by the library. */
const PERMISSIONS = ["--allow-read"];

function exchange(port: number, data: Uint8Array): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const back: Buffer[] = [];
    const socket = connect(port, "127.0.0.1");
    socket.on("data", (bytes: Buffer) => back.push(bytes));
    socket.once("error", reject);
    socket.once("end", () => resolve(Buffer.concat(back)));
    socket.end(data);
  });
}

test("workers.ts listens in several threads at one port", { skip }, async () => {
  await beside("workers.ts", ["0", "--workers", "3"], async ({ port }) => {
    assert.equal(listeners(port), 3);
    await Promise.all(Array.from({ length: 60 }, async (_, i) => {
      const data = randomBytes(i * 5000);
      assert.ok((await exchange(port, data)).equals(data), `${data.length} bytes`);
    }));
    const second = await ended("workers.ts", [String(port), "--workers", "x"], PERMISSIONS);
    assert.equal(second.status, 2);
  }, PERMISSIONS);
});

test("workers.ts says so when the port is taken", { skip }, async () => {
  const other = createServer();
  const port = await new Promise<number>((resolve) => {
    other.listen(0, "127.0.0.1", () => resolve((other.address() as { port: number }).port));
  });
  const { status, err } = await ended("workers.ts", [String(port), "--workers", "2"], PERMISSIONS);
  await new Promise((resolve) => other.close(resolve));
  assert.equal(status, 1);
  assert.match(err, /^workers: EADDRINUSE: /);
});
