import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { connect, createServer, type Socket } from "node:net";
import process from "node:process";
import { probe } from "uring";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { run, type Running, start } from "./programs.ts";

checkLeaks();

const found = probe();
const skip = firstReason(
  !found.available && found.message,
  found.available && !found.operations.has("IORING_OP_BIND") && "bind and listen need Linux 6.11",
);

async function listening(...args: readonly string[]): Promise<Running & { port: number }> {
  const server = start("echo.ts", ...args);
  const port = await new Promise<number>((resolve, reject) => {
    let said = "";
    server.child.stdout.on("data", (text) => {
      said += text;
      const match = /^listening on 127\.0\.0\.1:(\d+)\n/.exec(said);
      if (match !== null) resolve(Number(match[1]));
    });
    server.ended.then(({ status, err }) => reject(new Error(`it ended with ${status}: ${err}`)));
  });
  return { ...server, port };
}

/** Sends `data`, finishes, and returns all that comes back. */
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

async function stop(server: Running, signal: NodeJS.Signals): Promise<void> {
  // `child.kill` would have Deno tell the signal instead of the status.
  process.kill(server.child.pid!, signal);
  const { status, out, err } = await server.ended;
  assert.deepEqual([status, err], [0, ""]);
  assert.match(out.toString(), /\nstopped\n$/);
}

test("echo.ts sends back what many clients send", { skip }, async () => {
  const server = await listening("0");
  const sizes = [0, 1, 16_384, 16_385, 100_000, 3_000_000, ...Array.from({ length: 60 }, (_, i) => i * 997)];
  await Promise.all(sizes.map(async (size) => {
    const data = randomBytes(size);
    assert.ok((await exchange(server.port, data)).equals(data), `${size} bytes`);
  }));
  await stop(server, "SIGTERM");
});

test("echo.ts survives clients that reset their connection", { skip }, async () => {
  const server = await listening("0");
  await Promise.all(Array.from({ length: 30 }, () => reset(server.port)));
  const data = randomBytes(200_000);
  assert.ok((await exchange(server.port, data)).equals(data));
  await stop(server, "SIGINT");
});

test("echo.ts stops although clients are connected", { skip }, async () => {
  const server = await listening("0");
  const clients = await Promise.all(Array.from({ length: 5 }, () =>
    new Promise<Socket>((resolve) => {
      const socket = connect(server.port, "127.0.0.1", () => socket.write("x"));
      socket.on("error", () => {});
      socket.once("data", () => resolve(socket));
    })));
  await stop(server, "SIGINT");
  for (const client of clients) client.destroy();
});

test("echo.ts says so when the port is taken or none", { skip }, async () => {
  const other = createServer();
  const port = await new Promise<number>((resolve) => {
    other.listen(0, "127.0.0.1", () => resolve((other.address() as { port: number }).port));
  });
  const taken = await run("echo.ts", [String(port)]);
  await new Promise((resolve) => other.close(resolve));
  assert.equal(taken.status, 1);
  assert.match(taken.err, /^echo: EADDRINUSE: .*, bind/);
  for (const args of [[], ["x"], ["65536"], ["-1"], ["1", "2"]]) {
    assert.equal((await run("echo.ts", args)).status, 2);
  }
});
