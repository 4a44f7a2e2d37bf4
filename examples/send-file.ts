/**
 * A TCP server that sends a file to whoever connects. The file goes from the page cache through a pipe into the socket and
 * never into the program's memory: open, pipe and the first splice are one chain, on direct descriptors.
 *
 *     bun examples/send-file.ts FILE PORT
 *     deno run --allow-ffi examples/send-file.ts FILE PORT
 *
 * It listens on 127.0.0.1 and prints the port; port 0 picks a free one. SIGINT and SIGTERM stop it. Linux 6.16 (pipes).
 */
import process from "node:process";
import { type DirectDescriptor, Uring, UringError } from "uring";
import { AF_INET, SOCK_STREAM } from "uring/ring";

const ADDRESS = "127.0.0.1";
/** What a pipe holds. */
const PIECE = 64 * 1024;

/** Sends a file to a connection, and closes it. */
async function send(uring: Uring, path: string, connection: number, signal: AbortSignal): Promise<void> {
  let opened: DirectDescriptor[] = [];
  try {
    const [file, pipe, first] = await uring.link((l) => {
      const file = l.direct();
      const pipe = l.directPair();
      opened = [file, pipe.reader, pipe.writer];
      return [
        l.openat(path, { direct: file }),
        l.pipe({ direct: pipe }),
        l.splice(file, pipe.writer, PIECE),
      ];
    });
    let waiting = first;
    while (waiting > 0) {
      // What is in the pipe goes on before there is more.
      while (waiting > 0) waiting -= await uring.splice(pipe.reader, connection, waiting, { signal });
      waiting = await uring.splice(file, pipe.writer, PIECE);
    }
  } catch (error) {
    // A client that is gone gives ECONNRESET or EPIPE here: nobody is left to tell.
    if (!signal.aborted && !(error instanceof UringError)) throw error;
  } finally {
    await Promise.all(opened.map((descriptor) => descriptor[Symbol.asyncDispose]()));
    await uring.close(connection);
  }
}

async function serve(uring: Uring, path: string, listener: number, signal: AbortSignal): Promise<void> {
  const connections = new Set<Promise<void>>();
  try {
    for await (const connection of uring.acceptMultishot(listener, { signal })) {
      const done = send(uring, path, connection, signal).finally(() => connections.delete(done));
      connections.add(done);
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    await Promise.allSettled(connections);
  }
}

async function main([path = "", port = "", ...more]: readonly string[]): Promise<number> {
  if (path === "" || !/^\d+$/.test(port) || Number(port) > 65535 || more.length > 0) {
    console.error("usage: send-file.ts FILE PORT");
    return 2;
  }
  const stop = new AbortController();
  for (const name of ["SIGINT", "SIGTERM"] as const) process.once(name, () => stop.abort());
  await using uring = new Uring({ directDescriptors: 4096 });
  const listener = await uring.socket(AF_INET, SOCK_STREAM);
  try {
    await uring.statx(path);
    await uring.bind(listener, { family: "ipv4", address: ADDRESS, port: Number(port) });
    await uring.listen(listener);
    const { port: bound } = uring.localAddress(listener) as { port: number };
    console.log(`listening on ${ADDRESS}:${bound}`);
    await serve(uring, path, listener, stop.signal);
  } catch (error) {
    if (!(error instanceof UringError)) throw error;
    console.error(`send-file: ${error.message}`);
    return 1;
  } finally {
    await uring.close(listener);
  }
  console.log("stopped");
  return 0;
}

process.exitCode = await main(process.argv.slice(2));
