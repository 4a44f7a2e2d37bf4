/**
 * `unixDatagram`.
 *
 * @module
 */
import { AF_UNIX, SO_PASSCRED, SOL_SOCKET } from "../ffi/abi.ts";
import { CREDENTIALS_SPACE, rightsSpace } from "../loop/cmsg.ts";
import { encodeAddress } from "../loop/sockaddr.ts";
import { Uring } from "../mod.ts";
import {
  addressRoom,
  datagramAddress,
  type UnixDatagramAddress,
  type UnixDatagramTarget,
  unixPath,
} from "./datagram_address.ts";
import {
  checkDatagramOptions,
  type DatagramOptions,
  openDatagram,
  opened,
  withAddress,
} from "./datagram_options.ts";
import { bytesOf } from "./datagram_sender.ts";
import { DatagramSocket } from "./datagram_socket.ts";
import type { DatagramHandlers, DatagramSpec } from "./datagram_types.ts";
import { descriptorNumbers, MOST_DESCRIPTORS, type SendableDescriptor } from "./descriptors.ts";
import { setSocketOption } from "./socket_option.ts";

/** What a Unix datagram socket calls when something happens. */
export type UnixDatagramHandlers = DatagramHandlers<UnixDatagramSocket, UnixDatagramAddress>;

/** Options of {@link unixDatagram}. */
export interface UnixDatagramOptions extends DatagramOptions {
  /**
   * Where it is bound: a path, which is removed when the socket is closed; after a NUL or `@`, a name in Linux's abstract
   * namespace. Default: an abstract name that the kernel picks, so that it can be answered.
   */
  path?: string | undefined;
  /** The only other end: datagrams go there without an address, and those of others do not arrive. */
  connect?: UnixDatagramTarget | undefined;
  /** What is called when something happens; without it, use `receive` and `for await`. */
  socket?: UnixDatagramHandlers | undefined;
  /** Room for so many descriptors with each datagram, up to 253; default 0: those that come are closed. */
  descriptors?: number | undefined;
  /** Tell with each datagram who has sent it (`SO_PASSCRED`), among {@link DatagramInfo.control}; default false. */
  credentials?: boolean | undefined;
}

/**
 * A Unix socket for datagrams: what {@link unixDatagram} makes. None is lost: who sends waits until there is room.
 *
 * @example
 * ```ts
 * import { unixDatagram } from "uring/net";
 * await using server = unixDatagram({ path: "@server", descriptors: 1 });
 * await using client = unixDatagram({ connect: { path: "@server" } });
 * await client.sendDescriptors("take this", [1]);
 * const { descriptors } = await server.receive();
 * using stdout = descriptors[0];
 * ```
 */
export class UnixDatagramSocket
  extends DatagramSocket<UnixDatagramAddress, UnixDatagramTarget, UnixDatagramSocket> {
  readonly #addr: UnixDatagramAddress;

  /** @internal */
  constructor(spec: DatagramSpec<UnixDatagramSocket>) {
    super(spec);
    this.#addr = datagramAddress(this.uring.localAddress(this.fd)) as UnixDatagramAddress;
  }

  /** Where it is bound. */
  override get addr(): UnixDatagramAddress {
    return this.#addr;
  }

  /** @internal */
  protected override lookUp(target: UnixDatagramTarget): Promise<Uint8Array> {
    return Promise.resolve(encodeAddress({ family: "unix", path: unixPath(target.path) }));
  }

  /** Connects it: from now on datagrams go there without an address, and those of others do not arrive. */
  connect(target: UnixDatagramTarget): void {
    this.assertOpen();
    withAddress("connect", this.fd, { family: "unix", path: unixPath(target.path) });
  }

  /**
   * Sends a datagram with descriptors, 1 to 253 (`SCM_RIGHTS`): the receiver gets descriptors of its own, and needs the
   * option `descriptors`. They stay open here; `data` must not change, and they must not be closed, until the promise
   * resolves.
   */
  async sendDescriptors(
    data: Uint8Array | string,
    descriptors: readonly SendableDescriptor[],
    address?: UnixDatagramTarget,
  ): Promise<number> {
    const bytes = bytesOf(data);
    const fds = descriptorNumbers(descriptors);
    return await this.sendMessage(bytes, {
      control: [{ kind: "rights", fds }],
      ...(address === undefined ? {} : { address: { family: "unix", path: unixPath(address.path) } }),
    });
  }
}

/**
 * Makes a Unix socket for datagrams: bound when this returns; Linux 6.0. With `socket` it calls handlers, otherwise it is
 * read with `receive` and `for await`.
 *
 * @throws AddressError with `code` (`EADDRINUSE`…) and `address`; TypeError, RangeError.
 */
export function unixDatagram(options: UnixDatagramOptions = {}): UnixDatagramSocket {
  const { count, size, limit, uring } = checkDatagramOptions(options);
  const { connect, socket, signal, descriptors = 0, credentials } = options;
  if (!Number.isInteger(descriptors) || descriptors < 0 || descriptors > MOST_DESCRIPTORS) {
    throw new RangeError(`descriptors must be an integer from 0 to ${MOST_DESCRIPTORS}, not ${descriptors}`);
  }
  const path = options.path === undefined ? "" : unixPath(options.path);
  const remote = connect === undefined ? undefined : unixPath(connect.path);
  const fd = openDatagram(AF_UNIX, { family: "unix", path }, options, (fd) => {
    if (credentials === true) setSocketOption(fd, SOL_SOCKET, SO_PASSCRED, 1);
  });
  return opened(fd, () => {
    if (remote !== undefined) withAddress("connect", fd, { family: "unix", path: remote });
    return new UnixDatagramSocket({
      uring,
      fd,
      room: {
        count,
        size,
        nameRoom: addressRoom(AF_UNIX),
        controlRoom: rightsSpace(descriptors) + (credentials === true ? CREDENTIALS_SPACE : 0),
      },
      limit,
      runs: false,
      handlers: socket as DatagramSpec<UnixDatagramSocket>["handlers"],
      signal,
      closed: async () => {
        if (path !== "" && !path.startsWith("\0")) await Uring.shared.unlinkat(path).catch(() => {});
      },
    });
  });
}
