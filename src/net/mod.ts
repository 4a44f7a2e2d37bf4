/**
 * `uring/net`: TCP and Unix sockets.
 *
 * ```ts
 * import { listen } from "uring/net";
 * for await (const conn of listen({ port: 8080 })) conn.readable.pipeTo(conn.writable).catch(() => {});
 * ```
 *
 * All of them share one ring, `Uring.shared`. Failures are `UringError`s.
 *
 * @module
 */
export { type InetAddress, type SocketAddress, type UnixAddress, UringError } from "../mod.ts";
export { type Endpoint } from "./address.ts";
export { Conn } from "./conn.ts";
export { connect, type ConnectOptions } from "./connect.ts";
export { DialError } from "./dial.ts";
export { AddressError } from "./errors.ts";
export { type IpAddress } from "./ip.ts";
export { listen, Listener, type ListenOptions } from "./listen.ts";
export { NameError, resolve, type ResolvedAddress, type ResolveOptions } from "./resolve.ts";
