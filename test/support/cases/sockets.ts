/**
 * Operations on sockets.
 *
 * @module
 */
import assert from "node:assert/strict";
import {
  AF_INET,
  AF_UNIX,
  IORING_OP_ACCEPT,
  IORING_OP_BIND,
  IORING_OP_CONNECT,
  IORING_OP_LISTEN,
  IORING_OP_RECV,
  IORING_OP_RECVMSG,
  IORING_OP_SEND,
  IORING_OP_SEND_ZC,
  IORING_OP_SENDMSG,
  IORING_OP_SENDMSG_ZC,
  IORING_OP_SHUTDOWN,
  IORING_OP_SOCKET,
  IORING_OP_URING_CMD,
  SHUT_WR,
  SO_REUSEADDR,
  SO_TYPE,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_STREAM,
  SOL_SOCKET,
} from "../../../src/ffi/abi.ts";
import { check } from "../../../src/ffi/errors.ts";
import type { RegisteredBuffer, SocketAddress, Uring } from "../../../src/mod.ts";
import { Fd } from "../descriptors.ts";
import { libc } from "../libc.ts";
import { SocketPair } from "../loop.ts";
import { bytes, LOOPBACK, text } from "../operations.ts";
import { Bound, portOf, tcp } from "../sockets.ts";
import { type OperationCase, owned } from "./case.ts";

/** A TCP socket that listens, made without the library. */
function listening(): { socket: Bound; address: SocketAddress } {
  const socket = Bound.tcp();
  check(libc().listen(socket.fd, 8), "listen");
  return { socket, address: { family: "ipv4", address: "127.0.0.1", port: socket.port } };
}

/** A TCP connection to a listening socket, made without the library. */
function connected(to: Bound): Fd {
  const client = tcp();
  check(libc().connect(client.fd, to.address.bytes, to.address.bytes.length), "connect");
  return client;
}

/** What has arrived at a socket, taken without the library. */
function received(fd: number): string {
  const buffer = new Uint8Array(100);
  return text(buffer, check(libc().recv(fd, buffer, 100, 0), "recv"));
}

/** Sends `hello` out of a registered buffer over a connection made without the library. */
async function overTcp(
  uring: Uring,
  send: (client: number, buffer: RegisteredBuffer) => Promise<void>,
): Promise<void> {
  using socket = listening().socket;
  using client = connected(socket);
  using server = new Fd(check(libc().accept4(socket.fd, null, null, SOCK_CLOEXEC), "accept4"));
  await using buffer = uring.registerBuffer(4096);
  buffer.bytes.set(bytes("(hello)"));
  await send(client.fd, buffer);
  assert.equal(received(server.fd), "hello");
}

