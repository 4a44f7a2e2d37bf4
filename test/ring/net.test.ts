/** Sockets on the loopback, from `socket` to `shutdown`, by descriptor and by direct descriptor. */
import assert from "node:assert/strict";
import { sockaddr_in } from "../../src/ffi/structs.ts";
import { check } from "../../src/ffi/errors.ts";
import { system } from "../../src/ffi/system.ts";
import {
  AF_INET,
  bufRingAdd,
  bufRingAdvance,
  bufRingMask,
  IORING_ACCEPT_MULTISHOT,
  IORING_CQE_F_BUFFER,
  IORING_CQE_F_MORE,
  IORING_FILE_INDEX_ALLOC,
  IORING_OP_ACCEPT,
  IORING_OP_BIND,
  IORING_OP_CONNECT,
  IORING_OP_LISTEN,
  IORING_OP_RECV,
  IORING_OP_SEND,
  IORING_OP_SHUTDOWN,
  IORING_OP_SOCKET,
  IOSQE_BUFFER_SELECT,
  IOSQE_FIXED_FILE,
  IOSQE_IO_LINK,
  Mapping,
  MSG_NOSIGNAL,
  MSG_WAITALL,
  type Ring,
  SHUT_RDWR,
  SHUT_WR,
  SOCK_CLOEXEC,
  SOCK_STREAM,
} from "../../src/ring/mod.ts";
import { Fd } from "../support/descriptors.ts";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import {
  assertEntry,
  assertQuiet,
  type Block,
  block,
  blockOf,
  entry,
  forEachKind,
  makeRing,
  missingOp,
  once,
  reap,
  reapResults,
  text,
  timespec,
} from "../support/rings.ts";

checkLeaks();

const EPIPE = -32;
const ENOTCONN = -107;
const ECONNREFUSED = -111;
const ECANCELED = -125;
const ETIME = -62;

const noBind = firstReason(
  missingOp(IORING_OP_BIND),
  missingOp(IORING_OP_LISTEN),
  missingOp(IORING_OP_SOCKET),
);

/** `127.0.0.1:port`. */
function loopback(port: number): Block {
  const made = block(sockaddr_in.size);
  made.view.setUint16(sockaddr_in.sin_family, AF_INET, true);
  made.view.setUint16(sockaddr_in.sin_port, port, false);
  made.bytes.set([127, 0, 0, 1], sockaddr_in.sin_addr);
  return made;
}

function portOf(fd: number): number {
  const address = new Uint8Array(new ArrayBuffer(sockaddr_in.size));
  const length = Int32Array.of(sockaddr_in.size);
  check(system().rare.getsockname(fd, address, length), "getsockname");
  return new DataView(address.buffer).getUint16(sockaddr_in.sin_port, false);
}

function socket(ring: Ring): Fd {
  return new Fd(
    check(once(ring, (sqe) => sqe.prepSocket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0, 0)).res, "socket"),
  );
}

/** A listening socket, and its address. */
function listener(ring: Ring): { fd: Fd; address: Block; port: number } {
  const fd = socket(ring);
  const any = loopback(0);
  assert.equal(once(ring, (sqe) => sqe.prepBind(fd.fd, any.address, sockaddr_in.size)).res, 0);
  assert.equal(once(ring, (sqe) => sqe.prepListen(fd.fd, 16)).res, 0);
  const port = portOf(fd.fd);
  return { fd, address: loopback(port), port };
}

/** Two ends of a connection. */
function connection(ring: Ring): [Fd, Fd] {
  const { fd: server, address } = listener(ring);
  using _server = server;
  const client = socket(ring);
  entry(ring, 1, (sqe) => sqe.prepAccept(server.fd, 0, 0, SOCK_CLOEXEC));
  entry(ring, 2, (sqe) => sqe.prepConnect(client.fd, address.address, sockaddr_in.size));
  const results = reapResults(ring, 2);
  assert.equal(results.get(2), 0);
  return [client, new Fd(check(results.get(1)!, "accept"))];
}

