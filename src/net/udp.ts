/**
 * `udp`.
 *
 * @module
 */
import {
  AF_INET,
  AF_INET6,
  IP_MULTICAST_ALL,
  IP_PKTINFO,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPV6_MULTICAST_ALL,
  IPV6_RECVPKTINFO,
  IPV6_V6ONLY,
  SO_BROADCAST,
  SO_REUSEADDR,
  SO_REUSEPORT,
  SO_TIMESTAMPING,
  SOF_TIMESTAMPING_OPT_ID,
  SOF_TIMESTAMPING_OPT_TSONLY,
  SOF_TIMESTAMPING_SOFTWARE,
  SOF_TIMESTAMPING_TX_SOFTWARE,
  SOL_SOCKET,
  SOL_UDP,
  UDP_GRO,
} from "../ffi/abi.ts";
import { encodeAddress } from "../loop/sockaddr.ts";
import type { Multishot, SocketAddress, TxTimestamp } from "../mod.ts";
import { bindAddressOf, withPort } from "./address.ts";
import { addressRoom, datagramAddress, type UdpAddress, type UdpTarget } from "./datagram_address.ts";
import { GRO_SPACE, PACKET_INFO_SPACE, packetInfoMessage } from "./datagram_message.ts";
import {
  checkDatagramOptions,
  checkPort,
  type DatagramOptions,
  openDatagram,
  opened,
  withAddress,
} from "./datagram_options.ts";
import { bytesOf } from "./datagram_sender.ts";
import { DatagramSocket } from "./datagram_socket.ts";
import type { DatagramHandlers, DatagramSpec } from "./datagram_types.ts";
import {
  changeMembership,
  type GroupOptions,
  indexOf,
  ipOf,
  setMulticastInterface,
  setMulticastLoopback,
  setMulticastTtl,
  setTtl,
} from "./multicast.ts";
import { resolve } from "./resolve.ts";
import { setSocketOption } from "./socket_option.ts";

/** What a UDP socket calls when something happens. */
export type UdpHandlers = DatagramHandlers<UdpSocket, UdpAddress>;

/** Options of {@link udp}. */
export interface UdpOptions extends DatagramOptions {
  /** An IP address of this machine, or `"localhost"` for 127.0.0.1; default `"0.0.0.0"`, all of IPv4; `"::"` is all. */
  hostname?: string | undefined;
  /** 0 to 65535; default 0: one that the kernel picks. */
  port?: number | undefined;
  /** The only other end: datagrams go there without an address, and those of others do not arrive. An IP address. */
  connect?: UdpTarget | undefined;
  /** What is called when something happens; without it, use `receive` and `for await`. */
  socket?: UdpHandlers | undefined;
  /** Share the address with other sockets that ask for it, too, as receivers of one group do (`SO_REUSEADDR`); default false. */
  reuseAddr?: boolean | undefined;
  /** Share the port with other sockets, each of which gets a part of what arrives (`SO_REUSEPORT`); default false. */
  reusePort?: boolean | undefined;
  /** With an IPv6 address: leave IPv4 alone; default false. */
  ipv6Only?: boolean | undefined;
  /** Allow to send to broadcast addresses; default false. */
  broadcast?: boolean | undefined;
  /** How many routers a datagram may pass: 1 to 255. */
  ttl?: number | undefined;
  /** The same for those to multicast groups: 0 to 255; the kernel's default is 1, the network of this machine. */
  multicastTtl?: number | undefined;
  /** Whether sockets of this machine get what it sends to groups that they have joined; default true. */
  multicastLoopback?: boolean | undefined;
  /** The interface that datagrams to groups leave through, by its name or its index. */
  multicastInterface?: string | number | undefined;
  /** Take datagrams of one sender that come in a row as one (`UDP_GRO`, Linux 5.0); `segmentSize` tells how to cut it. */
  gro?: boolean | undefined;
  /**
   * Send datagrams of one length that go to one destination in one turn as one, which the kernel or the network card cuts
   * again (`UDP_SEGMENT`): much cheaper, and the receiver sees no difference. Default true; where it cannot be done each
   * goes by itself.
   */
  coalesce?: boolean | undefined;
  /** Tell with each datagram where it came in (`IP_PKTINFO`). */
  packetInfo?: boolean | undefined;
}

/** How {@link UdpSocket.sendFrom} sends. */
export interface SendFromOptions {
  /** The address of this machine that it leaves from. */
  source?: string | undefined;
  /** The interface that it leaves through, by its name or its index. */
  interface?: string | number | undefined;
}

