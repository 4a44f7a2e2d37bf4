/** Messages: sendto, sendmsg, recvmsg; addresses, several buffers, control messages, descriptors that travel. */
import assert from "node:assert/strict";
import process from "node:process";
import {
  AF_INET,
  AF_UNIX,
  IORING_OP_BIND,
  MSG_DONTWAIT,
  MSG_PEEK,
  MSG_WAITALL,
  O_CLOEXEC,
  O_RDONLY,
  SCM_RIGHTS,
  SHUT_WR,
  SO_PASSCRED,
  SOCK_DGRAM,
  SOL_SOCKET,
} from "../../src/ffi/abi.ts";
import { check } from "../../src/ffi/errors.ts";
import { system } from "../../src/ffi/system.ts";
import type { ControlMessage, DirectDescriptor, SocketAddress, Uring } from "../../src/mod.ts";
import { assertContent, content } from "../support/content.ts";
import { Fd, fdFlags, Pipe, TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { collect, FLAGS, makeUring, openFile, sleep, SocketPair, within } from "../support/loop.ts";
import {
  bytes,
  closeAll,
  countDescriptors,
  failure,
  flushed,
  localAddress,
  LOOPBACK,
  put,
  refuses,
  rejectsWith,
  text,
} from "../support/operations.ts";
import { missingOp } from "../support/rings.ts";

checkLeaks();

const skip = missingOp(IORING_OP_BIND);

/** Two Unix datagram sockets that are connected to each other. */
class DatagramPair implements Disposable {
  readonly a: Fd;
  readonly b: Fd;

  constructor() {
    const fds = new Int32Array(new ArrayBuffer(8));
    check(system().socketpair(AF_UNIX, SOCK_DGRAM | O_CLOEXEC, 0, fds), "socketpair");
    this.a = new Fd(fds[0]!);
    this.b = new Fd(fds[1]!);
  }

  [Symbol.dispose](): void {
    this.a.close();
    this.b.close();
  }
}

function passCredentials(fd: number): void {
  check(
    system().rare.setsockopt(fd, SOL_SOCKET, SO_PASSCRED, new Uint8Array(Int32Array.of(1).buffer), 4),
    "setsockopt",
  );
}

/** A UDP socket with an address. */
async function udp(uring: Uring): Promise<{ fd: number; address: SocketAddress }> {
  const fd = await uring.socket(AF_INET, SOCK_DGRAM);
  await uring.bind(fd, LOOPBACK);
  return { fd, address: localAddress(fd) };
}

for (const { name, flags, skip: lacking } of FLAGS) {
  test(
    `${name}: datagrams there and back, with their senders' addresses`,
    { skip: lacking || skip },
    async () => {
      await using uring = makeUring({ flags });
      const [one, two] = [await udp(uring), await udp(uring)];
      const buffer = new Uint8Array(16);
      const waiting = uring.recvmsg(two.fd, buffer);
      assert.equal(await uring.sendto(one.fd, bytes("question"), two.address), 8);
      const question = await within(waiting, "recvmsg");
      assert.equal(text(buffer, question.length), "question");
      assert.deepEqual(question.address, one.address);
      assert.deepEqual([question.flags, question.control, question.descriptorCount], [0, [], 0]);
      await uring.sendmsg(two.fd, [bytes("ans"), new Uint8Array(0), bytes("wer")], {
        address: question.address!,
      });
      const [head, tail] = [new Uint8Array(2), new Uint8Array(10)];
      const answer = await uring.recvmsg(one.fd, [head, tail]);
      assert.equal(answer.length, 6);
      assert.equal(text(head) + text(tail, 4), "answer");
      assert.deepEqual(answer.address, two.address);
      closeAll(one.fd, two.fd);
    },
  );
}

test("Unix datagrams: named senders, and nameless ones", { skip }, async () => {
  await using uring = makeUring();
  using dir = new TempDir();
  const to: SocketAddress = { family: "unix", path: dir.of("to") };
  const from: SocketAddress = { family: "unix", path: `\0${dir.path}-from` };
  const receiver = await uring.socket(AF_UNIX, SOCK_DGRAM);
  const sender = await uring.socket(AF_UNIX, SOCK_DGRAM);
  await uring.bind(receiver, to);
  const buffer = new Uint8Array(8);
  await uring.sendto(sender, bytes("first"), to);
  const nameless = await uring.recvmsg(receiver, buffer);
  assert.equal(nameless.address, undefined);
  assert.equal(nameless.addressBytes.length, 0);
  await uring.bind(sender, from);
  await uring.sendto(sender, bytes("second"), to);
  const named = await uring.recvmsg(receiver, buffer);
  assert.deepEqual(named.address, from);
  assert.deepEqual([...named.addressBytes.subarray(0, 2)], [AF_UNIX, 0]);
  closeAll(receiver, sender);
});

test("what is longer than its room is cut off, and told", async () => {
  await using uring = makeUring();
  using pair = new DatagramPair();
  const buffer = new Uint8Array(4);
  put(pair.a.fd, "too long");
  const cut = await uring.recvmsg(pair.b.fd, buffer);
  assert.deepEqual([cut.length, cut.truncated, cut.controlTruncated], [4, true, false]);
  assert.equal(text(buffer), "too ");
  put(pair.a.fd, "fits");
  assert.equal((await uring.recvmsg(pair.b.fd, buffer)).truncated, false);
  // An empty datagram is one, too.
  assert.equal(await uring.sendmsg(pair.a.fd, []), 0);
  assert.equal((await uring.recvmsg(pair.b.fd, buffer)).length, 0);
});

test("recvmsg: flags, the end of a connection", async () => {
  await using uring = makeUring();
  using pair = new SocketPair();
  const buffer = new Uint8Array(8);
  await rejectsWith(uring.recvmsg(pair.a.fd, buffer, { flags: MSG_DONTWAIT }), "EAGAIN", "recvmsg");
  put(pair.b.fd, "peek");
  assert.equal((await uring.recvmsg(pair.a.fd, buffer, { flags: MSG_PEEK })).length, 4);
  const all = uring.recvmsg(pair.a.fd, [buffer.subarray(0, 3), buffer.subarray(3)], { flags: MSG_WAITALL });
  await uring.nop();
  put(pair.b.fd, "more");
  assert.equal((await within(all, "MSG_WAITALL")).length, 8);
  assert.equal(text(buffer), "peekmore");
  const later = uring.recvmsg(pair.a.fd, buffer, { pollFirst: true });
  put(pair.b.fd, "x");
  assert.equal((await within(later, "POLL_FIRST")).length, 1);
  assert.equal(await uring.sendmsg(pair.a.fd, bytes("y"), { pollFirst: true }), 1);
  await uring.shutdown(pair.b.fd, SHUT_WR);
  assert.equal((await uring.recvmsg(pair.a.fd, buffer)).length, 0);
});

test("descriptors travel: several at once, each arrives as one of its own, close-on-exec", async () => {
  await using uring = makeUring();
  using pair = new SocketPair();
  using pipe = new Pipe();
  using file = openFile("/proc/self/comm", O_RDONLY);
  const fds = [pipe.reader.fd, pipe.writer.fd, file.fd];
  await uring.sendmsg(pair.a.fd, bytes("!"), { control: [{ kind: "rights", fds }] });
  using message = await uring.recvmsg(pair.b.fd, new Uint8Array(1), { descriptors: 3 });
  assert.equal(message.descriptorCount, 3);
  assert.deepEqual(message.control, []);
  const taken = message.takeDescriptors();
  assert.equal(taken.length, 3);
  assert.deepEqual([message.descriptorCount, message.takeDescriptors()], [0, []]);
  for (const fd of taken) assert.equal(fdFlags(fd) & O_CLOEXEC, O_CLOEXEC);
  assert.ok(taken.every((fd) => !fds.includes(fd)));
  put(taken[1]!, "through");
  assert.equal(pipe.read(), "through");
  closeAll(...taken);
});

test("descriptors that nobody takes are closed: by dispose, by using, when collected", async () => {
  await using uring = makeUring();
  using pair = new SocketPair();
  using dir = new TempDir();
  using file = openFile(dir.of("travels"), 0o102);
  const count = (): number => countDescriptors(/uring-test-.*travels/);
  const receive = async (): Promise<void> => {
    await uring.sendmsg(pair.a.fd, bytes("!"), { control: [{ kind: "rights", fds: [file.fd, file.fd] }] });
    using message = await uring.recvmsg(pair.b.fd, new Uint8Array(1), { descriptors: 4 });
    assert.equal(message.descriptorCount, 2);
    assert.equal(count(), 3);
  };
  await receive();
  assert.equal(count(), 1);
  const drop = async (): Promise<void> => {
    await uring.sendmsg(pair.a.fd, bytes("!"), { control: [{ kind: "rights", fds: [file.fd] }] });
    await uring.recvmsg(pair.b.fd, new Uint8Array(1), { descriptors: 1 });
  };
  for (let i = 0; i < 20; i++) await drop();
  for (let i = 0; i < 100 && count() > 3; i++) {
    collect();
    await sleep(10);
  }
  // The collector may hold on to the last ones.
  assert.ok(count() <= 3, `${count()} are open`);
  for (let i = 0; i < 100 && count() > 1; i++) {
    await uring.nop();
    collect();
    await sleep(10);
  }
});

test("descriptors for which there is no room are closed, and this is told", async () => {
  await using uring = makeUring();
  using pair = new SocketPair();
  using dir = new TempDir();
  using file = openFile(dir.of("travels"), 0o102);
  const send = (count: number): Promise<number> =>
    uring.sendmsg(pair.a.fd, bytes("!"), {
      control: [{ kind: "rights", fds: Array<number>(count).fill(file.fd) }],
    });
  await send(3);
  const none = await uring.recvmsg(pair.b.fd, new Uint8Array(1));
  assert.deepEqual([none.controlTruncated, none.descriptorCount], [true, 0]);
  await send(5);
  using some = await uring.recvmsg(pair.b.fd, new Uint8Array(1), { descriptors: 2 });
  assert.deepEqual([some.controlTruncated, some.descriptorCount], [true, 2]);
  some.dispose();
  await send(253);
  using most = await uring.recvmsg(pair.b.fd, new Uint8Array(1), { descriptors: 253 });
  assert.deepEqual([most.controlTruncated, most.descriptorCount], [false, 253]);
  most.dispose();
  assert.equal(countDescriptors(/uring-test-.*travels/), 1);
});

test("credentials: the kernel's word, and one's own", async () => {
  await using uring = makeUring();
  using pair = new SocketPair();
  passCredentials(pair.b.fd);
  const [uid, gid] = [process.getuid!(), process.getgid!()];
  put(pair.a.fd, "!");
  const unsaid = await uring.recvmsg(pair.b.fd, new Uint8Array(1), { credentials: true });
  assert.deepEqual(unsaid.control, [{ kind: "credentials", pid: process.pid, uid, gid }]);
  const own: ControlMessage = { kind: "credentials", pid: process.pid, uid, gid };
  await uring.sendmsg(pair.a.fd, bytes("!"), { control: [own, { kind: "rights", fds: [pair.a.fd] }] });
  using both = await uring.recvmsg(pair.b.fd, new Uint8Array(1), { credentials: true, descriptors: 1 });
  assert.deepEqual([both.control, both.descriptorCount], [[own], 1]);
  if (uid !== 0) {
    const lie: ControlMessage = { ...own, uid: 0 };
    await rejectsWith(uring.sendmsg(pair.a.fd, bytes("!"), { control: [lie] }), "EPERM", "sendmsg");
  }
});

test("other control messages: as bytes, in both directions", async () => {
  await using uring = makeUring();
  using pair = new SocketPair();
  passCredentials(pair.b.fd);
  using pipe = new Pipe();
  const data = new Uint8Array(Int32Array.of(pipe.reader.fd).buffer);
  const control: ControlMessage[] = [{ kind: "other", level: SOL_SOCKET, type: SCM_RIGHTS, data }];
  await uring.sendmsg(pair.a.fd, bytes("!"), { control });
  using message = await uring.recvmsg(pair.b.fd, new Uint8Array(1), { controlLength: 56 });
  assert.equal(message.descriptorCount, 1);
  assert.equal(message.control[0]!.kind, "credentials");
  const unknown: ControlMessage[] = [{ kind: "other", level: SOL_SOCKET, type: 9999, data }];
  await rejectsWith(uring.sendmsg(pair.a.fd, bytes("!"), { control: unknown }), "EINVAL", "sendmsg");
});

test("failures: no such descriptor, no socket, no such destination", { skip }, async () => {
  await using uring = makeUring();
  using pipe = new Pipe();
  using pair = new SocketPair();
  const buffer = new Uint8Array(4);
  const nowhere: SocketAddress = { family: "unix", path: "/nonexistent/socket" };
  await rejectsWith(uring.sendmsg(1_000_000, buffer), "EBADF", "sendmsg");
  await rejectsWith(uring.recvmsg(1_000_000, buffer), "EBADF", "recvmsg");
  await rejectsWith(uring.sendto(1_000_000, buffer, LOOPBACK), "EBADF", "sendto");
  await rejectsWith(uring.sendmsg(pipe.writer.fd, buffer), "ENOTSOCK", "sendmsg");
  await rejectsWith(uring.recvmsg(pipe.reader.fd, buffer), "ENOTSOCK", "recvmsg");
  await rejectsWith(uring.sendto(pipe.writer.fd, buffer, nowhere), "ENOTSOCK", "sendto");
  const datagram = await uring.socket(AF_UNIX, SOCK_DGRAM);
  await rejectsWith(uring.sendto(datagram, buffer, nowhere), "ENOENT", "sendto");
  await rejectsWith(uring.sendmsg(datagram, buffer, { address: nowhere }), "ENOENT", "sendmsg");
  await rejectsWith(uring.sendmsg(datagram, buffer), "ENOTCONN", "sendmsg");
  await rejectsWith(
    uring.sendmsg(pair.a.fd, buffer, { control: [{ kind: "rights", fds: [1_000_000] }] }),
    "EBADF",
    "sendmsg",
  );
  // A peer that is gone is an error and no signal.
  pair.b.close();
  await rejectsWith(uring.sendmsg(pair.a.fd, buffer), "EPIPE", "sendmsg");
  closeAll(datagram);
});

test("wrong arguments are refused before anything happens", async () => {
  await using uring = makeUring();
  const buffer = new Uint8Array(4);
  await refuses(uring, TypeError, () => uring.sendmsg(0, "text" as never));
  await refuses(uring, TypeError, () => uring.recvmsg(0, [buffer, null as never]));
  await refuses(uring, RangeError, () => uring.recvmsg(0, Array<Uint8Array>(1025).fill(buffer)));
  await refuses(uring, RangeError, () => uring.recvmsg(0, buffer, { descriptors: 254 }));
  await refuses(uring, RangeError, () => uring.recvmsg(0, buffer, { descriptors: -1 }));
  await refuses(uring, RangeError, () => uring.recvmsg(0, buffer, { controlLength: 1e9 }));
  await refuses(uring, RangeError, () => uring.recvmsg(0, buffer, { flags: -1 }));
  await refuses(uring, TypeError, () => uring.sendto(0, buffer, {} as never));
  await refuses(uring, TypeError, () => uring.sendto(0, "text" as never, LOOPBACK));
  const control = (message: unknown) => () =>
    uring.sendmsg(0, new Uint8Array(1), { control: [message as never] });
  await refuses(uring, TypeError, control({ kind: "nothing" }));
  await refuses(uring, RangeError, control({ kind: "rights", fds: [] }));
  await refuses(uring, RangeError, control({ kind: "rights", fds: Array<number>(254).fill(0) }));
  await refuses(uring, TypeError, control({ kind: "rights", fds: [1.5] }));
  await refuses(uring, RangeError, control({ kind: "credentials", pid: -1, uid: 0, gid: 0 }));
  await refuses(uring, TypeError, control({ kind: "other", level: 1, type: 1, data: "text" }));
  await refuses(uring, RangeError, control({ kind: "other", level: 1.5, type: 1, data: new Uint8Array(1) }));
  await refuses(
    uring,
    RangeError,
    control({ kind: "other", level: 1, type: 1, data: new Uint8Array(1 << 17) }),
  );
  await refuses(uring, TypeError, control(null));
});

test("signals and time limits", async () => {
  await using uring = makeUring();
  using pair = new SocketPair();
  const buffer = new Uint8Array(4);
  await rejectsWith(uring.recvmsg(pair.a.fd, buffer, { timeout: 3 }), "ETIMEDOUT", "recvmsg");
  const controller = new AbortController();
  const waiting = failure(uring.recvmsg(pair.a.fd, buffer, { signal: controller.signal }));
  await flushed(uring);
  controller.abort("reason");
  assert.equal(await waiting, "reason");
  assert.equal(
    await failure(uring.sendmsg(pair.a.fd, buffer, { signal: AbortSignal.abort("early") })),
    "early",
  );
  // A full socket makes a send wait.
  const full = content(8 << 20);
  await uring.sendmsg(pair.a.fd, full, { flags: MSG_DONTWAIT });
  await rejectsWith(uring.sendmsg(pair.a.fd, full, { timeout: 3 }), "ETIMEDOUT", "sendmsg");
});

test("descriptors that arrive after the promise was aborted are closed", async () => {
  await using uring = makeUring();
  using pair = new SocketPair();
  using dir = new TempDir();
  using file = openFile(dir.of("travels"), 0o102);
  for (let round = 0; round < 20; round++) {
    const controller = new AbortController();
    const receiving = failure(
      uring.recvmsg(pair.b.fd, new Uint8Array(1), { descriptors: 2, signal: controller.signal }),
    );
    await flushed(uring);
    // The message goes out in the same call that would cancel its receiver: it has arrived by then.
    const sending = uring.sendmsg(pair.a.fd, bytes("!"), { control: [{ kind: "rights", fds: [file.fd] }] });
    controller.abort("reason");
    await sending;
    assert.equal(await receiving, "reason");
    const left = await uring.recvmsg(pair.b.fd, new Uint8Array(1), { flags: MSG_DONTWAIT, descriptors: 1 })
      .catch(() => null);
    left?.dispose();
    assert.equal(countDescriptors(/uring-test-.*travels/), 1);
  }
});

test("closing the ring in the middle", async () => {
  const pair = new SocketPair();
  const uring = makeUring();
  const waiting = failure(uring.recvmsg(pair.a.fd, new Uint8Array(4), { descriptors: 1 }));
  const unsubmitted = failure(uring.nop().then(() => uring.recvmsg(pair.a.fd, new Uint8Array(4))));
  await flushed(uring);
  await within(uring.disposeAsync(), "closing");
  assert.equal((await waiting).code, "ECANCELED");
  await unsubmitted;
  assert.throws(() => uring.sendmsg(pair.a.fd, new Uint8Array(1)), TypeError);
  pair[Symbol.dispose]();
});

test("direct descriptors, and chains", { skip }, async () => {
  await using uring = makeUring();
  const receiver = await uring.socket(AF_UNIX, SOCK_DGRAM, 0, { direct: true });
  const address: SocketAddress = { family: "unix", path: "\0uring-net-messages" };
  await uring.bind(receiver, address);
  const buffers = [new Uint8Array(8), new Uint8Array(8)];
  let sender: DirectDescriptor | undefined;
  const [, sent, again, first, second] = await uring.link((l) => {
    sender = l.direct();
    return [
      l.socket(AF_UNIX, SOCK_DGRAM, 0, { direct: sender }),
      l.sendto(sender, bytes("one"), address),
      l.sendmsg(sender, [bytes("t"), bytes("wo")], { address }),
      l.recvmsg(receiver, buffers[0]!),
      l.recvmsg(receiver, buffers[1]!, { timeout: 10_000 }),
      l.close(sender),
    ];
  });
  assert.deepEqual([sent, again, first.length, second.length], [3, 3, 3, 3]);
  assert.deepEqual(buffers.map((buffer) => text(buffer, 3)), ["one", "two"]);
  await uring.close(receiver);
  // A step that fails ends the chain.
  const results = await uring.linkSettled((l) => [l.sendmsg(1_000_000, buffers[0]!), l.nop()]);
  assert.deepEqual(results.map(({ status }) => status), ["rejected", "rejected"]);
});

test("memory stays where it is while the collector runs", async () => {
  await using uring = makeUring({ entries: 4 });
  const pairs = Array.from({ length: 40 }, () => new SocketPair());
  const receiving = pairs.map(async ({ a }, i) => {
    const parts = [new Uint8Array(10), new Uint8Array(90 + i)];
    const message = await uring.recvmsg(a.fd, parts, { descriptors: 1 });
    assert.equal(message.length, 100 + i);
    const whole = new Uint8Array(100 + i);
    whole.set(parts[0]!);
    whole.set(parts[1]!, 10);
    assertContent(whole, whole.length, 0, i);
    return message;
  });
  await uring.nop();
  for (let i = 0; i < 5; i++) {
    collect();
    await sleep(1);
  }
  const sending = pairs.map(({ b }, i) =>
    uring.sendmsg(b.fd, [content(100 + i, i)], { control: [{ kind: "rights", fds: [b.fd] }] })
  );
  collect();
  await Promise.all(sending);
  for (const message of await within(Promise.all(receiving), "all messages")) {
    assert.equal(message.descriptorCount, 1);
    message.dispose();
  }
  for (const pair of pairs) pair[Symbol.dispose]();
});

test("a buffer that is given away meanwhile is an error, and its descriptors are closed", async () => {
  await using uring = makeUring();
  using pair = new SocketPair();
  using dir = new TempDir();
  using file = openFile(dir.of("travels"), 0o102);
  const buffer = new Uint8Array(new ArrayBuffer(16));
  const receiving = failure(uring.recvmsg(pair.a.fd, buffer, { descriptors: 1 }));
  await flushed(uring);
  const kept = buffer.buffer.transfer();
  await uring.sendmsg(pair.b.fd, bytes("!"), { control: [{ kind: "rights", fds: [file.fd] }] });
  assert.ok(await receiving instanceof TypeError);
  assert.equal(kept.byteLength, 16);
  assert.equal(countDescriptors(/uring-test-.*travels/), 1);
});
