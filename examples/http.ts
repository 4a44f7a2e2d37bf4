/**
 * A server for the files of a directory: HTTP/1.1 with keep-alive, pipelining, ranges, conditional requests and HEAD.
 *
 *     bun examples/http.ts PORT DIRECTORY
 *     deno run --allow-ffi examples/http.ts PORT DIRECTORY
 *     curl -i http://127.0.0.1:PORT/
 *
 * Small files are in memory as whole responses and are looked at again after half a second; others go from the page cache
 * into the socket and never into the program. That nothing outside of the directory is opened is the kernel's business
 * (`RESOLVE_BENEATH`). It listens on 127.0.0.1 unless told otherwise; port 0 picks a free one. SIGINT and SIGTERM stop it.
 */
import { Uring, UringError } from "uring";
import { listen, type Socket } from "uring/net";
import { addressText, GRACE_MS, main, portOf, type Serving } from "./common/server.ts";
import { Cached, Files } from "./http/files.ts";
import { RequestError, Requests } from "./http/request.ts";
import { type Conditions, fileHead, type Meta, plain, select, type Selection } from "./http/response.ts";

/** How much a client may send ahead while a response is on its way. */
const MAX_AHEAD = 64 * 1024;
/** Seconds after which a client that says nothing is gone. */
const IDLE_SECONDS = 60;
const LINGER_SECONDS = 2;
/** What a client leaves that has gone. */
const GONE = ["EPIPE", "ECONNRESET", "ECANCELED"];

/** What is kept with a connection. */
interface Client {
  /** What came and was not read yet. */
  input: Uint8Array;
  /** A response is on its way, and the next request has to wait. */
  busy: boolean;
  /** The head of that response is written. */
  begun: boolean;
  /** Nothing more comes. */
  ended: boolean;
  /** The last response is written; what still comes is of no interest. */
  finished: boolean;
  /** Continues a response that waits for room. */
  drained: (() => void) | null;
}

/** A request that cannot be answered at once, in memory of its own. */
interface Waiting extends Conditions {
  readonly target: string;
  readonly hash: number;
  readonly method: Requests["method"];
  readonly keepAlive: boolean;
}

const NOTHING = new Uint8Array();
const encoder = new TextEncoder();
const requests = new Requests();

function joined(first: Uint8Array, second: Uint8Array): Uint8Array {
  if (first.length === 0) return second.slice();
  const whole = new Uint8Array(first.length + second.length);
  whole.set(first);
  whole.set(second, first.length);
  return whole;
}

/** Writes all of something, waiting for room where there is none; false if the connection is gone. */
async function write(socket: Socket<Client>, bytes: Uint8Array): Promise<boolean> {
  for (let at = 0;;) {
    const taken = socket.write(bytes, at);
    if (taken < 0) return false;
    at += taken;
    if (at === bytes.length) return true;
    await new Promise<void>((resolve) => socket.data.drained = resolve);
  }
}

/**
 * Ends a connection after what was written. Closing it at once would reset it, and take the response from a client that
 * is still sending; so it is closed when the client has ended, too, or says nothing any more.
 */
function finish(socket: Socket<Client>): void {
  socket.data.finished = true;
  socket.end();
  socket.resume();
  socket.timeout(LINGER_SECONDS);
}

/** The files of one directory, served. */
class Site {
  readonly #files: Files;

  constructor(files: Files) {
    this.#files = files;
  }

  readonly handlers = {
    open: (socket: Socket<Client>): void => {
      socket.data = {
        input: NOTHING,
        busy: false,
        begun: false,
        ended: false,
        finished: false,
        drained: null,
      };
      socket.timeout(IDLE_SECONDS);
    },
    data: (socket: Socket<Client>, view: Uint8Array): void => {
      const client = socket.data;
      if (client.finished) return;
      if (client.input.length === 0 && !client.busy) return this.#read(socket, view);
      client.input = joined(client.input, view);
      if (!client.busy) this.#read(socket, client.input);
      else if (client.input.length > MAX_AHEAD) socket.pause();
    },
    drain: (socket: Socket<Client>): void => {
      const { drained } = socket.data;
      socket.data.drained = null;
      drained?.();
    },
    end: (socket: Socket<Client>): void => {
      socket.data.ended = true;
      if (!socket.data.busy) socket.end();
    },
    close: (socket: Socket<Client>): void => socket.data.drained?.(),
    // A client that has reset its connection: nobody is left to tell.
    error: (): void => {},
  };

