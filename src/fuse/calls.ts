/**
 * The system calls that mounting takes.
 *
 * @module
 */
import { MAP_SHARED, PROT_READ, PROT_WRITE } from "../ffi/abi.ts";
import type { Functions } from "../ffi/symbols.ts";
import { adapter, system } from "../ffi/system.ts";

const LIBC_MOUNT = {
  // int mount(const char *source, const char *target, const char *type, unsigned long flags, const void *data)
  mount: { result: "i32", args: ["bytes", "bytes", "bytes", "word", "bytes"] },
  // int umount2(const char *target, int flags)
  umount2: { result: "i32", args: ["bytes", "i32"] },
  // int memfd_create(const char *name, unsigned int flags)
  memfd_create: { result: "i32", args: ["bytes", "u32"] },
  // int ftruncate(int fd, off_t length)
  ftruncate: { result: "i32", args: ["i32", "word"] },
} as const;

const MAP_FIXED = 0x10;

let opened: Functions<typeof LIBC_MOUNT> | undefined;

function libc(): Functions<typeof LIBC_MOUNT> {
  return opened ??= adapter.open(system().libc, LIBC_MOUNT);
}

function negated(result: number): number {
  return result === -1 ? system().errno() : result;
}

/** `mount(2)`: 0 or `-errno`. */
export function mountCall(
  source: Uint8Array,
  target: Uint8Array,
  type: Uint8Array,
  flags: number,
  data: Uint8Array,
): number {
  return negated(libc().mount(source, target, type, flags, data));
}

/** `umount2(2)`: 0 or `-errno`. */
export function umountCall(target: Uint8Array, flags: number): number {
  return negated(libc().umount2(target, flags));
}

/** `memfd_create(2)`: a descriptor or `-errno`. */
export function memfdCall(name: Uint8Array, flags: number): number {
  return negated(libc().memfd_create(name, flags));
}

/** `ftruncate(2)`: 0 or `-errno`. */
export function truncateCall(fd: number, length: number): number {
  return negated(libc().ftruncate(fd, length));
}

/** Maps a file, at an address where there is one given (whatever was mapped there goes): the address or `-errno`. */
export function mapFile(fd: number, byteLength: number, address = 0): number {
  const flags = address === 0 ? MAP_SHARED : MAP_SHARED | MAP_FIXED;
  return system().mmap(address, byteLength, PROT_READ | PROT_WRITE, flags, fd, 0);
}
