/** Multishot recvmsg: datagrams as they come, with their sources and what came beside them. */
import assert from "node:assert/strict";
import process from "node:process";
import {
  AF_INET,
  AF_UNIX,
  IORING_OP_BIND,
  O_CLOEXEC,
  SHUT_WR,
  SO_PASSCRED,
  SOCK_DGRAM,
  SOL_SOCKET,
} from "../../src/ffi/abi.ts";
import { check } from "../../src/ffi/errors.ts";
import { kernelHas } from "../../src/ffi/kernel.ts";
import { system } from "../../src/ffi/system.ts";
import { ReceivedData, type SocketAddress, type Uring } from "../../src/mod.ts";
import { assertContent, content } from "../support/content.ts";
import { TempDir } from "../support/descriptors.ts";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { collect, FLAGS, makeUring, openFile, sleep, SocketPair, within } from "../support/loop.ts";
import {
  bytes,
  closeAll,
  countDescriptors,
  failure,
  localAddress,
  LOOPBACK,
  put,
  refuses,
  rejectsWith,
  text,
} from "../support/operations.ts";
import { missingOp } from "../support/rings.ts";

checkLeaks();

const skip = firstReason(missingOp(IORING_OP_BIND), kernelHas("6.0") ? false : "needs Linux 6.0");
/** The header, and the room for an address. */
const BESIDE = 16 + 128;

async function udp(uring: Uring): Promise<{ fd: number; address: SocketAddress }> {
  const fd = await uring.socket(AF_INET, SOCK_DGRAM);
  await uring.bind(fd, LOOPBACK);
  return { fd, address: localAddress(fd) };
}

/** Two Unix datagram sockets that are connected to each other. */
function datagramPair(): readonly [number, number] {
  const fds = new Int32Array(new ArrayBuffer(8));
  check(system().socketpair(AF_UNIX, SOCK_DGRAM | O_CLOEXEC, 0, fds), "socketpair");
  return [fds[0]!, fds[1]!];
}

for (const { name, flags, skip: lacking } of FLAGS) {
  test(`${name}: datagrams of several senders`, { skip: lacking || skip }, async () => {
    await using uring = makeUring({ flags });
    const receiver = await udp(uring);
    const senders = [await udp(uring), await udp(uring)];
    const receiving = uring.recvmsgMultishot(receiver.fd);
    for (let i = 0; i < 20; i++) {
      const next = receiving.next();
      const { fd, address } = senders[i % 2]!;
      await uring.sendto(fd, bytes(`number ${i}`), receiver.address);
      const message = (await within(next, "a datagram")).value!;
      assert.ok(message instanceof ReceivedData);
      assert.equal(text(message.data), `number ${i}`);
      assert.equal(message.length, message.data.length);
      assert.deepEqual(message.address, address);
      assert.deepEqual([message.truncated, message.control, message.descriptorCount], [false, [], 0]);
    }
    await receiving.return();
    assert.equal(uring.stats.inFlight, 0);
    closeAll(receiver.fd, ...senders.map(({ fd }) => fd));
  });
}

test("many waiting datagrams, few buffers: none is lost", { skip }, async () => {
  await using uring = makeUring();
  for (const [count, size] of [[1, 400], [4, 400], [8, 4000]] as const) {
    const [a, b] = datagramPair();
    const pool = uring.bufferPool({ count, size });
    const sending = (async () => {
      for (let i = 0; i < 300; i++) await uring.send(b, content(1 + i % 200, i));
    })();
    let i = 0;
    for await (const { data } of uring.recvmsgMultishot(a, { pool, limit: 7 })) {
      assert.equal(data.length, 1 + i % 200);
      assertContent(data, data.length, 0, i);
      if (i % 50 === 0) await uring.timeout(1);
      if (++i === 300) break;
    }
    await sending;
    assert.equal(pool.free, count);
    closeAll(a, b);
  }
});

test("what is too long is cut off and told; empty datagrams are datagrams", { skip }, async () => {
  await using uring = makeUring();
  const [a, b] = datagramPair();
  const pool = uring.bufferPool({ count: 4, size: BESIDE + 10 });
  const receiving = uring.recvmsgMultishot(a, { pool });
  for (const word of ["", "0123456789", "0123456789x", "", "", "last"]) {
    const next = receiving.next();
    await uring.send(b, bytes(word));
    const message = (await within(next, "a datagram")).value!;
    assert.equal(text(message.data), word.slice(0, 10));
    assert.equal(message.truncated, word.length > 10);
    assert.equal(message.address, undefined);
  }
  await receiving.return();
  assert.equal(pool.free, 4);
  closeAll(a, b);
});

test("a connection's data, and its end", { skip }, async () => {
  await using uring = makeUring();
  for (const direct of [false, true]) {
    using pair = new SocketPair();
    const fd = direct ? await uring.registerFile(pair.a.fd) : pair.a.fd;
    put(pair.b.fd, "before");
    const receiving = uring.recvmsgMultishot(fd);
    assert.equal(text((await receiving.next()).value!.data), "before");
    const next = receiving.next();
    put(pair.b.fd, "after");
    assert.equal(text((await next).value!.data), "after");
    const last = receiving.next();
    await uring.shutdown(pair.b.fd, SHUT_WR);
    assert.deepEqual(await within(last, "the end"), { done: true, value: undefined });
    if (typeof fd !== "number") await uring.close(fd);
  }
});

