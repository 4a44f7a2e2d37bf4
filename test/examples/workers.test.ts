import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { createServer } from "node:net";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { beside, cannotServe, ended, exchange, listeners } from "./servers.ts";

checkLeaks();

const skip = cannotServe();
/** A Worker's program is read by Deno, not by the library. */
const PERMISSIONS = ["--allow-read"];

for (const [spread, count] of [["hashed", 3], ["local", 3], ["dealt", 1]] as const) {
  test(`workers.ts, ${spread}: sends back what many clients send`, { skip }, async () => {
    await beside("workers.ts", ["0", "--workers", "3", "--spread", spread], async ({ port }) => {
      assert.equal(listeners(port), count);
      await Promise.all(Array.from({ length: 60 }, async (_, i) => {
        const data = randomBytes(i * 5000);
        assert.ok((await exchange(port, data)).equals(data), `${data.length} bytes`);
      }));
    }, PERMISSIONS);
  });
}

test("workers.ts wants a port, a number of Workers, a way", { skip }, async () => {
  for (const args of [[], ["0", "--workers", "x"], ["0", "--workers", "0"], ["0", "--spread", "x"]]) {
    assert.equal((await ended("workers.ts", args, PERMISSIONS)).status, 2, args.join(" "));
  }
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
