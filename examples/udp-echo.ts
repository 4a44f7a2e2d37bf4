/**
 * A UDP server that sends each datagram back to where it came from, in one of two styles.
 *
 *     bun examples/udp-echo.ts PORT
 *     deno run --allow-ffi examples/udp-echo.ts PORT --style streams
 *     echo hello | socat - UDP:127.0.0.1:PORT
 *
 * `handlers`: a function that is called for each datagram, as with `Bun.udpSocket`. The datagram is looked at where the
 * kernel has put it; it makes no object. `streams`: a loop over the datagrams, as with `Deno.listenDatagram`. It is bound
 * to 127.0.0.1 unless told otherwise; port 0 picks a free one. SIGINT and SIGTERM stop it.
 */
import { udp, type UdpSocket } from "uring/net";
import { addressText, main, portOf, type Serving } from "./common/server.ts";

// What is lost on the way is lost: a server that does not keep up must not be the place where that happens.
const RECEIVE_BUFFER = 4 << 20;
// As many as arrive in one turn of the event loop when there is much to do.
const BUFFERS = 256;

function withHandlers(address: { port: number; hostname: string }): UdpSocket {
  return udp({
    ...address,
    receiveBufferSize: RECEIVE_BUFFER,
    buffers: BUFFERS,
    socket: {
      data(socket, view, from) {
        // No room: the datagram is dropped, as a network would.
        socket.trySend(view, from);
      },
    },
  });
}

function withStreams(address: { port: number; hostname: string }): UdpSocket {
  const socket = udp({ ...address, receiveBufferSize: RECEIVE_BUFFER, buffers: BUFFERS });
  void (async () => {
    for await (const { data, remoteAddr } of socket) {
      // What became of it nobody asks.
      socket.send(data, remoteAddr).catch(() => {});
    }
  })();
  return socket;
}

const STYLES = { handlers: withHandlers, streams: withStreams };

function serve(port: number, hostname: string, style: string): Serving {
  if (!(style in STYLES)) throw new RangeError(`"${style}" is no style: handlers, streams`);
  const socket = STYLES[style as keyof typeof STYLES]({ port, hostname });
  return { address: addressText(socket.addr), stop: () => socket.close() };
}

await main({
  name: "udp-echo",
  usage: "PORT [--host ADDRESS] [--style handlers|streams]",
  positionals: 1,
  options: ["host", "style"],
  serve: ({ positionals: [port], options: { host = "127.0.0.1", style = "handlers" } }) =>
    serve(portOf(port), host, style),
});
