/** Commands to sockets: options, names, and how much is queued. */
import assert from "node:assert/strict";
import process from "node:process";
import {
  AF_INET,
  AF_UNIX,
  IORING_OP_BIND,
  IPPROTO_TCP,
  SO_PEERNAME,
  SO_RCVBUF,
  SO_REUSEPORT,
  SO_TYPE,
  SOCK_DGRAM,
  SOCK_RAW,
  SOCK_STREAM,
  SOCKET_URING_OP_GETSOCKNAME,
  SOCKET_URING_OP_GETSOCKOPT,
  SOL_SOCKET,
  TCP_NODELAY,
  TCP_USER_TIMEOUT,
} from "../../src/ffi/abi.ts";
import { check } from "../../src/ffi/errors.ts";
import { kernelHas } from "../../src/ffi/kernel.ts";
import { system } from "../../src/ffi/system.ts";
import type { Uring } from "../../src/mod.ts";
import { Pipe } from "../support/descriptors.ts";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { libc } from "../support/libc.ts";
import { collect, FLAGS, makeUring, SocketPair } from "../support/loop.ts";
import {
  bytes,
  closeAll,
  dial,
  failure,
  listener,
  localAddress,
  LOOPBACK,
  refuses,
  rejectsWith,
} from "../support/operations.ts";
import { block, makeRing, missingOp, once } from "../support/rings.ts";

checkLeaks();

/** Why this kernel lacks a command, or `false`: asks a socket. */
function missingCommand(command: number): string | false {
  const fds = new Int32Array(new ArrayBuffer(8));
  check(system().socketpair(AF_UNIX, SOCK_STREAM, 0, fds), "socketpair");
  const ring = makeRing(1);
  const { address } = block(16);
  const { res } = once(ring, (sqe) => {
    if (command === SOCKET_URING_OP_GETSOCKNAME) sqe.prepCmdGetsockname(fds[0]!, address, address + 8, 0);
    else sqe.prepCmdSock(command, fds[0]!, SOL_SOCKET, SO_TYPE, address, 4);
  });
  ring.close();
  closeAll(...fds);
  return res === -95 || res === -22 ? `this kernel lacks the command ${command}` : false;
}

const noOptions = firstReason(missingOp(IORING_OP_BIND), missingCommand(SOCKET_URING_OP_GETSOCKOPT));
const noQueues = firstReason(missingOp(IORING_OP_BIND), kernelHas("6.5") ? false : "needs Linux 6.5");
const noNames = firstReason(missingOp(IORING_OP_BIND), missingCommand(SOCKET_URING_OP_GETSOCKNAME));

/** An option by the system call. */
function optionOf(fd: number, level: number, name: number): number {
  const value = new Uint8Array(4);
  const length = Int32Array.of(4);
  check(system().rare.getsockopt(fd, level, name, value, length), "getsockopt");
  assert.equal(length[0], 4);
  return new DataView(value.buffer).getInt32(0, true);
}

async function tcpPair(uring: Uring): Promise<{ client: number; server: number; close: () => void }> {
  const listening = await listener(uring);
  const [client, server] = await Promise.all([dial(uring, listening.address), uring.accept(listening.fd)]);
  closeAll(listening.fd);
  return { client, server, close: () => closeAll(client, server) };
}

