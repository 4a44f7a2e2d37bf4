/** Handlers that send back what they receive, and let no client that does not read fill the memory. */
import type { Socket, SocketHandlers } from "uring/net";

/** What a connection has been given and has not taken yet. */
export class Rest {
  // Most have none, and there may be many of those.
  #chunks: Uint8Array[] | null = null;

  get empty(): boolean {
    return this.#chunks === null;
  }

  keep(chunk: Uint8Array): void {
    (this.#chunks ??= []).push(chunk.slice());
  }

  /** Gives on as much as the connection takes. */
  give(socket: Socket<unknown>): void {
    const chunks = this.#chunks ?? [];
    for (let chunk = chunks[0]; chunk !== undefined; chunk = chunks[0]) {
      const taken = socket.write(chunk);
      if (taken >= 0 && taken < chunk.length) {
        chunks[0] = chunk.subarray(taken);
        return;
      }
      chunks.shift();
    }
    this.#chunks = null;
  }
}

const socket: SocketHandlers<Rest> = {
  open(socket) {
    socket.data = new Rest();
  },
  data(socket, view) {
    const rest = socket.data;
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
};

/** What `listen` takes for such connections, beside the address. */
export const echoing: {
  readonly socket: SocketHandlers<Rest>;
  readonly allowHalfOpen: boolean;
  readonly backlog: number;
  readonly highWaterMark: number;
} = {
  socket,
  allowHalfOpen: true,
  backlog: 4096,
  // More than usual: what a connection does not take is copied, and has it paused, which costs where much is sent.
  highWaterMark: 1024 * 1024,
};
