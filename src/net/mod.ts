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
export { UringError } from "../mod.ts";
export { type Address, type Endpoint, type NetAddress, type UnixSocketAddress } from "./address.ts";
export { Conn, type TransferOptions } from "./conn.ts";
export { connect, type ConnectOptions, type HandlerConnectOptions } from "./connect.ts";
export { DialError } from "./dial.ts";
export { AddressError } from "./errors.ts";
export { type SocketHandlers, type SocketOptions } from "./handlers.ts";
export { type IpAddress } from "./ip.ts";
export { type HandlerListenOptions, listen, type ListenOptions } from "./listen.ts";
export { Listener } from "./listener.ts";
export { NameError, resolve, type ResolvedAddress, type ResolveOptions } from "./resolve.ts";
export { Socket } from "./socket.ts";
