/**
 * A TCP proxy: whatever a client sends goes to another server, and back.
 *
 *     bun examples/proxy.ts PORT HOST:PORT
 *     deno run --allow-ffi examples/proxy.ts PORT HOST:PORT
 *
 * Each direction ends for itself, so that a client may finish and still get the answer; a reset is passed on as one; and a
 * side that does not read holds back the other instead of filling the memory. It listens on 127.0.0.1 unless told otherwise;
 * port 0 picks a free one. SIGINT and SIGTERM stop it.
 */
import { connect, listen, type Socket, type SocketHandlers } from "uring/net";
import { Rest } from "./common/echoing.ts";
import { addressText, GRACE_MS, main, portOf, type Serving } from "./common/server.ts";

const BACKLOG = 4096;
const CONNECT_MS = 10_000;

/** One of two connections that belong together. */
class Side {
  /** What this side has not taken yet of what the other one has sent. */
  readonly rest = new Rest();
  /** The other connection; null until it is there. */
  peer: Socket<Side> | null = null;
}

const handlers: SocketHandlers<Side> = {
  data(from, view) {
    const to = from.data.peer;
    if (to === null) return;
    const { rest } = to.data;
    const taken = rest.empty ? to.write(view) : 0;
    if (taken < 0 || taken === view.length) return;
    rest.keep(view.subarray(taken));
    from.pause();
  },
  drain(to) {
    const { rest, peer: from } = to.data;
    rest.give(to);
    if (!rest.empty || from === null) return;
    if (from.ended) to.end();
    else from.resume();
  },
  end(from) {
    const to = from.data.peer;
    if (to?.data.rest.empty === true) to.end();
  },
  close(socket, error) {
    const { peer } = socket.data;
    if (peer === null || peer.closed) return;
    // When both have finished, the other one ends by itself, after what is still on its way.
    if (error !== undefined || !socket.ended || !peer.ended) peer.terminate();
  },
  // `close` is told of it, too.
  error() {},
};

/** Connects a client that has come to the server that it is for. */
async function join(client: Socket<Side>, hostname: string, port: number): Promise<void> {
  client.data = new Side();
  client.pause();
  try {
    const data = new Side();
    data.peer = client;
    const server = await connect<Side>({
      hostname,
      port,
      allowHalfOpen: true,
      timeout: CONNECT_MS,
      socket: handlers,
      data,
    });
    client.data.peer = server;
    // It may have gone meanwhile.
    if (client.closed) server.terminate();
    else client.resume();
  } catch (error) {
    console.error(`proxy: ${(error as Error).message}`);
    client.terminate();
  }
}

function serve(port: number, host: string, target: string): Serving {
  const [, name, bracketed, targetPort] = /^(?:([^:[\]]+)|\[(.+)\]):(\d+)$/.exec(target) ?? [];
  const hostname = name ?? bracketed;
  if (hostname === undefined) throw new RangeError(`"${target}" is no HOST:PORT`);
  const upstream = portOf(targetPort);
  const listener = listen<Side>({
    port,
    hostname: host,
    backlog: BACKLOG,
    allowHalfOpen: true,
    socket: { ...handlers, open: (client) => void join(client, hostname, upstream) },
  });
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
