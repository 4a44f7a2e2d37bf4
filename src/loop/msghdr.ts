/**
 * `struct msghdr` and what it points to, in one piece of memory.
 *
 * @module
 */
import { iovec, msghdr } from "../ffi/structs.ts";
import type { Piece } from "./arena.ts";
import { type AddressFinder, iovecs } from "./file_ops.ts";
import { checkView } from "./options.ts";

/** The parts of a message. */
export interface MessageParts {
  /** The data, or where it goes. */
  readonly views: readonly ArrayBufferView[];
  /** The address, or null for none. */
  readonly name?: Uint8Array | null;
  /** How much room there is for an address; default: what {@link MessageParts.name} takes. */
  readonly nameRoom?: number;
  /** The control messages. */
  readonly control?: Uint8Array | null;
  /** How much room there is for control messages; default: what {@link MessageParts.control} takes. */
  readonly controlRoom?: number;
}

/** A message in memory, and where its parts are in it. */
export interface MessageMemory {
  /** The address of the `struct msghdr`. */
  readonly address: number;
  /** All of the memory; the `struct msghdr` comes first. */
  readonly bytes: Uint8Array;
  /** What has to be kept. */
  readonly owner: unknown;
  /** Where the socket address is. */
  readonly nameAt: number;
  /** Where the control messages are. */
  readonly controlAt: number;
}

const align8 = (length: number): number => (length + 7) & ~7;

/** Writes a message into memory that `take` gives; `find` tells where its data is. */
export function makeMessage(
  parts: MessageParts,
  take: (byteLength: number) => Piece,
  find: AddressFinder,
): MessageMemory {
  const { views, name = null, control = null } = parts;
  const nameRoom = parts.nameRoom ?? name?.length ?? 0;
  const controlRoom = parts.controlRoom ?? control?.length ?? 0;
  const vectorsAt = msghdr.size;
  const controlAt = vectorsAt + views.length * iovec.size;
  const nameAt = controlAt + align8(controlRoom);
  let whole: Piece | undefined;
  iovecs(views, (length) => {
    whole = take(nameAt + nameRoom);
    whole.bytes.fill(0);
    return { ...whole, bytes: whole.bytes.subarray(vectorsAt, vectorsAt + length) };
  }, find);
  const { address, bytes, owner } = whole!;
  if (name !== null) bytes.set(name, nameAt);
  if (control !== null) bytes.set(control, controlAt);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const pointer = (field: number, at: number): void => view.setBigUint64(field, BigInt(address + at), true);
  if (nameRoom > 0) pointer(msghdr.msg_name, nameAt);
  view.setUint32(msghdr.msg_namelen, nameRoom, true);
  if (views.length > 0) pointer(msghdr.msg_iov, vectorsAt);
  view.setBigUint64(msghdr.msg_iovlen, BigInt(views.length), true);
  if (controlRoom > 0) pointer(msghdr.msg_control, controlAt);
  view.setBigUint64(msghdr.msg_controllen, BigInt(controlRoom), true);
  return { address, bytes, owner, nameAt, controlAt };
}

/** The buffers of a message, of which there may be one. */
export function viewsOf(buffers: ArrayBufferView | readonly ArrayBufferView[]): readonly ArrayBufferView[] {
  if (Array.isArray(buffers)) return [...buffers];
  checkView(buffers);
  return [buffers];
}
