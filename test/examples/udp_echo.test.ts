import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { createSocket } from "node:dgram";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { beside, cannotServe, client, ended, lacks, serving } from "./servers.ts";

checkLeaks();

const skip = cannotServe();
const noSocat = firstReason(skip, lacks("socat"));

/** Sends datagrams through `node:dgram`, and again what does not come back; nothing may come back changed. */
async function exchange(port: number, datagrams: readonly Buffer[]): Promise<void> {
  const socket = createSocket("udp4");
  const missing = new Set(datagrams.map((datagram) => datagram.toString("hex")));
  const done = Promise.withResolvers<void>();
  socket.on("message", (message, { port: from }) => {
    const hex = message.toString("hex");
    if (from !== port || !datagrams.some((one) => one.equals(message))) {
      done.reject(new Error(`${message.length} bytes of something else came from ${from}`));
    }
    missing.delete(hex);
    if (missing.size === 0) done.resolve();
  });
  const send = (): void => {
    for (const one of datagrams) if (missing.has(one.toString("hex"))) socket.send(one, port, "127.0.0.1");
  };
  send();
  const again = setInterval(send, 500);
  const limit = setTimeout(() => done.reject(new Error(`${missing.size} did not come back`)), 20_000);
  try {
    await done.promise;
  } finally {
    clearInterval(again);
    clearTimeout(limit);
    socket.close();
  }
}

for (const style of ["handlers", "streams"]) {
  test(`udp-echo.ts sends datagrams back: ${style}`, { skip }, async () => {
    await beside("udp-echo.ts", ["0", "--style", style], async ({ port, address }) => {
      assert.equal(address, `127.0.0.1:${port}`);
      const sizes = [1, 2, 100, 1472, 9000, 60_000, ...Array.from({ length: 40 }, (_, i) => 16 + i * 37)];
      // Several clients at once.
      await Promise.all([1, 2, 3].map(() => exchange(port, sizes.map((size) => randomBytes(size)))));
    });
  });
}

test("udp-echo.ts serves socat", { skip: noSocat }, async () => {
  await beside("udp-echo.ts", ["0"], async ({ port }) => {
    const line = `hello ${randomBytes(300).toString("hex")}\n`;
    const { status, out, err } = await client("socat", ["-t", "2", "-", `UDP4:127.0.0.1:${port}`], line);
    assert.deepEqual([status, err], [0, ""]);
    assert.equal(out.toString(), line);
  });
});

test("udp-echo.ts stops on SIGINT, and says what is wrong", { skip }, async () => {
  const server = await serving("udp-echo.ts", ["0"]);
  const taken = await ended("udp-echo.ts", [String(server.port)]);
  assert.equal(taken.status, 1);
  assert.match(taken.err, /^udp-echo: EADDRINUSE: .*, bind \(127\.0\.0\.1:\d+\)\n$/);
  await exchange(server.port, [randomBytes(100)]);
  await server.stop("SIGINT");
  for (const args of [[], ["x"], ["65536"], ["0", "1"], ["0", "--style", "none"]]) {
    assert.equal((await ended("udp-echo.ts", args)).status, 2, args.join(" "));
  }
  const elsewhere = await ended("udp-echo.ts", ["0", "--host", "192.0.2.1"]);
  assert.equal(elsewhere.status, 1);
  assert.match(elsewhere.err, /^udp-echo: EADDRNOTAVAIL: /);
});
