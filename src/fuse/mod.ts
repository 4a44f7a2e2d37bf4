/**
 * `uring/fuse`: a file system in TypeScript. The kernel's requests come over io_uring.
 *
 * ```ts
 * import { mount, ROOT_NODE } from "uring/fuse";
 * const text = new TextEncoder().encode("hello\n");
 * const attributes = (node: number) => node === ROOT_NODE
 *   ? { mode: 0o040755, nlink: 2 }
 *   : { mode: 0o100444, size: text.length };
 * await using hello = await mount("/mnt/hello", {
 *   getattr: attributes,
 *   lookup: (parent, name) => name === "hello" ? { node: 2, attributes: attributes(2) } : null,
 *   readdir: (node, handle, offset, out) => {
 *     if (offset === 0) out.add("hello", 2, 0o100000, 1);
 *   },
 *   read: (node, handle, buffer, offset) => {
 *     const part = text.subarray(offset, offset + buffer.length);
 *     buffer.set(part);
 *     return part.length;
 *   },
 * });
 * await hello.finished;
 * ```
 *
 * @module
 */
export { UringError } from "../ffi/errors.ts";
export * as backing from "./backing.ts";
export { mount } from "./mount.ts";
export {
  type Failure,
  type Mount,
  type MountOptions,
  type MountStats,
  type Transport,
  type UnmountOptions,
} from "./mount_types.ts";
export {
  type Answer,
  type AttributeChanges,
  type Attributes,
  type Created,
  type DirectoryBuffer,
  type DirectoryPlusBuffer,
  type Entry,
  type FileRange,
  type FileSystem,
  type FileSystemStats,
  type Handle,
  type Name,
  type NodeId,
  type Opened,
  type Request,
  ROOT_NODE,
} from "./types.ts";
