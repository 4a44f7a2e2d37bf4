/**
 * What a datagram brings besides its data.
 *
 * @module
 */
import {
  IP_PKTINFO,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPV6_PKTINFO,
  MSG_CTRUNC,
  MSG_TRUNC,
  SOL_UDP,
  UDP_GRO,
} from "../ffi/abi.ts";
import { in6_pktinfo, in_pktinfo } from "../ffi/structs.ts";
import {
  type ControlMessage,
  decodeControl,
  type OtherControlMessage,
  type ReceivedControlMessage,
} from "../loop/cmsg.ts";
import { formatIpv6, parseIpv4, parseIpv6 } from "../loop/sockaddr.ts";
import { cmsgSpace } from "../ring/cmsg.ts";
import type { DatagramAddress } from "./datagram_address.ts";
import type { Datagram } from "./datagram_types.ts";
import { OwnedDescriptor } from "./descriptors.ts";
import type { IpAddress } from "./ip.ts";

/** The address of this machine that a datagram goes through, and the interface. */
export interface PacketInfo {
  /** Where it was sent to: one of this machine's addresses, or a multicast group or broadcast address. */
  readonly address: string;
  /** The index of the interface. */
  readonly interface: number;
}

/** What a datagram brings besides its data. */
export interface DatagramInfo {
  /**
   * With the option `gro`: the data is several datagrams one after the other, each so many bytes long but the last, which
   * may be shorter. 0 for one datagram.
   */
  readonly segmentSize: number;
  /** Whether it was longer than the option `maxSize` (or the buffer) allowed, and its end is lost. */
  readonly truncated: boolean;
  /** With the option `packetInfo`: where it came in. */
  readonly packetInfo?: PacketInfo;
  /** Descriptors that came along; those that are not taken are closed, on a socket with handlers when `data` returns. */
  readonly descriptors: readonly OwnedDescriptor[];
  /** Whether there were more descriptors than the option `descriptors` has room for, which were closed. */
  readonly controlTruncated: boolean;
  /** Other control messages, where socket options ask for some. */
  readonly control: readonly ReceivedControlMessage[];
}

const NONE: readonly never[] = [];

/** How much room the control messages take that options ask for. */
export const GRO_SPACE: number = cmsgSpace(4);
/** The same for `packetInfo`, of either family. */
export const PACKET_INFO_SPACE: number = cmsgSpace(in6_pktinfo.size);

/** A {@link DatagramInfo}, filled anew for each datagram. */
export class Arrival implements DatagramInfo {
  segmentSize = 0;
  truncated = false;
  controlTruncated = false;
  packetInfo?: PacketInfo;
  descriptors: readonly OwnedDescriptor[] = NONE;
  control: readonly ReceivedControlMessage[] = NONE;
  #plain = true;

  /** Takes in what the kernel says. */
  set(flags: number, control: Uint8Array | null): void {
    if (!this.#plain) this.#clear();
    this.truncated = (flags & MSG_TRUNC) !== 0;
    if (control === null || control.length === 0) return;
    this.#plain = false;
    this.controlTruncated = (flags & MSG_CTRUNC) !== 0;
    const { messages, fds } = decodeControl(control);
    if (fds.length > 0) this.descriptors = fds.map((fd) => new OwnedDescriptor(fd));
    const others: ReceivedControlMessage[] = [];
    for (const message of messages) {
      if (message.kind !== "other" || !this.#understand(message)) others.push(message);
    }
    if (others.length > 0) this.control = others;
  }

  #understand({ level, type, data }: OtherControlMessage): boolean {
    const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
    if (level === SOL_UDP && type === UDP_GRO) this.segmentSize = view.getUint16(0, true);
    else if (level === IPPROTO_IP && type === IP_PKTINFO) {
      this.packetInfo = {
        address: data.subarray(in_pktinfo.ipi_addr, in_pktinfo.ipi_addr + 4).join("."),
        interface: view.getInt32(in_pktinfo.ipi_ifindex, true),
      };
    } else if (level === IPPROTO_IPV6 && type === IPV6_PKTINFO) {
      this.packetInfo = {
        address: formatIpv6(data.subarray(in6_pktinfo.ipi6_addr, in6_pktinfo.ipi6_addr + 16)),
        interface: view.getInt32(in6_pktinfo.ipi6_ifindex, true),
      };
    } else return false;
    return true;
  }

  #clear(): void {
    this.#plain = true;
    this.segmentSize = 0;
    this.controlTruncated = false;
    delete this.packetInfo;
    this.descriptors = NONE;
    this.control = NONE;
  }

  /** The datagram with all of this, for keeps. */
  datagram<A extends DatagramAddress>(data: Uint8Array, remoteAddr: A): Datagram<A> {
    const { segmentSize, truncated, controlTruncated, packetInfo, descriptors, control } = this;
    const datagram: Datagram<A> = {
      data,
      remoteAddr,
      segmentSize,
      truncated,
      controlTruncated,
      descriptors,
      control,
    };
    return packetInfo === undefined ? datagram : { ...datagram, packetInfo };
  }
}

/** The control message that has a datagram leave from an address of this machine, or through an interface, or both. */
export function packetInfoMessage(from: IpAddress | null, index: number, family: 4 | 6): ControlMessage {
  if (family === 4) {
    const data = new Uint8Array(in_pktinfo.size);
    new DataView(data.buffer).setInt32(in_pktinfo.ipi_ifindex, index, true);
    if (from !== null) data.set(parseIpv4(from.address), in_pktinfo.ipi_spec_dst);
    return { kind: "other", level: IPPROTO_IP, type: IP_PKTINFO, data };
  }
  const data = new Uint8Array(in6_pktinfo.size);
  new DataView(data.buffer).setInt32(in6_pktinfo.ipi6_ifindex, index, true);
  if (from !== null) data.set(parseIpv6(from.address), in6_pktinfo.ipi6_addr);
  return { kind: "other", level: IPPROTO_IPV6, type: IPV6_PKTINFO, data };
}