/**
 * A UDP socket: what {@link udp} makes.
 *
 * @example
 * ```ts
 * import { udp } from "uring/net";
 * await using socket = udp({ hostname: "127.0.0.1" });
 * await socket.send("ping", { hostname: "127.0.0.1", port: 9000 });
 * const { data, remoteAddr } = await socket.receive();
 * ```
 */
export class UdpSocket extends DatagramSocket<UdpAddress, UdpTarget, UdpSocket> {
  readonly #family: 4 | 6;
  #addr: UdpAddress;
  #remote: UdpAddress | undefined;

  /** @internal */
  constructor(spec: DatagramSpec<UdpSocket>, family: 4 | 6, remote: UdpAddress | undefined) {
    super(spec);
    this.#family = family;
    this.#addr = this.#local();
    this.#remote = remote;
  }

  #local(): UdpAddress {
    return datagramAddress(this.uring.localAddress(this.fd)) as UdpAddress;
  }

  /** Where it is bound, with the port that the kernel picked for 0. */
  override get addr(): UdpAddress {
    return this.#addr;
  }

  /** The other end of a connected socket. */
  get remoteAddr(): UdpAddress | undefined {
    return this.#remote;
  }

  /** @internal */
  protected override async lookUp(target: UdpTarget): Promise<Uint8Array> {
    return encodeAddress(await this.#find(target));
  }

  async #find({ hostname, port }: UdpTarget): Promise<SocketAddress> {
    checkPort(port, 1);
    // An IPv6 socket reaches IPv4, too; the other way round it does not.
    const [ip] = await resolve(hostname, { family: this.#family === 4 ? 4 : 0 });
    return withPort(ip!, port);
  }

  /**
   * Connects it: from now on datagrams go to this destination without an address, and those of others do not arrive. A
   * name is looked up.
   */
  async connect(target: UdpTarget): Promise<void> {
    this.assertOpen();
    const address = await this.#find(target);
    this.assertOpen();
    withAddress("connect", this.fd, address);
    this.#addr = this.#local();
    this.#remote = datagramAddress(address) as UdpAddress;
  }

  /**
   * Sends from one of this machine's addresses, or through one of its interfaces, whatever the socket is bound to
   * (`IP_PKTINFO`). `data` must not change until the promise resolves. The destination is an IP address.
   */
  async sendFrom(
    data: Uint8Array | string,
    address: UdpTarget,
    { source, interface: name }: SendFromOptions,
  ): Promise<number> {
    const bytes = bytesOf(data);
    const to = withPort(ipOf("hostname", address.hostname), checkPort(address.port, 1));
    const from = source === undefined ? null : ipOf("source", source);
    const index = indexOf(name);
    const control = [packetInfoMessage(from, index, to.family === "ipv4" ? 4 : 6)];
    return await this.sendMessage(bytes, { address: to, control });
  }

  /**
   * Joins a multicast group: from now on what is sent there, to the port that is bound, arrives here, too. What goes to
   * groups that other sockets of this machine have joined does not.
   */
  joinGroup(group: string, options: GroupOptions = {}): void {
    this.assertOpen();
    changeMembership(this.fd, true, group, options);
  }

  /** Leaves a multicast group that was joined in the same way. */
  leaveGroup(group: string, options: GroupOptions = {}): void {
    this.assertOpen();
    changeMembership(this.fd, false, group, options);
  }

  /** Which interface datagrams to groups leave through, by its name or its index. */
  setMulticastInterface(name: string | number): void {
    this.assertOpen();
    setMulticastInterface(this.fd, this.#family, indexOf(name));
  }

  /** How many routers datagrams to groups may pass: 0 to 255. */
  setMulticastTtl(ttl: number): void {
    this.assertOpen();
    setMulticastTtl(this.fd, this.#family, ttl);
  }

  /** Whether sockets of this machine get what it sends to groups that they have joined. */
  setMulticastLoopback(on: boolean): void {
    this.assertOpen();
    setMulticastLoopback(this.fd, this.#family, on);
  }

  /** How many routers other datagrams may pass: 1 to 255. */
  setTtl(ttl: number): void {
    this.assertOpen();
    setTtl(this.fd, this.#family, ttl);
  }

  /** Whether it may send to broadcast addresses. */
  setBroadcast(on: boolean): void {
    this.assertOpen();
    setSocketOption(this.fd, SOL_SOCKET, SO_BROADCAST, on ? 1 : 0);
  }

  /**
   * When each datagram left this machine, as it does; they are counted from this call on: Linux 6.17, and a `uring` with
   * `IORING_SETUP_CQE32` or `IORING_SETUP_CQE_MIXED`.
   */
  txTimestamps(): Multishot<TxTimestamp> {
    this.assertOpen();
    const stamps = this.uring.txTimestamps(this.fd);
    const which = SOF_TIMESTAMPING_TX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE | SOF_TIMESTAMPING_OPT_ID |
      SOF_TIMESTAMPING_OPT_TSONLY;
    setSocketOption(this.fd, SOL_SOCKET, SO_TIMESTAMPING, which);
    return stamps;
  }
}

/** What has to be set before the socket is bound, and may be. */
function prepare(fd: number, family: 4 | 6, options: UdpOptions): void {
  const { reuseAddr, reusePort, ipv6Only, broadcast, ttl, gro, packetInfo } = options;
  const { multicastTtl, multicastLoopback, multicastInterface } = options;
  if (family === 6) setSocketOption(fd, IPPROTO_IPV6, IPV6_V6ONLY, ipv6Only === true ? 1 : 0);
  // Otherwise it would get what is sent to groups that any other program of this machine has joined.
  if (family === 6) setSocketOption(fd, IPPROTO_IPV6, IPV6_MULTICAST_ALL, 0);
  else setSocketOption(fd, IPPROTO_IP, IP_MULTICAST_ALL, 0);
  if (reuseAddr === true) setSocketOption(fd, SOL_SOCKET, SO_REUSEADDR, 1);
  if (reusePort === true) setSocketOption(fd, SOL_SOCKET, SO_REUSEPORT, 1);
  if (broadcast === true) setSocketOption(fd, SOL_SOCKET, SO_BROADCAST, 1);
  if (gro === true) setSocketOption(fd, SOL_UDP, UDP_GRO, 1);
  if (packetInfo === true) {
    if (family === 4) setSocketOption(fd, IPPROTO_IP, IP_PKTINFO, 1);
    else setSocketOption(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
  }
  if (ttl !== undefined) setTtl(fd, family, ttl);
  if (multicastTtl !== undefined) setMulticastTtl(fd, family, multicastTtl);
  if (multicastLoopback !== undefined) setMulticastLoopback(fd, family, multicastLoopback);
  if (multicastInterface !== undefined) setMulticastInterface(fd, family, indexOf(multicastInterface));
}

/**
 * Makes a UDP socket: bound when this returns; Linux 6.1. With `socket` it calls handlers, otherwise it is read with
 * `receive` and `for await`. It is open, and with handlers keeps the process alive, until it is closed.
 *
 * @throws AddressError with `code` (`EADDRINUSE`, `EADDRNOTAVAIL`…), `address` and `port`; TypeError, RangeError.
 *
 * @example
 * ```ts
 * import { udp } from "uring/net";
 * udp({ port: 9000, socket: { data: (socket, view, address) => socket.trySend(view, address) } });
 *
 * for await (const { data, remoteAddr } of udp({ port: 9001 })) console.log(remoteAddr.hostname, data.length);
 * ```
 */
export function udp(options: UdpOptions = {}): UdpSocket {
  const { count, size, limit, uring } = checkDatagramOptions(options);
  const { hostname = "0.0.0.0", port = 0 } = options;
  const address = bindAddressOf({ hostname, port: checkPort(port) });
  const family = address.family === "ipv4" ? 4 : 6;
  const domain = family === 4 ? AF_INET : AF_INET6;
  const { connect, gro, packetInfo, socket, signal, coalesce = true } = options;
  const remote = connect === undefined
    ? undefined
    : withPort(ipOf("connect.hostname", connect.hostname), checkPort(connect.port, 1));
  const fd = openDatagram(domain, address, options, (fd) => {
    prepare(fd, family, options);
  });
  return opened(fd, () => {
    if (remote !== undefined) withAddress("connect", fd, remote);
    const controlRoom = (gro === true ? GRO_SPACE : 0) + (packetInfo === true ? PACKET_INFO_SPACE : 0);
    const spec: DatagramSpec<UdpSocket> = {
      uring,
      fd,
      room: { count, size, nameRoom: addressRoom(domain), controlRoom },
      limit,
      runs: coalesce,
      handlers: socket as DatagramSpec<UdpSocket>["handlers"],
      signal,
      closed: () => Promise.resolve(),
    };
    return new UdpSocket(
      spec,
      family,
      remote === undefined ? undefined : datagramAddress(remote) as UdpAddress,
    );
  });
}
