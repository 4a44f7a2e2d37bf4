/**
 * A server that sends datagrams back to where they came from, through one of several APIs. Usage: udp.ts API
 * `bun-udp`, `deno-datagram`, `node-dgram`; through uring it is `examples/udp-echo.ts`.
 *
 * Prints `listening PORT` and runs until its standard input ends.
 */

import { createSocket } from "node:dgram";
import process from "node:process";

const HOSTNAME = "127.0.0.1";
const RECEIVE_BUFFER = 4 << 20;

/** A socket of `Bun.udpSocket`. */
interface BunUdpSocket {
  readonly port: number;
  send(data: Uint8Array, port: number, address: string): boolean;
}

/** A socket of `Deno.listenDatagram`. */
interface DenoDatagrams extends AsyncIterable<[Uint8Array, unknown]> {
  readonly addr: { readonly port: number };
  send(data: Uint8Array, address: unknown): Promise<number>;
}

/** The few members of the runtimes' globals that are measured. */
interface Globals {
  readonly Bun: {
    udpSocket(options: {
      hostname: string;
      port: number;
      socket: {
        data(socket: BunUdpSocket, data: Uint8Array, port: number, address: string): void;
        error(socket: BunUdpSocket, error: Error): void;
      };
    }): Promise<BunUdpSocket>;
  };
  readonly Deno: {
    listenDatagram(options: { hostname: string; port: number; transport: "udp" }): DenoDatagrams;
  };
}
const globals = globalThis as unknown as Globals;

async function bunUdp(): Promise<number> {
  const { port } = await globals.Bun.udpSocket({
    hostname: HOSTNAME,
    port: 0,
    socket: {
      data(socket, data, port, address) {
        try {
          socket.send(data, port, address);
        } catch {
          // The client has gone.
        }
      },
      error() {},
    },
  });
  return port;
}

function denoDatagram(): number {
  const socket = globals.Deno.listenDatagram({ hostname: HOSTNAME, port: 0, transport: "udp" });
  void (async () => {
    for await (const [data, address] of socket) socket.send(data, address).catch(() => {});
  })();
  return socket.addr.port;
}

function nodeDgram(): Promise<number> {
  const socket = createSocket({ type: "udp4", recvBufferSize: RECEIVE_BUFFER });
  socket.on("message", (data, { port, address }) => {
    // With a callback a client that has gone is no uncaught exception.
    socket.send(data, port, address, () => {});
  });
  socket.on("error", () => {});
  return new Promise((resolve) => socket.bind(0, HOSTNAME, () => resolve(socket.address().port)));
}

const APIS: Readonly<Record<string, () => number | Promise<number>>> = {
  "bun-udp": bunUdp,
  "deno-datagram": denoDatagram,
  "node-dgram": nodeDgram,
};

const listen = APIS[process.argv[2] ?? ""];
if (listen === undefined) throw new Error(`no such API: ${process.argv[2]}`);
console.log(`listening ${await listen()}`);
process.stdin.on("end", () => process.exit(0)).resume();
