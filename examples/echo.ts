/**
 * A TCP server that sends back what it receives, in one of two styles.
 *
 *     bun examples/echo.ts PORT
 *     deno run --allow-ffi examples/echo.ts PORT --style streams
 *
 * `handlers`: functions that are called when something happens, as with `Bun.listen`. Data is looked at where the kernel has
 * put it; a message makes no object. `streams`: a function for each connection, which reads and writes, as with
 * `Deno.listen`. Neither lets a client that does not read fill the memory. It listens on 127.0.0.1 unless told otherwise;
 * port 0 picks a free one. SIGINT and SIGTERM stop it.
 */
import { type Conn, listen, type Listener, type Socket } from "uring/net";
import { addressText, GRACE_MS, main, portOf, type Serving } from "./common/server.ts";

const BACKLOG = 4096;
const BUFFER = 64 * 1024;

/** What a connection has been given and has not taken yet. */
class Rest {
  #chunks: Uint8Array[] = [];

  get empty(): boolean {
    return this.#chunks.length === 0;
  }

  keep(chunk: Uint8Array): void {
    this.#chunks.push(chunk.slice());
  }

  /** Gives on as much as the connection takes. */
  give(socket: Socket<Rest>): void {
    for (let chunk = this.#chunks[0]; chunk !== undefined; chunk = this.#chunks[0]) {
      const taken = socket.write(chunk);
      if (taken >= 0 && taken < chunk.length) {
        this.#chunks[0] = chunk.subarray(taken);
        return;
      }
      this.#chunks.shift();
    }
  }
}

function withHandlers(address: { port: number; hostname: string }): Listener {
  return listen<Rest>({
    ...address,
    backlog: BACKLOG,
    allowHalfOpen: true,
    socket: {
      open(socket) {
        socket.data = new Rest();
      },
      data(socket, view) {
        const { data: rest } = socket;
        const taken = rest.empty ? socket.write(view) : 0;
        if (taken < 0 || taken === view.length) return;
        rest.keep(view.subarray(taken));
        socket.pause();
      },
      drain(socket) {
        socket.data.give(socket);
        if (!socket.data.empty) return;
        if (socket.ended) socket.end();
        else socket.resume();
      },
      end(socket) {
        if (socket.data.empty) socket.end();
      },
      // A client that has reset its connection: nobody is left to tell.
      error() {},
    },
  });
}

async function echo(conn: Conn): Promise<void> {
  await using _ = conn;
  const buffer = new Uint8Array(BUFFER);
  try {
    for (let count = await conn.read(buffer); count !== null; count = await conn.read(buffer)) {
      await conn.write(buffer.subarray(0, count));
    }
  } catch {
    // As above.
  }
}

function withStreams(address: { port: number; hostname: string }): Listener {
  const listener = listen({ ...address, backlog: BACKLOG });
  void (async () => {
    for await (const conn of listener) void echo(conn);
  })();
  return listener;
}

function serve(port: number, hostname: string, style: string): Serving {
  if (style !== "handlers" && style !== "streams") throw new RangeError(`no style "${style}"`);
  const listener = (style === "handlers" ? withHandlers : withStreams)({ port, hostname });
  return { address: addressText(listener.addr), stop: () => listener.drain(GRACE_MS) };
}

await main({
  name: "echo",
  usage: "PORT [--style handlers|streams] [--host ADDRESS]",
  positionals: 1,
  options: ["host", "style"],
  serve: ({ positionals: [port], options: { host = "127.0.0.1", style = "handlers" } }) =>
    serve(portOf(port), host, style),
});
