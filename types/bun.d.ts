/**
 * The part of the global `Bun` that this project touches, for `deno check`, which knows the module `bun:ffi` only as
 * `any` and the global not at all. `tsc` reads Bun's own, complete types instead and never this file.
 */

declare namespace Bun {
  const version: string;

  /** False on the thread of a Worker. */
  const isMainThread: boolean;

  /** Collects garbage; at once when `force` is true. */
  function gc(force?: boolean): number;

  interface Socket {
    readonly fd?: number;
    ref(): void;
    unref(): void;
    end(): void;
    terminate(): void;
    pause(): void;
    resume(): void;
    write(data: string | ArrayBufferView | ArrayBuffer): number;
  }

  interface SocketHandler {
    open?(socket: Socket): void;
    data?(socket: Socket, data: Uint8Array): void;
    drain?(socket: Socket): void;
    end?(socket: Socket): void;
    close?(socket: Socket, error?: Error): void;
    error?(socket: Socket, error: Error): void;
    binaryType?: "buffer" | "uint8array" | "arraybuffer";
  }

  type Address = { fd: number } | { unix: string } | { hostname: string; port: number };

  /** Connects, or watches a connected socket that is open already. */
  function connect(options: Address & { socket: SocketHandler }): Promise<Socket>;

  const dns: {
    /** Looks a host name up. */
    lookup(
      hostname: string,
      options: { backend?: "libc" | "c-ares" | "system"; family?: 0 | 4 | 6; socketType?: "tcp" | "udp" },
    ): Promise<{ address: string; family: 4 | 6; ttl: number }[]>;
  };

  interface BunFile {
    readonly size: number;
    text(): Promise<string>;
    bytes(): Promise<Uint8Array<ArrayBuffer>>;
    arrayBuffer(): Promise<ArrayBuffer>;
    slice(begin?: number, end?: number): BunFile;
  }

  function file(path: string | number): BunFile;
  function write(path: string | BunFile, data: string | ArrayBufferView | ArrayBuffer): Promise<number>;

  function sleepSync(milliseconds: number): void;
  function nanoseconds(): number;
}