for (const { name, flags, skip: lacking } of FLAGS) {
  test(
    `liburing socket-getsetsock-cmd: ${name}: the same as the system calls`,
    { skip: lacking || noOptions },
    async () => {
      await using uring = makeUring({ flags });
      const { client, server, close } = await tcpPair(uring);
      for (const async of [false, true]) {
        const buffer = await uring.getsockopt(server, SOL_SOCKET, SO_RCVBUF, { async });
        assert.equal(buffer, optionOf(server, SOL_SOCKET, SO_RCVBUF));
        const peer = await uring.getsockopt(server, SOL_SOCKET, SO_PEERNAME, { length: 16, async });
        const expected = new Uint8Array(16);
        check(system().rare.getpeername(server, expected, Int32Array.of(16)), "getpeername");
        assert.deepEqual(peer, expected);
        for (const value of [0, 1]) {
          await uring.setsockopt(client, SOL_SOCKET, SO_REUSEPORT, value, { async });
          assert.equal(optionOf(client, SOL_SOCKET, SO_REUSEPORT), value);
        }
        for (let value = 1; value <= 10; value++) {
          await uring.setsockopt(client, IPPROTO_TCP, TCP_USER_TIMEOUT, value, { async });
          assert.equal(optionOf(client, IPPROTO_TCP, TCP_USER_TIMEOUT), value);
        }
      }
      close();
    },
  );

  test(
    `liburing socket-io-cmd: ${name}: what was written waits on one side or the other`,
    { skip: lacking || noQueues },
    async () => {
      await using uring = makeUring({ flags });
      const { client, server, close } = await tcpPair(uring);
      await uring.send(client, bytes("foobarbaz"));
      assert.equal(await uring.siocinq(server) + await uring.siocoutq(client), 9);
      close();
      const receiver = await uring.socket(AF_INET, SOCK_DGRAM);
      await uring.bind(receiver, LOOPBACK);
      const sender = await uring.socket(AF_INET, SOCK_DGRAM);
      await uring.connect(sender, localAddress(receiver));
      await uring.send(sender, bytes("foobarbaz"));
      await uring.send(sender, bytes("second"));
      // Of datagrams, the next one's length.
      assert.deepEqual([await uring.siocinq(receiver), await uring.siocoutq(sender)], [9, 0]);
      closeAll(receiver, sender);
    },
  );
}

test(
  "liburing socket-io-cmd: raw sockets",
  { skip: firstReason(noQueues, process.getuid!() === 0 ? false : "raw sockets are root's") },
  async () => {
    await using uring = makeUring();
    const raw = await uring.socket(AF_INET, SOCK_RAW, IPPROTO_TCP);
    for (const [name, request] of [["siocinq", 0x541b], ["siocoutq", 0x5411]] as const) {
      const value = new Int32Array(new ArrayBuffer(4));
      check(libc().ioctl(raw, request, value), "ioctl");
      assert.equal(await uring[name](raw), value[0]);
    }
    closeAll(raw);
  },
);

test("options: as numbers and as bytes; of direct descriptors; in a chain", { skip: noOptions }, async () => {
  await using uring = makeUring();
  const [fd, type] = await uring.link((l) => {
    const direct = l.direct();
    return [
      l.socket(AF_INET, SOCK_STREAM, 0, { direct }),
      l.getsockopt(direct, SOL_SOCKET, SO_TYPE),
      l.setsockopt(direct, SOL_SOCKET, SO_REUSEPORT, 1),
      l.setsockopt(direct, IPPROTO_TCP, TCP_NODELAY, new Uint8Array([1, 0, 0, 0]), { timeout: 10_000 }),
    ];
  });
  assert.equal(type, SOCK_STREAM);
  assert.equal(await uring.getsockopt(fd, SOL_SOCKET, SO_REUSEPORT), 1);
  const short = await uring.getsockopt(fd, SOL_SOCKET, SO_TYPE, { length: 64 });
  assert.deepEqual([...short], [SOCK_STREAM, 0, 0, 0]);
  await uring.close(fd);
});

test(
  "how much is queued: of direct descriptors, in a chain; Unix sockets do not tell",
  { skip: noQueues },
  async () => {
    await using uring = makeUring();
    const { client, server, close } = await tcpPair(uring);
    const direct = await uring.registerFile(server);
    const [, waiting] = await uring.link((l) => [l.send(client, bytes("12345")), l.siocinq(direct)]);
    assert.equal(waiting, 5);
    await uring.close(direct);
    close();
    using pair = new SocketPair();
    await rejectsWith(uring.siocinq(pair.a.fd), "ENOTSUP", "siocinq");
    await rejectsWith(uring.siocoutq(pair.a.fd), "ENOTSUP", "siocoutq");
  },
);

test("names, of either kind of descriptor", { skip: noNames }, async () => {
  await using uring = makeUring();
  const { client, server, close } = await tcpPair(uring);
  assert.deepEqual(await uring.getsockname(client), uring.localAddress(client));
  assert.deepEqual(await uring.getpeername(client), uring.remoteAddress(client));
  const direct = await uring.registerFile(server);
  const [own, peer] = await uring.link((l) => [l.getsockname(direct), l.getpeername(direct)]);
  assert.deepEqual([own, peer], [uring.localAddress(server), uring.localAddress(client)]);
  const lone = await uring.socket(AF_INET, SOCK_STREAM);
  await rejectsWith(uring.getpeername(lone), "ENOTCONN", "getpeername");
  await uring.close(direct);
  closeAll(lone);
  close();
});

