import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { connect, createServer, type Socket } from "node:net";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { beside, cannotServe, ended, exchange, serving } from "./servers.ts";

checkLeaks();

const skip = cannotServe();
const STYLES = ["handlers", "streams"] as const;

/** Connects, sends without reading what comes back, and resets the connection. */
function reset(port: number): Promise<void> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1", () => {
      socket.pause();
      socket.write(new Uint8Array(500_000));
      setTimeout(() => socket.resetAndDestroy(), 20);
    });
    socket.on("error", () => {});
    socket.once("close", () => resolve());
  });
}

for (const style of STYLES) {
  const args = ["0", "--style", style];

  test(`echo.ts, ${style}: sends back what many clients send`, { skip }, async () => {
    await beside("echo.ts", args, async ({ port }) => {
      const sizes = [
        0,
        1,
        16_384,
        16_385,
        100_000,
        3_000_000,
        ...Array.from({ length: 60 }, (_, i) => i * 997),
      ];
      await Promise.all(sizes.map(async (size) => {
        const data = randomBytes(size);
        assert.ok((await exchange(port, data)).equals(data), `${size} bytes`);
      }));
    });
  });

  test(`echo.ts, ${style}: survives clients that reset their connection`, { skip }, async () => {
    await beside("echo.ts", args, async ({ port }) => {
      await Promise.all(Array.from({ length: 30 }, () => reset(port)));
      const data = randomBytes(200_000);
      assert.ok((await exchange(port, data)).equals(data));
    });
  });

  test(`echo.ts, ${style}: stops although clients are connected`, { skip }, async () => {
    const server = await serving("echo.ts", args);
    const clients = await Promise.all(Array.from({ length: 5 }, () =>
      new Promise<Socket>((resolve) => {
        const socket = connect(server.port, "127.0.0.1", () => socket.write("x"));
        socket.on("error", () => {});
        socket.once("data", () => resolve(socket));
      })));
    await server.stop("SIGINT");
    for (const client of clients) client.destroy();
  });
}

test("echo.ts says so when the port is taken or none", { skip }, async () => {
  const other = createServer();
  const port = await new Promise<number>((resolve) => {
    other.listen(0, "127.0.0.1", () => resolve((other.address() as { port: number }).port));
  });
  const taken = await ended("echo.ts", [String(port)]);
  await new Promise((resolve) => other.close(resolve));
  assert.equal(taken.status, 1);
  assert.match(taken.err, new RegExp(`^echo: EADDRINUSE: .*127\\.0\\.0\\.1:${port}`));
  for (const args of [[], ["x"], ["65536"], ["-1"], ["1", "2"], ["1", "--style", "other"]]) {
    const { status, err } = await ended("echo.ts", args);
    assert.deepEqual([args, status], [args, 2]);
    assert.match(err, /\nusage: echo\.ts PORT/);
  }
});
