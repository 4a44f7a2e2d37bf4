/** Making sockets, binding and connecting: what liburing's programs of this name check. */
import assert from "node:assert/strict";
import {
  AF_INET,
  IORING_FILE_INDEX_ALLOC,
  IORING_OP_BIND,
  IORING_OP_FIXED_FD_INSTALL,
  IORING_OP_LISTEN,
  IORING_OP_SOCKET,
  IORING_SETUP_SQPOLL,
  IORING_SETUP_SUBMIT_ALL,
  IOSQE_ASYNC,
  IOSQE_FIXED_FILE,
  IOSQE_IO_LINK,
  type Ring,
  SHUT_RDWR,
  SO_REUSEADDR,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOCK_STREAM,
  SOCKET_URING_OP_SETSOCKOPT,
  SOL_SOCKET,
} from "../../src/ring/mod.ts";
import { check } from "../../src/ffi/errors.ts";
import { kernelHas } from "../../src/ffi/kernel.ts";
import { Fd, Pipe } from "../support/descriptors.ts";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import {
  assertQuiet,
  block,
  blockOf,
  entry,
  forEachKind,
  makeRing,
  missingOp,
  once,
  reap,
  reapResults,
  sleep,
  text,
  timespec,
} from "../support/rings.ts";
import { ADDRESS_SIZE, Bound, loopback, peerPortOf, portOf, takeError, tcp } from "../support/sockets.ts";

checkLeaks();

const EINVAL = -22;
const ETIME = -62;
const ENOTSOCK = -88;
const EOPNOTSUPP = -95;
const EAFNOSUPPORT = -97;
const ENETUNREACH = -101;
const ECONNRESET = -104;
const ENOTCONN = -107;
const ECONNREFUSED = -111;
const ECANCELED = -125;

const noBind = firstReason(
  missingOp(IORING_OP_BIND),
  missingOp(IORING_OP_LISTEN),
  missingOp(IORING_OP_SOCKET),
  missingOp(IORING_OP_FIXED_FD_INSTALL),
);
const noSockname = kernelHas("6.19") ? false : "SOCKET_URING_OP_GETSOCKNAME needs Linux 6.19";

/** A listener whose queue is full: whoever connects waits. */
function stalled(): { listener: Bound; first: Fd } {
  const listener = Bound.listening(0, 0);
  return { listener, first: listener.dial() };
}

/** The ports of a direct descriptor: its own, and its other end's. */
function portsOfSlot(ring: Ring, slot: number): { own: number; peer: () => number; fd: Fd } {
  const fd = new Fd(check(once(ring, (sqe) => sqe.prepFixedFdInstall(slot, 0)).res, "fd_install"));
  return { own: portOf(fd.fd), peer: () => peerPortOf(fd.fd), fd };
}

