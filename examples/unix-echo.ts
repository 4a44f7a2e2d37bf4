/**
 * A server on a Unix socket that sends back what it receives, with the web's streams.
 *
 *     bun examples/unix-echo.ts PATH
 *     deno run --allow-ffi examples/unix-echo.ts PATH
 *     echo hello | socat - UNIX-CONNECT:PATH
 *
 * A path that begins with `@` is a name in Linux's abstract namespace, of which no file is made (`ABSTRACT-CONNECT:` for
 * socat). SIGINT and SIGTERM stop it; the socket's file is removed.
 */
import { listen } from "uring/net";
import { addressText, GRACE_MS, main, type Serving } from "./common/server.ts";

function serve(path: string): Serving {
  const listener = listen({ path });
  void (async () => {
    for await (const conn of listener) {
      // When both streams have ended, the connection closes itself.
      conn.readable.pipeTo(conn.writable).catch(() => conn.close());
    }
  })();
  return { address: addressText(listener.addr), stop: () => listener.drain(GRACE_MS) };
}

await main({
  name: "unix-echo",
  usage: "PATH",
  positionals: 1,
  serve: ({ positionals: [path = ""] }) => serve(path),
});
