/**
 * What differs between the architectures.
 *
 * @module
 */
import * as aarch64 from "./abi_aarch64.ts";
import * as x86_64 from "./abi_x86_64.ts";
import { adapter } from "./system.ts";

/** The machine's architecture, as the kernel names it. */
export const ARCH: "x86_64" | "aarch64" = adapter.arch;

const abi = ARCH === "aarch64" ? aarch64 : x86_64;

/** Bypass the page cache; buffers, offsets and lengths must be aligned. */
export const O_DIRECT: number = abi.O_DIRECT;
/** Allow files over 2 GiB; implied on 64-bit systems. */
export const O_LARGEFILE: number = abi.O_LARGEFILE;
/** Fail unless it is a directory. */
export const O_DIRECTORY: number = abi.O_DIRECTORY;
/** Fail when the last component is a symbolic link. */
export const O_NOFOLLOW: number = abi.O_NOFOLLOW;
/** An unnamed file in a directory. */
export const O_TMPFILE: number = abi.O_TMPFILE;

/** `struct epoll_event`: its size and the offsets of its fields in bytes. */
export const epoll_event: { readonly size: number; readonly events: number; readonly data: number } =
  abi.epoll_event;
