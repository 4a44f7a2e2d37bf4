/**
 * A TCP proxy: whatever a client sends goes to another server, and back, through pipes of the kernel's and never through the
 * program.
 *
 *     bun examples/proxy.ts PORT HOST:PORT
 *     deno run --allow-ffi examples/proxy.ts PORT HOST:PORT
 *
 * Each direction ends for itself, so that a client may finish and still get the answer; a reset is passed on as one; and a
 * side that does not read holds back the other. It listens on 127.0.0.1 unless told otherwise; port 0 picks a free one.
 * SIGINT and SIGTERM stop it.
 */
import { type Conn, connect, listen, pipe } from "uring/net";
import { addressText, GRACE_MS, main, portOf, type Serving } from "./common/server.ts";

const BACKLOG = 4096;
const CONNECT_MS = 10_000;

/** Where the server is that clients are for. */
interface Target {
  readonly hostname: string;
  readonly port: number;
}

/** Joins a client with the server until both have finished. */
async function join(client: Conn, target: Target): Promise<void> {
  await using from = client;
  let server: Conn;
  try {
    server = await connect({ ...target, timeout: CONNECT_MS });
  } catch (error) {
    console.error(`proxy: ${(error as Error).message}`);
    await from.terminate();
    return;
  }
  await using to = server;
  try {
    await Promise.all([pipe(from, to), pipe(to, from)]);
  } catch {
    // One has broken, or the server of the proxy stops: so shall the other.
    await Promise.all([from.terminate(), to.terminate()]);
  }
}

function serve(port: number, host: string, text: string): Serving {
  const [, name, bracketed, targetPort] = /^(?:([^:[\]]+)|\[(.+)\]):(\d+)$/.exec(text) ?? [];
  const hostname = name ?? bracketed;
  if (hostname === undefined) throw new RangeError(`"${text}" is no HOST:PORT`);
  const target = { hostname, port: portOf(targetPort) };
  const listener = listen({ port, hostname: host, backlog: BACKLOG });
  void (async () => {
    for await (const client of listener) void join(client, target);
  })();
  return { address: addressText(listener.addr), stop: () => listener.drain(GRACE_MS) };
}

await main({
  name: "proxy",
  usage: "PORT HOST:PORT [--host ADDRESS]",
  positionals: 2,
  options: ["host"],
  serve: ({ positionals: [port, target = ""], options: { host = "127.0.0.1" } }) =>
    serve(portOf(port), host, target),
});
