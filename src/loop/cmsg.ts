/**
 * Control messages: from objects to bytes and back.
 *
 * @module
 */
import { SCM_CREDENTIALS, SCM_MAX_FD, SCM_RIGHTS, SOL_SOCKET } from "../ffi/abi.ts";
import { ucred } from "../ffi/structs.ts";
import { type Cmsg, cmsgFirsthdr, cmsgNexthdr, cmsgPut, cmsgSpace } from "../ring/cmsg.ts";
import { checkU32 } from "./options.ts";

/** Descriptors for another process, `SCM_RIGHTS`, over a Unix socket: the receiver gets descriptors of its own. */
export interface RightsMessage {
  /** Which kind. */
  readonly kind: "rights";
  /** At most 253 descriptors of this process. They stay open here. */
  readonly fds: readonly number[];
}

/**
 * Who sends, `SCM_CREDENTIALS`, over a Unix socket. The kernel checks it: only a privileged process may say something else
 * than the truth. It arrives where `SO_PASSCRED` is set, also when the sender did not say so.
 */
export interface CredentialsMessage {
  /** Which kind. */
  readonly kind: "credentials";
  /** The process. */
  readonly pid: number;
  /** The user. */
  readonly uid: number;
  /** The group. */
  readonly gid: number;
}

/** Any other control message, as `cmsg(3)` has it. */
export interface OtherControlMessage {
  /** Which kind. */
  readonly kind: "other";
  /** `SOL_SOCKET`, `IPPROTO_IP`… */
  readonly level: number;
  /** `SCM_TIMESTAMPING`, `IP_PKTINFO`… */
  readonly type: number;
  /** Its bytes. */
  readonly data: Uint8Array;
}

/** What is sent beside the data. */
export type ControlMessage = RightsMessage | CredentialsMessage | OtherControlMessage;

/** What is received beside the data, descriptors excepted. */
export type ReceivedControlMessage = CredentialsMessage | OtherControlMessage;

/** How many bytes of control messages a program may ask room for. */
export const MOST_CONTROL: number = 64 * 1024;

const FD_SIZE = 4;

/** How much room a control message with so many descriptors takes. */
export function rightsSpace(count: number): number {
  return count === 0 ? 0 : cmsgSpace(count * FD_SIZE);
}

/** How much room a control message with credentials takes. */
export const CREDENTIALS_SPACE: number = cmsgSpace(ucred.size);

interface Encoded {
  readonly level: number;
  readonly type: number;
  readonly data: Uint8Array;
}

function encodeOne(message: ControlMessage): Encoded {
  switch (message.kind) {
    case "rights":
      return { level: SOL_SOCKET, type: SCM_RIGHTS, data: encodeRights(message.fds) };
    case "credentials":
      return { level: SOL_SOCKET, type: SCM_CREDENTIALS, data: encodeCredentials(message) };
    case "other": {
      const { level, type, data } = message;
      if (level !== (level | 0) || type !== (type | 0)) {
        throw new RangeError(`A control message's level and type are 32-bit integers, not ${level}, ${type}`);
      }
      if (!(data instanceof Uint8Array)) throw new TypeError("A control message's data is a Uint8Array");
      return { level, type, data };
    }
    default:
      throw new TypeError(
        `Unknown kind of control message: ${String((message as { kind?: unknown } | null)?.kind)}`,
      );
  }
}

function encodeRights(fds: readonly number[]): Uint8Array {
  if (!Array.isArray(fds) || fds.length === 0 || fds.length > SCM_MAX_FD) {
    throw new RangeError(`fds is an array of 1 to ${SCM_MAX_FD} descriptors`);
  }
  for (const fd of fds) {
    if (fd !== (fd | 0)) throw new TypeError(`A descriptor is a 32-bit integer, not ${fd}`);
  }
  return new Uint8Array(Int32Array.from(fds).buffer);
}

function encodeCredentials({ pid, uid, gid }: CredentialsMessage): Uint8Array {
  const bytes = new Uint8Array(ucred.size);
  const view = new DataView(bytes.buffer);
  view.setUint32(ucred.pid, checkU32("pid", pid), true);
  view.setUint32(ucred.uid, checkU32("uid", uid), true);
  view.setUint32(ucred.gid, checkU32("gid", gid), true);
  return bytes;
}

/** The bytes of control messages, one after the other; empty for none. */
export function encodeControl(messages: readonly ControlMessage[]): Uint8Array {
  const encoded = messages.map(encodeOne);
  const length = encoded.reduce((sum, { data }) => sum + cmsgSpace(data.length), 0);
  if (length > MOST_CONTROL) {
    throw new RangeError(`At most ${MOST_CONTROL} bytes of control messages, not ${length}`);
  }
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const { level, type, data } of encoded) at = cmsgPut(bytes, at, level, type, data);
  return bytes;
}

/** What control messages say; the descriptors, which are this process's from now on, by themselves. */
export interface DecodedControl {
  /** All but the descriptors. */
  readonly messages: readonly ReceivedControlMessage[];
  /** The descriptors that arrived. */
  readonly fds: readonly number[];
}

const NOTHING: DecodedControl = { messages: [], fds: [] };

/** Reads control messages; what they carry is copied. */
export function decodeControl(bytes: Uint8Array): DecodedControl {
  let cmsg = cmsgFirsthdr(bytes);
  if (cmsg === null) return NOTHING;
  const messages: ReceivedControlMessage[] = [];
  const fds: number[] = [];
  for (; cmsg !== null; cmsg = cmsgNexthdr(bytes, cmsg)) {
    const { level, type, data } = cmsg;
    if (level === SOL_SOCKET && type === SCM_RIGHTS) fds.push(...decodeRights(data));
    else if (level === SOL_SOCKET && type === SCM_CREDENTIALS && data.length === ucred.size) {
      messages.push(decodeCredentials(cmsg));
    } else messages.push({ kind: "other", level, type, data: new Uint8Array(data) });
  }
  return { messages, fds };
}

function decodeRights(data: Uint8Array): number[] {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const fds: number[] = [];
  for (let at = 0; at + FD_SIZE <= data.length; at += FD_SIZE) fds.push(view.getInt32(at, true));
  return fds;
}

function decodeCredentials({ data }: Cmsg): CredentialsMessage {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  return {
    kind: "credentials",
    pid: view.getUint32(ucred.pid, true),
    uid: view.getUint32(ucred.uid, true),
    gid: view.getUint32(ucred.gid, true),
  };
}
