/**
 * A server that sends back what it receives, through one of several APIs. Usage: echo.ts API
 * `bun-listen`, `deno-listen`, `node-net`; through uring it is `examples/echo.ts`.
 *
 * Prints `listening PORT` and runs until its standard input ends. Each API is used as its fastest users do, and each copes
 * with a client that does not read: nothing is lost, and nothing is read on while something waits to be sent.
 */

import { createServer } from "node:net";
import process from "node:process";

const HOSTNAME = "127.0.0.1";
const BUFFER = 64 * 1024;

/** A socket of `Bun.listen`. */
interface BunSocket {
  data: { rest: Uint8Array | null };
  write(data: Uint8Array): number;
  pause(): void;
  resume(): void;
  end(): void;
}

/** A connection of `Deno.listen`. */
interface DenoConn {
  read(buffer: Uint8Array): Promise<number | null>;
  write(bytes: Uint8Array): Promise<number>;
  setNoDelay(): void;
  close(): void;
}

/** The few members of the runtimes' globals that are measured. */
interface Globals {
  readonly Bun: {
    listen(options: {
      hostname: string;
      port: number;
      socket: {
        open(socket: BunSocket): void;
        data(socket: BunSocket, data: Uint8Array): void;
        drain(socket: BunSocket): void;
        error(socket: BunSocket, error: Error): void;
      };
    }): { readonly port: number };
  };
  readonly Deno: {
    listen(options: { hostname: string; port: number }): AsyncIterable<DenoConn> & {
      readonly addr: { readonly port: number };
    };
  };
}
const globals = globalThis as unknown as Globals;

function bunListen(): number {
  const give = (socket: BunSocket, data: Uint8Array): void => {
    const count = socket.write(data);
    const waits = count >= 0 && count < data.length;
    if (waits && socket.data.rest === null) socket.pause();
    else if (!waits && socket.data.rest !== null) socket.resume();
    socket.data.rest = waits ? data.slice(count) : null;
  };
  const { port } = globals.Bun.listen({
    hostname: HOSTNAME,
    port: 0,
    socket: {
      open: (socket) => void (socket.data = { rest: null }),
      data: give,
      drain(socket) {
        if (socket.data.rest !== null) give(socket, socket.data.rest);
      },
      error() {},
    },
  });
  return port;
}

async function denoEcho(conn: DenoConn): Promise<void> {
  conn.setNoDelay();
  const buffer = new Uint8Array(BUFFER);
  try {
    for (let count = await conn.read(buffer); count !== null; count = await conn.read(buffer)) {
      for (let sent = 0; sent < count;) sent += await conn.write(buffer.subarray(sent, count));
    }
  } catch {
    // The client has gone.
  }
  conn.close();
}

function denoListen(): number {
  const listener = globals.Deno.listen({ hostname: HOSTNAME, port: 0 });
  void (async () => {
    for await (const conn of listener) void denoEcho(conn);
  })();
  return listener.addr.port;
}

function nodeNet(): Promise<number> {
  const server = createServer({ noDelay: true }, (socket) => {
    socket.on("data", (data) => {
      if (!socket.write(data)) socket.pause();
    });
    socket.on("drain", () => socket.resume());
    socket.on("error", () => {});
  });
  return new Promise((resolve) => {
    server.listen({ host: HOSTNAME, port: 0, backlog: 4096 }, () => {
      resolve((server.address() as { port: number }).port);
    });
  });
}

const APIS: Readonly<Record<string, () => number | Promise<number>>> = {
  "bun-listen": bunListen,
  "deno-listen": denoListen,
  "node-net": nodeNet,
};

const listen = APIS[process.argv[2] ?? ""];
if (listen === undefined) throw new Error(`no such API: ${process.argv[2]}`);
console.log(`listening ${await listen()}`);
process.stdin.on("end", () => process.exit(0)).resume();
