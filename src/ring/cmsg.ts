/**
 * Control messages: the `cmsghdr`s that `sendmsg` and `recvmsg` carry beside the data, by C's macros.
 *
 * @module
 */
import { cmsghdr } from "../ffi/structs.ts";

/** One control message in a buffer of them. */
export interface Cmsg {
  /** Where it begins in the buffer. */
  readonly at: number;
  /** `SOL_SOCKET`, `IPPROTO_IP`… */
  readonly level: number;
  /** `SCM_RIGHTS`… */
  readonly type: number;
  /** What it carries: a view of the buffer, cut off where the buffer ends. */
  readonly data: Uint8Array;
}

/** A length rounded up to where the next control message may begin: `CMSG_ALIGN`. */
export function cmsgAlign(length: number): number {
  return (length + 7) & ~7;
}

/** How much of a buffer a control message with so many bytes of data takes: `CMSG_SPACE`. */
export function cmsgSpace(length: number): number {
  return cmsghdr.size + cmsgAlign(length);
}

/** What `cmsg_len` says of a control message with so many bytes of data: `CMSG_LEN`. */
export function cmsgLen(length: number): number {
  return cmsghdr.size + length;
}

/** The first control message in the `controllen` bytes of a buffer, or null: `CMSG_FIRSTHDR`. */
export function cmsgFirsthdr(control: Uint8Array, controllen: number = control.length): Cmsg | null {
  return cmsgAt(control, controllen, 0);
}

/** The control message after `cmsg`, or null: `CMSG_NXTHDR`. */
export function cmsgNexthdr(
  control: Uint8Array,
  cmsg: Cmsg,
  controllen: number = control.length,
): Cmsg | null {
  const view = new DataView(control.buffer, control.byteOffset, control.byteLength);
  const length = view.getUint32(cmsg.at + cmsghdr.cmsg_len, true);
  return length < cmsghdr.size ? null : cmsgAt(control, controllen, cmsg.at + cmsgAlign(length));
}

function cmsgAt(control: Uint8Array, controllen: number, at: number): Cmsg | null {
  const end = Math.min(controllen, control.length);
  if (at + cmsghdr.size > end) return null;
  const view = new DataView(control.buffer, control.byteOffset, control.byteLength);
  const length = view.getUint32(at + cmsghdr.cmsg_len, true);
  if (length < cmsghdr.size) return null;
  return {
    at,
    level: view.getInt32(at + cmsghdr.cmsg_level, true),
    type: view.getInt32(at + cmsghdr.cmsg_type, true),
    data: control.subarray(at + cmsghdr.size, Math.min(at + length, end)),
  };
}

/** Writes a control message at `at` and returns where the next one may begin. */
export function cmsgPut(
  control: Uint8Array,
  at: number,
  level: number,
  type: number,
  data: Uint8Array,
): number {
  const view = new DataView(control.buffer, control.byteOffset, control.byteLength);
  view.setBigUint64(at + cmsghdr.cmsg_len, BigInt(cmsgLen(data.length)), true);
  view.setInt32(at + cmsghdr.cmsg_level, level, true);
  view.setInt32(at + cmsghdr.cmsg_type, type, true);
  control.set(data, at + cmsghdr.size);
  return at + cmsgSpace(data.length);
}