/** Sockets. */
export const SOCKET_CASES: readonly OperationCase[] = [
  {
    method: "socket",
    op: IORING_OP_SOCKET,
    run: async (uring) => {
      using made = await owned(uring.socket(AF_UNIX, SOCK_STREAM));
      assert.equal(libc().listen(made.fd, 1), -22, "it is no socket");
    },
  },
  {
    method: "bind",
    op: IORING_OP_BIND,
    run: async (uring) => {
      using socket = tcp();
      await uring.bind(socket.fd, LOOPBACK);
      assert.ok(portOf(socket.fd) > 0);
    },
  },
  {
    method: "listen",
    op: IORING_OP_LISTEN,
    run: async (uring) => {
      using socket = Bound.tcp();
      await uring.listen(socket.fd, 1);
      using client = connected(socket);
      assert.ok(client.fd > 0);
    },
  },
  {
    method: "accept",
    op: IORING_OP_ACCEPT,
    run: async (uring) => {
      using socket = listening().socket;
      using client = connected(socket);
      using server = await owned(uring.accept(socket.fd));
      check(libc().send(client.fd, bytes("hello"), 5, 0), "send");
      assert.equal(received(server.fd), "hello");
    },
  },
  {
    method: "acceptFrom",
    op: IORING_OP_ACCEPT,
    run: async (uring) => {
      using socket = listening().socket;
      using client = connected(socket);
      const { fd, address } = await uring.acceptFrom(socket.fd);
      using _server = new Fd(Number(fd));
      assert.deepEqual(address, { family: "ipv4", address: "127.0.0.1", port: portOf(client.fd) });
    },
  },
  {
    method: "connect",
    op: IORING_OP_CONNECT,
    run: async (uring) => {
      const { socket, address } = listening();
      using _socket = socket;
      using client = tcp();
      await uring.connect(client.fd, address);
      using server = new Fd(check(libc().accept4(socket.fd, null, null, SOCK_CLOEXEC), "accept4"));
      check(libc().send(client.fd, bytes("hello"), 5, 0), "send");
      assert.equal(received(server.fd), "hello");
    },
  },
  {
    method: "send",
    op: IORING_OP_SEND,
    run: async (uring) => {
      using pair = new SocketPair();
      assert.equal(await uring.send(pair.a.fd, bytes("hello")), 5);
      assert.equal(received(pair.b.fd), "hello");
    },
  },
  {
    method: "recv",
    op: IORING_OP_RECV,
    run: async (uring) => {
      using pair = new SocketPair();
      const buffer = new Uint8Array(10);
      const receiving = uring.recv(pair.a.fd, buffer);
      check(libc().send(pair.b.fd, bytes("hello"), 5, 0), "send");
      assert.equal(await receiving, 5);
      assert.equal(text(buffer, 5), "hello");
    },
  },
  {
    method: "shutdown",
    op: IORING_OP_SHUTDOWN,
    run: async (uring) => {
      using pair = new SocketPair();
      await uring.shutdown(pair.a.fd, SHUT_WR);
      assert.equal(received(pair.b.fd), "");
    },
  },
  {
    method: "sendto",
    op: IORING_OP_SEND,
    kernel: "6.1",
    run: async (uring) => {
      using to = Bound.udp();
      using from = new Fd(check(libc().socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket"));
      const address: SocketAddress = { family: "ipv4", address: "127.0.0.1", port: to.port };
      assert.equal(await uring.sendto(from.fd, bytes("hello"), address), 5);
      assert.equal(received(to.fd), "hello");
    },
  },
  {
    method: "sendmsg",
    op: IORING_OP_SENDMSG,
    run: async (uring) => {
      using pair = new SocketPair();
      assert.equal(await uring.sendmsg(pair.a.fd, [bytes("hel"), bytes("lo")]), 5);
      assert.equal(received(pair.b.fd), "hello");
    },
  },
  {
    method: "recvmsg",
    op: IORING_OP_RECVMSG,
    run: async (uring) => {
      using pair = new SocketPair();
      const [a, b] = [new Uint8Array(2), new Uint8Array(8)];
      const receiving = uring.recvmsg(pair.a.fd, [a, b]);
      check(libc().send(pair.b.fd, bytes("hello"), 5, 0), "send");
      using message = await receiving;
      assert.equal(message.length, 5);
      assert.equal(text(a) + text(b, 3), "hello");
    },
  },
  {
    method: "sendZc",
    op: IORING_OP_SEND_ZC,
    run: async (uring) => {
      using socket = listening().socket;
      using client = connected(socket);
      using server = new Fd(check(libc().accept4(socket.fd, null, null, SOCK_CLOEXEC), "accept4"));
      assert.equal((await uring.sendZc(client.fd, bytes("hello"))).length, 5);
      assert.equal(received(server.fd), "hello");
    },
  },
  {
    method: "sendmsgZc",
    op: IORING_OP_SENDMSG_ZC,
    run: async (uring) => {
      using socket = listening().socket;
      using client = connected(socket);
      using server = new Fd(check(libc().accept4(socket.fd, null, null, SOCK_CLOEXEC), "accept4"));
      assert.equal((await uring.sendmsgZc(client.fd, [bytes("hel"), bytes("lo")])).length, 5);
      assert.equal(received(server.fd), "hello");
    },
  },
  {
    method: "recvmsgMultishot",
    op: IORING_OP_RECVMSG,
    kernel: "6.0",
    run: async (uring) => {
      using to = Bound.udp();
      const address: SocketAddress = { family: "ipv4", address: "127.0.0.1", port: to.port };
      using from = new Fd(check(libc().socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket"));
      const arriving: string[] = [];
      const pool = uring.bufferPool({ count: 4, size: 512 });
      await uring.sendmsg(from.fd, bytes("one"), { address });
      for await (const { data } of uring.recvmsgMultishot(to.fd, { pool })) {
        if (arriving.push(text(data)) === 2) break;
        await uring.sendmsg(from.fd, bytes("two"), { address });
      }
      assert.deepEqual(arriving, ["one", "two"]);
    },
  },
  {
    method: "sendBundle",
    op: IORING_OP_SEND,
    kernel: "6.12",
    run: async (uring) => {
      using pair = new SocketPair();
      const queue = uring.sendQueue({ count: 4, size: 4096 });
      assert.ok(queue.push(bytes("hel")));
      assert.ok(queue.push(bytes("lo")));
      assert.equal(await uring.sendBundle(pair.a.fd, queue), 5);
      assert.equal(received(pair.b.fd), "hello");
    },
  },
  {
    method: "sendZcFixed",
    op: IORING_OP_SEND_ZC,
    run: (uring) =>
      overTcp(uring, async (client, buffer) => {
        assert.equal((await uring.sendZcFixed(client, buffer, { start: 1, length: 5 })).length, 5);
      }),
  },
  {
    method: "sendmsgZcFixed",
    op: IORING_OP_SENDMSG_ZC,
    kernel: "6.15",
    run: (uring) =>
      overTcp(uring, async (client, buffer) => {
        const parts = [{ start: 1, length: 3 }, { start: 4, length: 2 }];
        assert.equal((await uring.sendmsgZcFixed(client, buffer, parts)).length, 5);
      }),
  },
  {
    method: "getsockopt",
    op: IORING_OP_URING_CMD,
    kernel: "6.7",
    run: async (uring) => {
      using socket = tcp();
      assert.equal(await uring.getsockopt(socket.fd, SOL_SOCKET, SO_TYPE), SOCK_STREAM);
    },
  },
  {
    method: "setsockopt",
    op: IORING_OP_URING_CMD,
    kernel: "6.7",
    run: async (uring) => {
      using socket = tcp();
      await uring.setsockopt(socket.fd, SOL_SOCKET, SO_REUSEADDR, 1);
      assert.equal(await uring.getsockopt(socket.fd, SOL_SOCKET, SO_REUSEADDR), 1);
    },
  },
  {
    method: "getsockname",
    op: IORING_OP_URING_CMD,
    kernel: "6.19",
    run: async (uring) => {
      const { socket, address } = listening();
      using _socket = socket;
      assert.deepEqual(await uring.getsockname(socket.fd), address);
    },
  },
  {
    method: "getpeername",
    op: IORING_OP_URING_CMD,
    kernel: "6.19",
    run: async (uring) => {
      const { socket, address } = listening();
      using _socket = socket;
      using client = connected(socket);
      assert.deepEqual(await uring.getpeername(client.fd), address);
    },
  },
  {
    method: "siocinq",
    op: IORING_OP_URING_CMD,
    kernel: "6.5",
    run: async (uring) => {
      using to = Bound.udp();
      using from = new Fd(check(libc().socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket"));
      check(libc().connect(from.fd, to.address.bytes, to.address.bytes.length), "connect");
      check(libc().send(from.fd, bytes("hello"), 5, 0), "send");
      assert.equal(await uring.siocinq(to.fd), 5);
    },
  },
  {
    method: "siocoutq",
    op: IORING_OP_URING_CMD,
    kernel: "6.5",
    run: async (uring) => {
      using socket = tcp();
      assert.equal(await uring.siocoutq(socket.fd), 0);
    },
  },
  {
    method: "acceptMultishot",
    op: IORING_OP_ACCEPT,
    kernel: "5.19",
    run: async (uring) => {
      using socket = listening().socket;
      const clients = [connected(socket), connected(socket)];
      const servers: Fd[] = [];
      try {
        for await (const fd of uring.acceptMultishot(socket.fd)) {
          servers.push(new Fd(fd));
          if (servers.length === clients.length) break;
        }
        assert.equal(servers.length, 2);
      } finally {
        for (const fd of [...clients, ...servers]) fd.close();
      }
    },
  },
  {
    method: "acceptMultishot",
    what: "into direct descriptors",
    op: IORING_OP_ACCEPT,
    kernel: "6.0",
    run: async (uring) => {
      using socket = listening().socket;
      using client = connected(socket);
      check(libc().send(client.fd, bytes("hello"), 5, 0), "send");
      for await (const server of uring.acceptMultishot(socket.fd, { direct: true })) {
        const buffer = new Uint8Array(10);
        assert.equal(text(buffer, await uring.recv(server, buffer)), "hello");
        await uring.close(server);
        break;
      }
    },
  },
  {
    method: "recvMultishot",
    op: IORING_OP_RECV,
    kernel: "6.0",
    run: async (uring) => {
      using pair = new SocketPair();
      check(libc().send(pair.b.fd, bytes("hello"), 5, 0), "send");
      check(libc().shutdown(pair.b.fd, SHUT_WR), "shutdown");
      const chunks: string[] = [];
      const pool = uring.bufferPool({ count: 4, size: 64 });
      for await (const chunk of uring.recvMultishot(pair.a.fd, { pool })) chunks.push(text(chunk));
      assert.equal(chunks.join(""), "hello");
    },
  },
];