forEachKind(({ name, options, skip: noRing }) => {
  const skip = firstReason(noRing, noBind);

  test(`${name}: socket, bind, listen, accept, connect, send, receive, shut down`, { skip }, () => {
    using ring = makeRing(8, options);
    const type = SOCK_STREAM | SOCK_CLOEXEC;
    const making = entry(ring, 1, (sqe) => sqe.prepSocket(AF_INET, type, 0, 0));
    assertEntry(making, { opcode: IORING_OP_SOCKET, fd: AF_INET, off: BigInt(type) });
    using server = new Fd(reap(ring, 1)[0]!.res);
    const any = loopback(0);
    const size = sockaddr_in.size;
    const binding = entry(ring, 2, (sqe) => sqe.prepBind(server.fd, any.address, size));
    assertEntry(binding, {
      opcode: IORING_OP_BIND,
      fd: server.fd,
      addr: BigInt(any.address),
      off: BigInt(size),
    });
    assert.equal(reap(ring, 1)[0]!.res, 0);
    const listening = entry(ring, 3, (sqe) => sqe.prepListen(server.fd, 16));
    assertEntry(listening, { opcode: IORING_OP_LISTEN, fd: server.fd, len: 16 });
    assert.equal(reap(ring, 1)[0]!.res, 0);

    using client = socket(ring);
    const address = loopback(portOf(server.fd));
    const peer = block(size);
    const peerLength = block(4);
    peerLength.view.setUint32(0, size, true);
    const accepting = entry(ring, 4, (sqe) => {
      sqe.prepAccept(server.fd, peer.address, peerLength.address, SOCK_CLOEXEC);
    });
    assertEntry(accepting, {
      opcode: IORING_OP_ACCEPT,
      fd: server.fd,
      addr: BigInt(peer.address),
      off: BigInt(peerLength.address),
      opFlags: SOCK_CLOEXEC,
    });
    const connecting = entry(ring, 5, (sqe) => sqe.prepConnect(client.fd, address.address, size));
    assertEntry(connecting, {
      opcode: IORING_OP_CONNECT,
      fd: client.fd,
      addr: BigInt(address.address),
      off: BigInt(size),
    });
    const results = reapResults(ring, 2);
    assert.equal(results.get(5), 0);
    using accepted = new Fd(check(results.get(4)!, "accept"));
    assert.equal(peer.view.getUint16(sockaddr_in.sin_port, false), portOf(client.fd));
    assert.equal(peerLength.view.getUint32(0, true), size);

    const message = blockOf("over the wire");
    const buffer = block(64);
    const receiving = entry(ring, 6, (sqe) => sqe.prepRecv(accepted.fd, buffer.address, 64, 0));
    assertEntry(receiving, {
      opcode: IORING_OP_RECV,
      fd: accepted.fd,
      addr: BigInt(buffer.address),
      len: 64,
    });
    const sending = entry(ring, 7, (sqe) => sqe.prepSend(client.fd, message.address, 13, MSG_NOSIGNAL));
    assertEntry(sending, {
      opcode: IORING_OP_SEND,
      fd: client.fd,
      addr: BigInt(message.address),
      len: 13,
      opFlags: MSG_NOSIGNAL,
    });
    assert.deepEqual([...reapResults(ring, 2)].sort(), [[6, 13], [7, 13]]);
    assert.equal(text(buffer, 13), "over the wire");

    const shutting = entry(ring, 8, (sqe) => sqe.prepShutdown(client.fd, SHUT_WR));
    assertEntry(shutting, { opcode: IORING_OP_SHUTDOWN, fd: client.fd, len: SHUT_WR });
    assert.equal(reap(ring, 1)[0]!.res, 0);
    assert.equal(once(ring, (sqe) => sqe.prepRecv(accepted.fd, buffer.address, 64, 0)).res, 0);
    const late = once(ring, (sqe) => sqe.prepSend(client.fd, message.address, 13, MSG_NOSIGNAL));
    assert.equal(late.res, EPIPE);
  });

  test(`${name}: a multishot accept takes connection after connection`, { skip }, () => {
    using ring = makeRing(8, options);
    const { fd, address } = listener(ring);
    using server = fd;
    const sqe = entry(ring, 50, (sqe) => sqe.prepMultishotAccept(server.fd, 0, 0, SOCK_CLOEXEC));
    assertEntry(sqe, {
      opcode: IORING_OP_ACCEPT,
      ioprio: IORING_ACCEPT_MULTISHOT,
      fd: server.fd,
      opFlags: SOCK_CLOEXEC,
    });
    ring.submit();
    for (let i = 0; i < 4; i++) {
      using client = socket(ring);
      entry(ring, i, (sqe) => sqe.prepConnect(client.fd, address.address, sockaddr_in.size));
      const found = reap(ring, 2);
      const accepted = found.find(({ userData }) => userData === 50)!;
      assert.ok(accepted.res >= 0);
      assert.equal(accepted.flags & IORING_CQE_F_MORE, IORING_CQE_F_MORE);
      new Fd(accepted.res).close();
    }
    entry(ring, 51, (sqe) => sqe.prepCancel64(50, 0));
    const last = reap(ring, 2);
    assert.deepEqual(last.map(({ userData, res, flags }) => [userData, res, flags]).sort(), [
      [50, ECANCELED, 0],
      [51, 0, 0],
    ]);
  });

  test(`${name}: a multishot receive fills provided buffers`, { skip }, () => {
    using ring = makeRing(8, options);
    using memory = Mapping.anonymous(4096);
    const bufRing = ring.setupBufRing(8, 2);
    for (let bid = 0; bid < 8; bid++) {
      bufRingAdd(bufRing, memory.address + bid * 16, 16, bid, bufRingMask(8), bid);
    }
    bufRingAdvance(bufRing, 8);
    const [client, accepted] = connection(ring);
    using _client = client;
    using _accepted = accepted;
    const sqe = entry(ring, 5, (sqe) => sqe.prepRecvMultishot(accepted.fd, 0, 0, 0));
    sqe.flags = IOSQE_BUFFER_SELECT;
    sqe.bufGroup = 2;
    ring.submit();
    let received = "";
    const message = blockOf("forty bytes are two and a half buffers..");
    entry(ring, 6, (sqe) => sqe.prepSend(client.fd, message.address, 40, 0));
    let sent = 0;
    while (received.length < 40 || sent === 0) {
      const { userData, res, flags } = reap(ring, 1)[0]!;
      if (userData === 6) sent = res;
      else {
        assert.ok(res > 0 && res <= 16);
        assert.equal(flags & IORING_CQE_F_BUFFER, IORING_CQE_F_BUFFER);
        assert.equal(flags & IORING_CQE_F_MORE, IORING_CQE_F_MORE);
        received += new TextDecoder().decode(new Uint8Array(memory.buffer, (flags >>> 16) * 16, res));
      }
    }
    assert.equal(sent, 40);
    assert.equal(received, text(message));
    entry(ring, 7, (sqe) => sqe.prepShutdown(client.fd, SHUT_RDWR));
    const ends = reap(ring, 2).map(({ userData, res, flags }) => [userData, res, flags & IORING_CQE_F_MORE]);
    assert.deepEqual(ends.sort(), [[5, 0, 0], [7, 0, 0]]);
    assertQuiet(ring);
  });

  test(`${name}: connections that only the ring has`, { skip }, () => {
    using ring = makeRing(8, options);
    ring.registerFilesSparse(4);
    const { fd, address } = listener(ring);
    using server = fd;
    const made = once(ring, (sqe) => sqe.prepSocketDirect(AF_INET, SOCK_STREAM, 0, 1, 0));
    assert.equal(made.res, 0);
    entry(ring, 1, (sqe) => sqe.prepAcceptDirect(server.fd, 0, 0, 0, 2));
    entry(ring, 2, (sqe) => {
      sqe.prepConnect(1, address.address, sockaddr_in.size);
      sqe.flags = IOSQE_FIXED_FILE;
    });
    assert.deepEqual([...reapResults(ring, 2)].sort(), [[1, 0], [2, 0]]);
    const message = blockOf("direct");
    const buffer = block(6);
    entry(ring, 3, (sqe) => {
      sqe.prepSend(1, message.address, 6, 0);
      sqe.flags = IOSQE_FIXED_FILE | IOSQE_IO_LINK;
    });
    entry(ring, 4, (sqe) => {
      sqe.prepRecv(2, buffer.address, 6, MSG_WAITALL);
      sqe.flags = IOSQE_FIXED_FILE;
    });
    assert.deepEqual([...reapResults(ring, 2)].sort(), [[3, 6], [4, 6]]);
    assert.equal(text(buffer), "direct");
    const allocated = once(ring, (sqe) => sqe.prepSocketDirectAlloc(AF_INET, SOCK_STREAM, 0, 0)).res;
    assert.ok([0, 3].includes(allocated), `${allocated}`);
    for (const slot of [1, 2, allocated]) {
      assert.equal(once(ring, (sqe) => sqe.prepCloseDirect(slot)).res, 0);
    }
  });

  test(`${name}: a multishot accept into slots`, { skip }, () => {
    using ring = makeRing(8, options);
    ring.registerFilesSparse(4);
    const { fd, address } = listener(ring);
    using server = fd;
    const sqe = entry(ring, 50, (sqe) => sqe.prepMultishotAcceptDirect(server.fd, 0, 0, 0));
    assertEntry(sqe, {
      opcode: IORING_OP_ACCEPT,
      ioprio: IORING_ACCEPT_MULTISHOT,
      fd: server.fd,
      fileIndex: IORING_FILE_INDEX_ALLOC,
    });
    ring.submit();
    const slots: number[] = [];
    for (let i = 0; i < 3; i++) {
      using client = socket(ring);
      entry(ring, i, (sqe) => sqe.prepConnect(client.fd, address.address, sockaddr_in.size));
      slots.push(reapResults(ring, 2).get(50)!);
    }
    assert.deepEqual(slots.toSorted(), [...new Set(slots)].toSorted());
    assert.ok(slots.every((slot) => slot >= 0 && slot < 4));
    entry(ring, 51, (sqe) => sqe.prepCancel64(50, 0));
    reap(ring, 2);
  });

  test(`${name}: what goes wrong is told`, { skip }, () => {
    using ring = makeRing(8, options);
    const { fd, address } = listener(ring);
    fd.close();
    using client = socket(ring);
    const refused = once(ring, (sqe) => sqe.prepConnect(client.fd, address.address, sockaddr_in.size));
    assert.equal(refused.res, ECONNREFUSED);
    using other = socket(ring);
    const buffer = block(4);
    assert.equal(once(ring, (sqe) => sqe.prepRecv(other.fd, buffer.address, 4, 0)).res, ENOTCONN);
    assert.equal(once(ring, (sqe) => sqe.prepShutdown(other.fd, SHUT_WR)).res, ENOTCONN);
  });

  test(`${name}: an accept that nobody comes to is ended by its time limit`, { skip }, () => {
    using ring = makeRing(8, options);
    const { fd } = listener(ring);
    using server = fd;
    entry(ring, 1, (sqe) => {
      sqe.prepAccept(server.fd, 0, 0, 0);
      sqe.flags = IOSQE_IO_LINK;
    });
    const ts = timespec(2);
    entry(ring, 2, (sqe) => sqe.prepLinkTimeout(ts, 0));
    assert.deepEqual([...reapResults(ring, 2)].sort(), [[1, ECANCELED], [2, ETIME]]);
  });

  test(`${name}: MSG_WAITALL waits for the whole`, { skip }, () => {
    using ring = makeRing(8, options);
    const [client, accepted] = connection(ring);
    using _client = client;
    using _accepted = accepted;
    const buffer = block(12);
    entry(ring, 1, (sqe) => sqe.prepRecv(accepted.fd, buffer.address, 12, MSG_WAITALL));
    ring.submit();
    const parts = [blockOf("one "), blockOf("two "), blockOf("six.")];
    for (const part of parts) {
      assertQuiet(ring);
      entry(ring, 2, (sqe) => sqe.prepSend(client.fd, part.address, 4, 0));
      const { userData, res } = reap(ring, 1)[0]!;
      if (part !== parts[2]) assert.deepEqual([userData, res], [2, 4]);
      else reap(ring, 1);
    }
    assert.equal(text(buffer), "one two six.");
  });
});
