/**
 * A key-value server that speaks the protocol of Redis (RESP2), with GET, SET (EX, PX, NX, XX), DEL, EXISTS, INCR, DECR,
 * MGET, EXPIRE, TTL, PING, ECHO, INFO, CONFIG GET, DBSIZE and FLUSHALL. What is kept is in memory only.
 *
 *     bun examples/kv.ts PORT
 *     deno run --allow-ffi examples/kv.ts PORT
 *     redis-cli -p PORT set greeting hello
 *
 * Requests are read where the kernel has put them, and all replies to a packet leave in one send: with pipelining, many
 * requests cost one system call and no memory. It listens on 127.0.0.1 unless told otherwise; port 0 picks a free one.
 * SIGINT and SIGTERM stop it.
 */
import { listen, type Socket } from "uring/net";
import { addressText, GRACE_MS, main, portOf, type Serving } from "./common/server.ts";
import { Context, execute } from "./kv/commands.ts";
import { ProtocolError, Replies, Requests } from "./kv/resp.ts";

const SWEEP_MS = 100;
const SWEEP_BUCKETS = 4096;
/** So many bytes of replies are handed over before more requests are done. */
const SEND_FROM = 256 * 1024;

/** What is kept with a connection. */
interface Client {
  /** The beginning of a request, `length` bytes; `wanted` are needed to go on with it. */
  input: Uint8Array;
  length: number;
  wanted: number;
  /** Replies that the connection has not taken yet. */
  output: Uint8Array | null;
}

const NOTHING = new Uint8Array();
const requests = new Requests();
const replies = new Replies();
const context = new Context(requests, replies);

/** Appends to what a client has sent and was not read yet. */
function keep(client: Client, bytes: Uint8Array): void {
  const length = client.length + bytes.length;
  if (length > client.input.length) {
    // What a request wants is known once its length is; until then room grows by doubling.
    const grown = new Uint8Array(Math.max(length, Math.min(client.wanted, 2 * length)));
    grown.set(client.input.subarray(0, client.length));
    client.input = grown;
  }
  client.input.set(bytes, client.length);
  client.length = length;
}

/** Reads requests and does them, as long as the replies are taken; what is left over is kept. */
function read(socket: Socket<Client>, bytes: Uint8Array): void {
  const client = socket.data;
  requests.feed(bytes);
  context.now = Date.now();
  client.wanted = 1;
  try {
    while (client.output === null) {
      if (!requests.next()) {
        client.wanted = requests.wanted;
        break;
      }
      execute(context);
      if (replies.length >= SEND_FROM) send(socket);
    }
  } catch (error) {
    if (!(error instanceof ProtocolError)) throw error;
    replies.error(`ERR Protocol error: ${error.message}`);
    send(socket);
    socket.close();
    return;
  }
  send(socket);
  client.input = NOTHING;
  client.length = 0;
  if (requests.at < bytes.length) keep(client, bytes.subarray(requests.at));
}

/** Hands the replies over; those that do not fit wait, and with them the client's next requests. */
function send(socket: Socket<Client>): void {
  if (replies.length === 0) return;
  const taken = socket.write(replies.bytes, 0, replies.length);
  if (taken >= 0 && taken < replies.length) {
    socket.data.output = replies.bytes.slice(taken, replies.length);
    socket.pause();
  }
  replies.trim();
}

/** Goes on with what was kept. */
function goOn(socket: Socket<Client>): void {
  const client = socket.data;
  if (client.output === null && client.length >= client.wanted) {
    read(socket, client.input.subarray(0, client.length));
  }
}

const handlers = {
  open(socket: Socket<Client>): void {
    context.connections++;
    socket.data = { input: NOTHING, length: 0, wanted: 1, output: null };
  },
  data(socket: Socket<Client>, view: Uint8Array): void {
    const client = socket.data;
    if (client.length === 0 && client.output === null) return read(socket, view);
    keep(client, view);
    goOn(socket);
  },
  drain(socket: Socket<Client>): void {
    const client = socket.data;
    if (client.output === null) return;
    const taken = socket.write(client.output);
    if (taken < client.output.length) {
      client.output = client.output.subarray(Math.max(0, taken));
      return;
    }
    client.output = null;
    goOn(socket);
    if (client.output !== null) return;
    if (socket.ended) socket.end();
    else socket.resume();
  },
  end(socket: Socket<Client>): void {
    if (socket.data.output === null) socket.end();
  },
  error(_socket: Socket<Client>, _error: Error): void {
    // A client that has reset its connection: nobody is left to tell.
  },
  close(): void {
    context.connections--;
  },
};

function serve(port: number, hostname: string): Serving {
  const listener = listen<Client>({ port, hostname, allowHalfOpen: true, socket: handlers });
  const sweeper = setInterval(() => context.store.sweep(Date.now(), SWEEP_BUCKETS), SWEEP_MS);
  return {
    address: addressText(listener.addr),
    async stop() {
      clearInterval(sweeper);
      await listener.drain(GRACE_MS);
    },
  };
}

await main({
  name: "kv",
  usage: "PORT [--host ADDRESS]",
  positionals: 1,
  options: ["host"],
  serve: ({ positionals: [port], options }) => serve(portOf(port), options["host"] ?? "127.0.0.1"),
});
