/**
 * A TCP server that sends back what it receives: multishot accept, multishot receive from a pool of buffers that the
 * kernel fills, so that neither a connection nor a chunk costs a request of its own.
 *
 *     bun examples/echo.ts PORT
 *     deno run --allow-ffi examples/echo.ts PORT
 *
 * It listens on 127.0.0.1 and prints the port; port 0 picks a free one. SIGINT and SIGTERM stop it. Linux 6.11 (bind and
 * listen; the rest needs 6.0). Deno needs no permission for the network: the kernel makes the socket, not Deno.
 */
import process from "node:process";
import { type BufferPool, Uring, UringError } from "uring";
import { AF_INET, MSG_WAITALL, SOCK_STREAM } from "uring/ring";

const ADDRESS = "127.0.0.1";
const FIRST_EPHEMERAL = 49152;
const LAST_PORT = 65535;

/** Binds to a port, or to a free one for 0, and returns it. */
async function bind(uring: Uring, socket: number, port: number): Promise<number> {
  for (;;) {
    // The kernel would pick one for port 0, too, but there is no operation that tells which.
    const choice = port !== 0
      ? port
      : FIRST_EPHEMERAL + Math.floor(Math.random() * (LAST_PORT + 1 - FIRST_EPHEMERAL));
    try {
      await uring.bind(socket, { family: "ipv4", address: ADDRESS, port: choice });
      return choice;
    } catch (error) {
      if (port !== 0 || !(error instanceof UringError && error.code === "EADDRINUSE")) throw error;
    }
  }
}

/** Sends back whatever a connection sends, until it has finished, has gone, or the server stops. */
async function echo(uring: Uring, pool: BufferPool, connection: number, signal: AbortSignal): Promise<void> {
  try {
    for await (const chunk of uring.recvMultishot(connection, { pool, borrow: true, signal })) {
      // The chunk lies in the pool until the next one is asked for; by then it has been sent.
      await uring.send(connection, chunk, { flags: MSG_WAITALL, signal });
    }
  } catch (error) {
    // A client that resets its connection gives ECONNRESET or EPIPE here: nobody is left to tell.
    if (!signal.aborted && !(error instanceof UringError)) throw error;
  } finally {
    await uring.close(connection);
  }
}

async function serve(uring: Uring, listener: number, signal: AbortSignal): Promise<void> {
  const pool = uring.bufferPool({ count: 256, size: 16 * 1024 });
  const connections = new Set<Promise<void>>();
  try {
    for await (const connection of uring.acceptMultishot(listener, { signal })) {
      const done = echo(uring, pool, connection, signal).finally(() => connections.delete(done));
      connections.add(done);
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    await Promise.allSettled(connections);
  }
}

async function main(args: readonly string[]): Promise<number> {
  const port = Number(args[0]);
  if (args.length !== 1 || !Number.isInteger(port) || port < 0 || port > LAST_PORT) {
    console.error("usage: echo.ts PORT");
    return 2;
  }
  const stop = new AbortController();
  for (const name of ["SIGINT", "SIGTERM"] as const) process.once(name, () => stop.abort());
  await using uring = new Uring();
  const listener = await uring.socket(AF_INET, SOCK_STREAM);
  try {
    const bound = await bind(uring, listener, port);
    await uring.listen(listener);
    console.log(`listening on ${ADDRESS}:${bound}`);
    await serve(uring, listener, stop.signal);
  } catch (error) {
    if (!(error instanceof UringError)) throw error;
    console.error(`echo: ${error.message}`);
    return 1;
  } finally {
    await uring.close(listener);
  }
  console.log("stopped");
  return 0;
}

process.exitCode = await main(process.argv.slice(2));
