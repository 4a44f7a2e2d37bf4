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
import { type Conn, listen, type Listener } from "uring/net";
import { echoing } from "./common/echoing.ts";
import { addressText, GRACE_MS, main, portOf, type Serving } from "./common/server.ts";

const BUFFER = 64 * 1024;

async function echo(conn: Conn): Promise<void> {
  await using _ = conn;
  const buffer = new Uint8Array(BUFFER);
  try {
    for (let count = await conn.read(buffer); count !== null; count = await conn.read(buffer)) {
      await conn.write(buffer.subarray(0, count));
    }
  } catch {
    // A client that has reset its connection: nobody is left to tell.
  }
}

function withStreams(address: { port: number; hostname: string }): Listener {
  const listener = listen({ ...address, backlog: echoing.backlog });
  void (async () => {
    for await (const conn of listener) void echo(conn);
  })();
  return listener;
}

function serve(port: number, hostname: string, style: string): Serving {
  if (style !== "handlers" && style !== "streams") throw new RangeError(`no style "${style}"`);
  const address = { port, hostname };
  const listener = style === "handlers" ? listen({ ...echoing, ...address }) : withStreams(address);
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
