/**
 * Socket options that are set before anything waits for the socket.
 *
 * @module
 */
import { check } from "../ffi/errors.ts";
import { system } from "../ffi/system.ts";

/** Sets an option that is a C `int`: `setsockopt(2)`, called directly, which every kernel has. */
export function setSocketOption(fd: number, level: number, name: number, value: number): void {
  const bytes = new Uint8Array(Int32Array.of(value).buffer);
  check(system().rare.setsockopt(fd, level, name, bytes, bytes.length), "setsockopt");
}