forEachKind(({ name, options, skip }) => {
  test(`liburing connect: ${name}: nobody listens`, { skip }, () => {
    using ring = makeRing(8, options);
    using nobody = Bound.tcp();
    using client = tcp();
    const { address } = nobody.address;
    assert.equal(once(ring, (sqe) => sqe.prepConnect(client.fd, address, ADDRESS_SIZE)).res, ECONNREFUSED);
  });

  test(`liburing connect: ${name}: somebody listens, at once and in a worker thread`, { skip }, () => {
    using ring = makeRing(8, options);
    using listener = Bound.listening();
    for (const flags of [0, IOSQE_ASYNC]) {
      using client = tcp();
      const { res } = once(ring, (sqe) => {
        sqe.prepConnect(client.fd, listener.address.address, ADDRESS_SIZE);
        sqe.flags = flags;
      });
      assert.equal(res, 0);
      assert.equal(peerPortOf(client.fd), listener.port);
    }
  });

  test(`liburing connect: ${name}: a time limit ends a connect that waits`, { skip }, () => {
    using ring = makeRing(8, options);
    const { listener, first } = stalled();
    using _listener = listener;
    using _first = first;
    using client = tcp();
    const limit = timespec(1);
    entry(ring, 1, (sqe) => {
      sqe.prepConnect(client.fd, listener.address.address, ADDRESS_SIZE);
      sqe.flags = IOSQE_IO_LINK;
    });
    entry(ring, 2, (sqe) => sqe.prepLinkTimeout(limit, 0));
    assert.deepEqual([...reapResults(ring, 2)].sort(), [[1, ECANCELED], [2, ETIME]]);
  });

  test(`liburing conn-unreach: ${name}: a shutdown ends a connect that waits`, { skip }, () => {
    using ring = makeRing(8, options);
    const { listener, first } = stalled();
    using _listener = listener;
    using _first = first;
    using client = tcp(SOCK_NONBLOCK);
    entry(ring, 1, (sqe) => sqe.prepConnect(client.fd, listener.address.address, ADDRESS_SIZE));
    ring.submit();
    sleep(20);
    assertQuiet(ring);
    entry(ring, 2, (sqe) => sqe.prepShutdown(client.fd, SHUT_RDWR));
    const results = reapResults(ring, 2);
    assert.ok([ECONNRESET, ENETUNREACH].includes(results.get(1)!), `${results.get(1)}`);
    assert.ok([0, ENOTCONN].includes(results.get(2)!), `${results.get(2)}`);
    assert.equal(takeError(client.fd), 0, "nothing is left to tell");
  });

  test(`liburing connect-rep: ${name}: a refused connect is refused again and again`, { skip }, () => {
    using ring = makeRing(8, options);
    using nobody = Bound.tcp();
    using client = Bound.tcp();
    if ((ring.flags & IORING_SETUP_SQPOLL) !== 0) sleep(20);
    const address = loopback(nobody.port);
    const right = address.bytes.slice();
    for (let i = 0; i < 32; i++) {
      address.bytes.set(right);
      entry(ring, i, (sqe) => sqe.prepConnect(client.fd, address.address, ADDRESS_SIZE));
      ring.submitAndWait(1);
      // The address was copied.
      address.bytes.fill(0xff);
      assert.deepEqual(reap(ring, 1), [{ userData: i, res: ECONNREFUSED, flags: 0 }]);
    }
  });

  test(`liburing bind-listen: ${name}: a server and a client, of slots and chains`, {
    skip: firstReason(skip, noBind),
  }, () => {
    const [SERVER, CLIENT, ACCEPTED] = [0, 1, 2] as const;
    const fixed = IOSQE_FIXED_FILE;
    const flags = (options.flags ?? 0) | IORING_SETUP_SUBMIT_ALL;
    using ring = makeRing(16, { ...options, flags });
    ring.registerFiles([-1, -1, -1]);
    const one = block(4);
    one.view.setInt32(0, 1, true);
    const any = loopback();
    entry(ring, 1, (sqe) => {
      sqe.prepSocketDirect(AF_INET, SOCK_STREAM, 0, SERVER, 0);
      sqe.flags |= IOSQE_IO_LINK;
    });
    entry(ring, 2, (sqe) => {
      sqe.prepCmdSock(SOCKET_URING_OP_SETSOCKOPT, SERVER, SOL_SOCKET, SO_REUSEADDR, one.address, 4);
      sqe.flags |= fixed | IOSQE_IO_LINK;
    });
    entry(ring, 3, (sqe) => {
      sqe.prepBind(SERVER, any.address, ADDRESS_SIZE);
      sqe.flags |= fixed | IOSQE_IO_LINK;
    });
    entry(ring, 4, (sqe) => {
      sqe.prepListen(SERVER, 1);
      sqe.flags |= fixed;
    });
    assert.deepEqual([...reapResults(ring, 4)].sort(), [[1, 0], [2, 0], [3, 0], [4, 0]]);

    const server = portsOfSlot(ring, SERVER);
    using _server = server.fd;
    assert.ok(server.own > 0);
    const address = loopback(server.own);
    const magic = blockOf("Hello World!");
    entry(ring, 5, (sqe) => {
      sqe.prepSocketDirect(AF_INET, SOCK_STREAM, 0, CLIENT, 0);
      sqe.flags |= IOSQE_IO_LINK;
    });
    entry(ring, 6, (sqe) => {
      sqe.prepConnect(CLIENT, address.address, ADDRESS_SIZE);
      sqe.flags |= fixed | IOSQE_IO_LINK;
    });
    entry(ring, 7, (sqe) => {
      sqe.prepSend(CLIENT, magic.address, 12, 0);
      sqe.flags |= fixed;
    });
    assert.deepEqual([...reapResults(ring, 3)].sort(), [[5, 0], [6, 0], [7, 12]]);
    const accepted = once(ring, (sqe) => {
      sqe.prepAcceptDirect(SERVER, 0, 0, 0, ACCEPTED);
      sqe.flags |= fixed;
    });
    assert.equal(accepted.res, 0);
    const client = portsOfSlot(ring, CLIENT);
    using _client = client.fd;
    assert.equal(client.peer(), server.own);
    const buffer = block(1024);
    const received = once(ring, (sqe) => {
      sqe.prepRecv(ACCEPTED, buffer.address, 1024, 0);
      sqe.flags |= fixed;
    });
    assert.equal(received.res, 12);
    assert.equal(text(buffer, 12), "Hello World!");
  });

  test(`liburing bind-listen: ${name}: wrong binds and listens`, { skip: firstReason(skip, noBind) }, () => {
    using ring = makeRing(2, options);
    using pipe = new Pipe();
    using socket = tcp();
    const any = loopback();
    const { address } = any;
    assert.equal(once(ring, (sqe) => sqe.prepBind(socket.fd, address, 0)).res, EINVAL);
    assert.equal(once(ring, (sqe) => sqe.prepBind(pipe.reader.fd, address, ADDRESS_SIZE)).res, ENOTSOCK);
    const flagged = once(ring, (sqe) => {
      sqe.prepBind(socket.fd, address, ADDRESS_SIZE);
      sqe.opFlags = 1;
    });
    assert.equal(flagged.res, EINVAL);
    assert.equal(once(ring, (sqe) => sqe.prepListen(pipe.reader.fd, 1)).res, ENOTSOCK);
    const offset = once(ring, (sqe) => {
      sqe.prepListen(socket.fd, 1);
      sqe.off = 0xff_ffff;
    });
    assert.equal(offset.res, EINVAL);
  });

  test(`liburing bind-listen: ${name}: names by the ring`, { skip: firstReason(skip, noSockname) }, () => {
    using ring = makeRing(2, options);
    using pipe = new Pipe();
    using listener = Bound.listening();
    using client = listener.dial();
    const address = block(ADDRESS_SIZE);
    const size = block(4);
    size.view.setUint32(0, ADDRESS_SIZE, true);
    const name_ = (fd: number, peer: number): number =>
      once(ring, (sqe) => sqe.prepCmdGetsockname(fd, address.address, size.address, peer)).res;
    assert.equal(name_(listener.fd, 0), 0);
    assert.deepEqual(address.bytes, listener.address.bytes);
    address.bytes.fill(0);
    assert.equal(name_(client.fd, 1), 0);
    assert.deepEqual(address.bytes, listener.address.bytes);
    assert.equal(name_(pipe.reader.fd, 0), EOPNOTSUPP);
    assert.equal(name_(client.fd, 3), EINVAL);
  });

  test(`liburing bind-listen: ${name}: a kernel that cannot name them says so`, {
    skip: firstReason(skip, noSockname === false && "this kernel can"),
  }, () => {
    using ring = makeRing(2, options);
    using listener = Bound.listening();
    const address = block(ADDRESS_SIZE);
    const size = block(4);
    size.view.setUint32(0, ADDRESS_SIZE, true);
    const { res } = once(ring, (sqe) => {
      sqe.prepCmdGetsockname(listener.fd, address.address, size.address, 0);
    });
    assert.equal(res, EOPNOTSUPP);
  });

  for (const registered of [false, true]) {
    const to = registered ? "a registered file" : "a descriptor";
    test(`liburing socket: ${name}: made, connected and sent from, received by ${to}`, { skip }, () => {
      using receiver = makeRing(8, options);
      using udp = Bound.udp();
      const MESSAGE = "This is a test of send and recv over io_uring!";
      const message = blockOf(MESSAGE);
      const buffer = block(128);
      if (registered) receiver.registerFiles([udp.fd]);
      for (const how of ["descriptor", "slot", "any slot"] as const) {
        buffer.bytes.fill(0);
        entry(receiver, 2, (sqe) => {
          sqe.prepRecv(registered ? 0 : udp.fd, buffer.address, 128, 0);
          if (registered) sqe.flags = IOSQE_FIXED_FILE;
        });
        receiver.submit();
        using ring = makeRing(8, options);
        ring.registerFiles([-1]);
        const made = once(ring, (sqe) => {
          if (how === "descriptor") sqe.prepSocket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0, 0);
          else if (how === "slot") sqe.prepSocketDirect(AF_INET, SOCK_DGRAM, 0, 0, 0);
          else sqe.prepSocketDirect(AF_INET, SOCK_DGRAM, 0, IORING_FILE_INDEX_ALLOC, 0);
        });
        assert.ok(made.res >= 0, `${made.res}`);
        const flags = how === "descriptor" ? 0 : IOSQE_FIXED_FILE;
        if (how !== "descriptor") assert.equal(made.res, 0);
        using _socket = how === "descriptor" ? new Fd(made.res) : null;
        const connected = once(ring, (sqe) => {
          sqe.prepConnect(made.res, udp.address.address, ADDRESS_SIZE);
          sqe.flags = flags;
        });
        assert.equal(connected.res, 0);
        const sent = once(ring, (sqe) => {
          sqe.prepSend(made.res, message.address, MESSAGE.length, 0);
          sqe.flags = flags;
        });
        assert.equal(sent.res, MESSAGE.length);
        assert.deepEqual(reap(receiver, 1), [{ userData: 2, res: MESSAGE.length, flags: 0 }]);
        assert.equal(text(buffer, MESSAGE.length), MESSAGE);
      }
    });
  }

  test(`liburing socket: ${name}: of no family`, { skip }, () => {
    using ring = makeRing(2, options);
    assert.equal(once(ring, (sqe) => sqe.prepSocket(-1, SOCK_DGRAM, 0, 0)).res, EAFNOSUPPORT);
  });
});