test("descriptors and credentials come along", { skip }, async () => {
  await using uring = makeUring();
  using pair = new SocketPair();
  using dir = new TempDir();
  using file = openFile(dir.of("travels"), 0o102);
  const count = (): number => countDescriptors(/uring-test-.*travels/);
  check(
    system().rare.setsockopt(pair.a.fd, SOL_SOCKET, SO_PASSCRED, new Uint8Array([1, 0, 0, 0]), 4),
    "setsockopt",
  );
  const receiving = uring.recvmsgMultishot(pair.a.fd, { descriptors: 3, credentials: true });
  const send = (how: number): Promise<number> =>
    uring.sendmsg(pair.b.fd, bytes("!"), {
      control: [{ kind: "rights", fds: Array<number>(how).fill(file.fd) }],
    });
  const next = receiving.next();
  await send(2);
  const first = (await within(next, "a message")).value!;
  assert.equal(first.control[0]!.kind === "credentials" && first.control[0]!.pid, process.pid);
  assert.equal(first.descriptorCount, 2);
  closeAll(...first.takeDescriptors());
  await send(8);
  const second = (await receiving.next()).value!;
  assert.ok(second.controlTruncated && second.descriptorCount >= 3);
  second.dispose();
  assert.equal(count(), 1);
  // Nobody takes these.
  await send(1);
  await send(3);
  await uring.timeout(2);
  await receiving.return();
  assert.equal(count(), 1);
});

test("too small buffers are refused, and other wrong arguments", { skip }, async () => {
  await using uring = makeUring();
  await using other = makeUring();
  const pool = uring.bufferPool({ count: 1, size: BESIDE });
  await refuses(uring, RangeError, () => uring.recvmsgMultishot(0, { pool }));
  const larger = uring.bufferPool({ count: 1, size: BESIDE + 24 });
  await refuses(uring, RangeError, () => uring.recvmsgMultishot(0, { pool: larger, descriptors: 1 }));
  if (kernelHas("6.12")) {
    const incremental = uring.bufferPool({ count: 1, size: 4096, incremental: true });
    await refuses(uring, TypeError, () => uring.recvmsgMultishot(0, { pool: incremental }));
  }
  await refuses(uring, RangeError, () => uring.recvmsgMultishot(0, { limit: 0 }));
  await refuses(uring, RangeError, () => uring.recvmsgMultishot(0, { flags: -1 }));
  await refuses(uring, RangeError, () => uring.recvmsgMultishot(0, { descriptors: 300 }));
  await refuses(other, TypeError, () => other.recvmsgMultishot(0, { pool: larger }));
  await refuses(uring, TypeError, () => uring.recvmsgMultishot("0" as never));
});

test("failures, signals, time limits", { skip }, async () => {
  await using uring = makeUring();
  using pair = new SocketPair();
  await rejectsWith(uring.recvmsgMultishot(1_000_000).next(), "EBADF", "recvmsg");
  await rejectsWith(uring.recvmsgMultishot(pair.a.fd, { timeout: 3 }).next(), "ETIMEDOUT", "recvmsg");
  const controller = new AbortController();
  const receiving = uring.recvmsgMultishot(pair.a.fd, { signal: controller.signal });
  const waiting = failure(receiving.next());
  await uring.nop();
  controller.abort("reason");
  assert.equal(await waiting, "reason");
  await receiving.return();
  assert.equal(uring.stats.inFlight, 0);
});

test("closing the ring in the middle", { skip }, async () => {
  using pair = new SocketPair();
  const uring = makeUring();
  const receiving = uring.recvmsgMultishot(pair.a.fd, { descriptors: 1 });
  const first = receiving.next();
  await uring.sendmsg(pair.b.fd, bytes("!"), { control: [{ kind: "rights", fds: [pair.b.fd] }] });
  const message = (await within(first, "a message")).value!;
  const waiting = failure(receiving.next());
  await uring.nop();
  await within(uring.disposeAsync(), "closing");
  assert.equal((await waiting).code, "ECANCELED");
  // What was given out outlives the ring.
  assert.equal(text(message.data), "!");
  closeAll(...message.takeDescriptors());
});

test("memory stays where it is while the collector runs", { skip }, async () => {
  await using uring = makeUring({ entries: 4 });
  const pairs = Array.from({ length: 20 }, datagramPair);
  const all = pairs.map(async ([a], i) => {
    let count = 0;
    for await (const { data } of uring.recvmsgMultishot(a, { controlLength: 64 })) {
      assertContent(data, data.length, 0, i);
      if (++count === 5) break;
    }
  });
  await uring.nop();
  for (let round = 0; round < 5; round++) {
    collect();
    for (let j = 0; j < 100; j++) new Uint8Array(200).fill(0xee);
    await sleep(1);
    for (const [i, [, b]] of pairs.entries()) await uring.send(b, content(100, i));
  }
  await within(Promise.all(all), "all messages");
  closeAll(...pairs.flat());
});