test(
  "names on a kernel without them: the error says what is missing",
  { skip: kernelHas("6.19") ? "this kernel has them" : missingOp(IORING_OP_BIND) },
  async () => {
    await using uring = makeUring();
    const fd = await uring.socket(AF_INET, SOCK_STREAM);
    for (const name of ["getsockname", "getpeername"] as const) {
      const error = await failure(uring[name](fd));
      assert.match(error.message, new RegExp(`${name} .*needs Linux 6.19`));
    }
    closeAll(fd);
  },
);

test("failures: no such descriptor, no socket, no such option", { skip: noOptions }, async () => {
  await using uring = makeUring();
  using pipe = new Pipe();
  const fd = await uring.socket(AF_INET, SOCK_STREAM);
  await rejectsWith(uring.getsockopt(1_000_000, SOL_SOCKET, SO_TYPE), "EBADF", "getsockopt");
  await rejectsWith(uring.setsockopt(1_000_000, SOL_SOCKET, SO_REUSEPORT, 1), "EBADF", "setsockopt");
  await rejectsWith(uring.siocinq(1_000_000), "EBADF", "siocinq");
  await rejectsWith(uring.siocoutq(1_000_000), "EBADF", "siocoutq");
  await rejectsWith(uring.getsockopt(pipe.reader.fd, SOL_SOCKET, SO_TYPE), "ENOTSUP", "getsockopt");
  await rejectsWith(uring.getsockopt(fd, SOL_SOCKET, 9999), "ENOPROTOOPT", "getsockopt");
  await rejectsWith(uring.setsockopt(fd, SOL_SOCKET, 9999, 1), "ENOPROTOOPT", "setsockopt");
  // The kernel does it for SOL_SOCKET alone.
  await rejectsWith(uring.getsockopt(fd, IPPROTO_TCP, TCP_NODELAY), "ENOTSUP", "getsockopt");
  await rejectsWith(
    uring.setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, new Uint8Array(1)),
    "EINVAL",
    "setsockopt",
  );
  closeAll(fd);
});

test("wrong arguments are refused before anything happens", async () => {
  await using uring = makeUring();
  await refuses(uring, RangeError, () => uring.getsockopt(0, -1, 0));
  await refuses(uring, RangeError, () => uring.getsockopt(0, 1, 1.5));
  await refuses(uring, RangeError, () => uring.getsockopt(0, 1, 1, { length: 0 }));
  await refuses(uring, RangeError, () => uring.getsockopt(0, 1, 1, { length: 1 << 20 }));
  await refuses(uring, TypeError, () => uring.setsockopt(0, 1, 1, "1" as never));
  await refuses(uring, TypeError, () => uring.setsockopt(0, 1, 1, 2 ** 33));
  await refuses(uring, TypeError, () => uring.siocinq("0" as never));
  await refuses(uring, TypeError, () => uring.getsockname(null as never));
});

test(
  "many at once, while the collector runs; aborted ones; closing in the middle",
  { skip: noOptions },
  async () => {
    const uring = makeUring({ entries: 4 });
    const { client, server, close } = await tcpPair(uring);
    const size = optionOf(server, SOL_SOCKET, SO_RCVBUF);
    const asked = Array.from({ length: 100 }, (_, i) => {
      if (i % 10 === 0) collect();
      return uring.getsockopt(server, SOL_SOCKET, SO_RCVBUF, { async: i % 3 === 0 });
    });
    for (const value of await Promise.all(asked)) assert.equal(value, size);
    assert.equal(
      await failure(uring.getsockopt(client, SOL_SOCKET, SO_TYPE, { signal: AbortSignal.abort("early") })),
      "early",
    );
    const last = uring.setsockopt(client, SOL_SOCKET, SO_REUSEPORT, 1).then(
      () => "ok",
      (error) => error.code,
    );
    await uring.disposeAsync();
    assert.ok(["ok", "ECANCELED"].includes(await last));
    assert.throws(() => uring.siocinq(client), TypeError);
    close();
  },
);