  /** Answers requests: at once as long as their files are in memory and the connection takes the responses. */
  #read(socket: Socket<Client>, bytes: Uint8Array): void {
    const client = socket.data;
    const now = Date.now();
    client.input = NOTHING;
    requests.feed(bytes);
    try {
      while (requests.next()) {
        if (!this.#answer(socket, now)) {
          client.busy = true;
          client.input = bytes.slice(requests.at);
          return;
        }
        if (!requests.keepAlive) return finish(socket);
      }
      if (requests.at < bytes.length) client.input = bytes.slice(requests.at);
    } catch (error) {
      if (!(error instanceof RequestError)) throw error;
      socket.write(plain(error.status, now, { Connection: "close" }));
      finish(socket);
    }
  }

  /** Answers a request at once; false if it will take a while. */
  #answer(socket: Socket<Client>, now: number): boolean {
    const { method, keepAlive, special } = requests;
    const cached = special || !keepAlive || method === "other" ? null : this.#files.fresh(requests, now);
    if (cached !== null) {
      cached.touch(now);
      const response = method === "HEAD" ? cached.head : cached.whole;
      if (socket.writableLength >= response.length) {
        socket.write(response);
        return true;
      }
    }
    this.#later(socket, {
      target: requests.target,
      hash: requests.targetHash,
      method,
      keepAlive,
      // A range is for GET alone.
      range: method === "GET" ? requests.text(requests.range) : null,
      ifRange: requests.text(requests.ifRange),
      ifNoneMatch: requests.text(requests.ifNoneMatch),
      ifModifiedSince: requests.text(requests.ifModifiedSince),
    });
    return false;
  }

  /** Answers a request, and goes on with those that came meanwhile. */
  async #later(socket: Socket<Client>, request: Waiting): Promise<void> {
    let goOn = false;
    socket.data.begun = false;
    try {
      goOn = await this.#respond(socket, request);
    } catch (error) {
      console.error(`http: ${request.target}: ${(error as Error).message}`);
      if (socket.data.begun) socket.terminate();
      else socket.write(plain(500, Date.now(), { Connection: "close" }));
    }
    const client = socket.data;
    client.busy = false;
    if (!goOn || !request.keepAlive) return finish(socket);
    this.#read(socket, client.input);
    if (client.busy) return;
    if (client.ended) socket.end();
    else socket.resume();
  }

  /** False if the connection cannot be gone on with. */
  async #respond(socket: Socket<Client>, request: Waiting): Promise<boolean> {
    if (request.method === "other") return await this.#refuse(socket, request, 405, { Allow: "GET, HEAD" });
    const found = await this.#files.find(request.target, request.hash);
    if (typeof found === "number" || typeof found === "string") {
      const [status, fields] = typeof found === "number" ? [found, {}] : [301, { Location: found }];
      return await this.#refuse(socket, request, status, fields);
    }
    if (found instanceof Cached) return await this.#part(socket, request, found.meta, found.body);
    try {
      return await this.#part(socket, request, found.meta, found.fd);
    } finally {
      await Uring.shared.close(found.fd);
    }
  }

  async #refuse(
    socket: Socket<Client>,
    { method, keepAlive }: Waiting,
    status: number,
    fields: Readonly<Record<string, string>>,
  ): Promise<boolean> {
    const response = plain(status, Date.now(), keepAlive ? fields : { ...fields, Connection: "close" });
    const shown = method === "HEAD" ? response.slice(0, response.indexOf("\r\n\r\n") + 4) : response;
    return await write(socket, encoder.encode(shown));
  }

  /** Sends what a request selects of a file. */
  async #part(
    socket: Socket<Client>,
    request: Waiting,
    meta: Meta,
    source: Uint8Array | number,
  ): Promise<boolean> {
    const selection: Selection = select(meta, request);
    const { start, end } = selection;
    const head = fileHead(meta, selection, Date.now(), request.keepAlive);
    if (!(await write(socket, encoder.encode(head)))) return false;
    socket.data.begun = true;
    if (request.method === "HEAD" || start === end) return true;
    if (typeof source !== "number") return await write(socket, source.subarray(start, end));
    try {
      // Fewer if the file has become shorter meanwhile: what was promised cannot be kept then.
      return await socket.sendFile(source, start, end - start) === end - start;
    } catch (error) {
      if (!(error instanceof UringError && GONE.includes(error.code))) throw error;
      socket.terminate();
      return false;
    }
  }
}

async function serve(port: number, hostname: string, directory: string): Promise<Serving> {
  const files = await Files.of(directory);
  const { handlers } = new Site(files);
  const listener = listen<Client>({ port, hostname, allowHalfOpen: true, socket: handlers });
  return {
    address: addressText(listener.addr),
    async stop() {
      await listener.drain(GRACE_MS);
      await files[Symbol.asyncDispose]();
    },
  };
}

await main({
  name: "http",
  usage: "PORT DIRECTORY [--host ADDRESS]",
  positionals: 2,
  options: ["host"],
  serve: ({ positionals: [port, directory = ""], options }) =>
    serve(portOf(port), options["host"] ?? "127.0.0.1", directory),
});
