/**
 * `uring/net`: TCP and Unix sockets, in two styles over one core.
 *
 * *Streams*, as Deno and the web have them:
 *
 * ```ts
 * import { listen } from "uring/net";
 * for await (const conn of listen({ port: 8080 })) conn.readable.pipeTo(conn.writable).catch(() => {});
 * ```
 *
 * *Handlers*, as `Bun.listen` has them, which cost least: no promise, and no memory per message.
 *
 * ```ts
 * import { listen } from "uring/net";
 * listen({ port: 8080, socket: { data: (socket, view) => void socket.write(view) } });
 * ```
 *
 * All of them share one ring, `Uring.shared`. Failures are `UringError`s.
 *
 * @module
 */
export { type RegisteredBuffer, type RingAddress, UringError } from "../mod.ts";
export { type Address, type Endpoint, type NetAddress, type UnixSocketAddress } from "./address.ts";
export { Conn, type TransferOptions } from "./conn.ts";
export { connect, type ConnectOptions, type HandlerConnectOptions } from "./connect.ts";
export { DialError } from "./dial.ts";
export { AddressError } from "./errors.ts";
export { type SocketHandlers, type SocketOptions } from "./handlers.ts";
export { type IpAddress } from "./ip.ts";
export { type HandlerListenOptions, listen, type ListenOptions } from "./listen.ts";
export { Listener } from "./listener.ts";
export { pipe, type PipeOptions } from "./pipe.ts";
export { NameError, resolve, type ResolvedAddress, type ResolveOptions } from "./resolve.ts";
export { type FileSource } from "./send_file.ts";
export { Socket } from "./socket.ts";
export {
  type DatagramAddress,
  type DatagramTarget,
  type UdpAddress,
  type UdpTarget,
  type UnixDatagramAddress,
  type UnixDatagramTarget,
} from "./datagram_address.ts";
export { type DatagramInfo, type PacketInfo } from "./datagram_message.ts";
export { type DatagramOptions } from "./datagram_options.ts";
export { DatagramSocket } from "./datagram_socket.ts";
export {
  type Datagram,
  type DatagramHandlers,
  type OutgoingDatagram,
  type ReceivedDatagram,
  type ReceiveOptions,
} from "./datagram_types.ts";
export { OwnedDescriptor, type ReceivedDescriptors, type SendableDescriptor } from "./descriptors.ts";
export { type GroupOptions } from "./multicast.ts";
export { type SendFromOptions, udp, type UdpHandlers, type UdpOptions, UdpSocket } from "./udp.ts";
export {
  unixDatagram,
  type UnixDatagramHandlers,
  type UnixDatagramOptions,
  UnixDatagramSocket,
} from "./unix_datagram.ts";
