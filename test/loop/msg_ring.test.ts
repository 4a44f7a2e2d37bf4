/** Messages between rings: numbers and files, to this thread and to others. */
import assert from "node:assert/strict";
import {
  IORING_OP_MSG_RING,
  IORING_SETUP_CQE32,
  IORING_SETUP_DEFER_TASKRUN,
  IORING_SETUP_NO_MMAP,
  IORING_SETUP_REGISTERED_FD_ONLY,
  IORING_SETUP_SINGLE_ISSUER,
  IORING_SETUP_SQE128,
  IORING_SETUP_SQPOLL,
} from "../../src/ffi/abi.ts";
import type { DirectDescriptor, Inbox, RingMessage } from "../../src/mod.ts";
import { EventFd, Pipe } from "../support/descriptors.ts";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { collect, FLAGS, makeUring, SocketPair, within } from "../support/loop.ts";
import {
  bytes,
  countDescriptors,
  failure,
  flushed,
  put,
  refuses,
  rejectsWith,
  text,
} from "../support/operations.ts";
import { fixture, output } from "../support/program.ts";
import { entry, makeRing, missingOp, missingRing, reap } from "../support/rings.ts";

checkLeaks();

const skip = missingOp(IORING_OP_MSG_RING);

async function take(inbox: Inbox): Promise<RingMessage> {
  const { value } = await within(inbox.next(), "a message");
  assert.ok(value !== undefined, "the inbox has ended");
  return value;
}

for (const { name, flags, skip: lacking } of FLAGS) {
  for (const { name: other, flags: otherFlags, skip: otherLacking } of FLAGS) {
    const reason = firstReason(skip, lacking, otherLacking);
    test(`${name} to ${other}: numbers and files`, { skip: reason }, async () => {
      await using sender = makeUring({ entries: 8, flags });
      await using receiver = makeUring({ entries: 8, flags: otherFlags });
      await using inbox = receiver.messages();
      using pair = new SocketPair();
      const sent = Array.from(
        { length: 40 },
        (_, i) => sender.msgRing(inbox.address, { value: i, tag: 1000 + i }),
      );
      for (let i = 0; i < 40; i++) {
        assert.deepEqual(await take(inbox), { kind: "data", value: i, tag: 1000 + i });
      }
      await Promise.all(sent);
      const file = await sender.registerFile(pair.a.fd);
      await sender.sendFd(inbox.address, file, { tag: 7 });
      const message = await take(inbox);
      assert.ok(message.kind === "descriptor" && message.tag === 7);
      await sender.close(file);
      put(pair.b.fd, "through");
      const buffer = new Uint8Array(7);
      assert.equal(await receiver.recv(message.descriptor, buffer), 7);
      assert.equal(text(buffer), "through");
      await receiver.close(message.descriptor);
    });
  }
}

test("the largest numbers, and none", { skip }, async () => {
  await using uring = makeUring();
  await using inbox = uring.messages();
  const most = { value: 0xffff_ffff, tag: 0x3fff_ffff };
  await uring.msgRing(inbox.address, most);
  await uring.msgRing(inbox.address);
  await uring.msgRing(inbox.address, { value: 0x8000_0000 });
  await uring.msgRing(inbox.address, { tag: 1 });
  assert.equal(inbox.length, 4);
  assert.deepEqual(await take(inbox), { kind: "data", ...most });
  assert.deepEqual(await take(inbox), { kind: "data", value: 0, tag: 0 });
  assert.deepEqual(await take(inbox), { kind: "data", value: 0x8000_0000, tag: 0 });
  assert.deepEqual(await take(inbox), { kind: "data", value: 0, tag: 1 });
});

test("messages settle nobody's promise, whatever is in flight", { skip }, async () => {
  await using uring = makeUring({ entries: 4 });
  await using sender = makeUring();
  await using inbox = uring.messages();
  using pair = new SocketPair();
  const buffers = Array.from({ length: 50 }, () => new Uint8Array(1));
  const waiting = buffers.map((buffer) => uring.recv(pair.a.fd, buffer));
  let settled = 0;
  for (const promise of waiting) promise.then(() => settled++);
  for (let i = 0; i < 200; i++) await sender.msgRing(inbox.address, { value: i, tag: i });
  for (let i = 0; i < 200; i++) assert.equal((await take(inbox)).tag, i);
  assert.equal(settled, 0);
  put(pair.b.fd, new Uint8Array(50));
  for (const length of await within(Promise.all(waiting), "all receives")) assert.equal(length, 1);
});

test("what is not a message of ours harms nobody", { skip }, async () => {
  await using uring = makeUring();
  await using inbox = uring.messages();
  using raw = makeRing(8);
  using pair = new SocketPair();
  const waiting = uring.recv(pair.a.fd, new Uint8Array(1));
  await flushed(uring);
  // To slots that are not there, to the next use of one, to none.
  for (const userData of [0x7fff_0000n, 0x12_0000_0000n, 0xffn, 0x3fff_ffff_0000_0000n, 0xffff_fff0n]) {
    entry(raw, 1, (sqe) => sqe.prepMsgRing(inbox.address.ring, 1, userData, 0));
    assert.equal(reap(raw, 1)[0]!.res, 0);
    await uring.nop();
  }
  assert.equal(inbox.length, 0);
  put(pair.b.fd, "x");
  assert.equal(await within(waiting, "recv"), 1);
  await inbox.return();
  assert.equal(uring.stats.inFlight, 0);
});

test("many calls of next at once; an open inbox counts as work", { skip }, async () => {
  await using uring = makeUring();
  const inbox = uring.messages();
  assert.equal(uring.stats.inFlight, 1);
  const nexts = [inbox.next(), inbox.next(), inbox.next()];
  for (let value = 0; value < 2; value++) await uring.msgRing(inbox.address, { value });
  assert.deepEqual((await nexts[0]!).value, { kind: "data", value: 0, tag: 0 });
  assert.deepEqual((await nexts[1]!).value, { kind: "data", value: 1, tag: 0 });
  await inbox.return();
  assert.deepEqual(await nexts[2], { done: true, value: undefined });
  assert.equal(uring.stats.inFlight, 0);
  assert.deepEqual(await inbox.next(), { done: true, value: undefined });
  await inbox.return();
});

test("one inbox at a time; another after it has the same address", { skip }, async () => {
  await using uring = makeUring();
  const first = uring.messages();
  assert.throws(() => uring.messages(), TypeError);
  const { address } = first;
  await first.return();
  // Nobody takes this one.
  await uring.msgRing(address, { value: 1 });
  await uring.timeout(1);
  await using second = uring.messages();
  assert.deepEqual(second.address, address);
  await uring.msgRing(address, { value: 2 });
  assert.deepEqual(await take(second), { kind: "data", value: 2, tag: 0 });
});

test("files that nobody takes are closed", { skip }, async () => {
  await using uring = makeUring();
  await using sender = makeUring();
  const inbox = uring.messages();
  using eventfd = new EventFd();
  const file = await sender.registerFile(eventfd.fd);
  const open = countDescriptors(/eventfd/);
  for (let i = 0; i < 600; i++) {
    // More than the table holds: they must have been closed on the way.
    await sender.sendFd(inbox.address, file);
    if (i % 200 === 100) {
      for (let taken = inbox.length; taken > 0; taken--) {
        const message = await take(inbox);
        if (message.kind === "descriptor") await uring.close(message.descriptor);
      }
    }
  }
  await inbox.return();
  for (let i = 0; i < 600; i++) {
    await sender.sendFd(inbox.address, file);
    await uring.nop();
  }
  await uring.nop();
  await using again = uring.messages();
  await sender.sendFd(again.address, file);
  assert.equal((await take(again)).kind, "descriptor");
  assert.equal(countDescriptors(/eventfd/), open);
  await sender.close(file);
});

test("files never come into a slot that was given out here", { skip }, async () => {
  await using uring = makeUring({ directDescriptors: 16 });
  await using sender = makeUring();
  await using inbox = uring.messages();
  using eventfd = new EventFd();
  const file = await sender.registerFile(eventfd.fd);
  const received: DirectDescriptor[] = [];
  for (let round = 0; round < 40; round++) {
    const own = await Promise.all(
      Array.from({ length: 1 + round % 8 }, () => uring.openat("/proc/self/comm", { direct: true })),
    );
    await uring.close(own.shift()!);
    await sender.sendFd(inbox.address, file);
    const message = await take(inbox);
    assert.ok(message.kind === "descriptor");
    received.push(message.descriptor);
    for (const descriptor of own) {
      assert.ok(await uring.read(descriptor, new Uint8Array(64), { offset: 0 }) > 0, "still the same file");
      await uring.close(descriptor);
    }
    if (received.length > 6) await uring.close(received.shift()!);
  }
  for (const descriptor of received) await uring.close(descriptor);
  await sender.close(file);
});

test("a full table refuses files", { skip }, async () => {
  await using uring = makeUring({ directDescriptors: 4 });
  await using sender = makeUring();
  await using inbox = uring.messages();
  using pipe = new Pipe();
  const file = await sender.registerFile(pipe.reader.fd);
  await sender.sendFd(inbox.address, file);
  await sender.sendFd(inbox.address, file);
  await rejectsWith(sender.sendFd(inbox.address, file), "ENFILE", "msg_ring_fd");
  const message = await take(inbox);
  assert.ok(message.kind === "descriptor");
  await uring.close(message.descriptor);
  await sender.sendFd(inbox.address, file);
  await sender.close(file);
});

test("failures: no ring, a closed one, a file to the own table", { skip }, async () => {
  await using uring = makeUring();
  using pipe = new Pipe();
  const file = await uring.registerFile(pipe.reader.fd);
  const inbox = uring.messages();
  await rejectsWith(uring.msgRing({ ring: pipe.reader.fd }), "EBADFD", "msg_ring");
  await rejectsWith(uring.msgRing({ ring: 1_000_000 }), "EBADF", "msg_ring");
  await rejectsWith(uring.sendFd({ ring: pipe.reader.fd }, file), "EBADFD", "msg_ring_fd");
  // To oneself there is nothing to send.
  await rejectsWith(uring.sendFd(inbox.address, file), "EINVAL", "msg_ring_fd");
  await inbox.return();
  const gone = makeUring();
  const { address } = gone.messages();
  await gone.disposeAsync();
  const error = await failure(uring.msgRing(address));
  assert.ok(["EBADF", "EBADFD"].includes(error.code), String(error));
  await uring.close(file);
});

test("wrong arguments are refused before anything happens", { skip }, async () => {
  await using uring = makeUring();
  await using other = makeUring();
  using pipe = new Pipe();
  const to = { ring: 0 };
  const foreign = await other.registerFile(pipe.reader.fd);
  await refuses(uring, TypeError, () => uring.msgRing(null as never));
  await refuses(uring, TypeError, () => uring.msgRing({ ring: -1 }));
  await refuses(uring, TypeError, () => uring.msgRing({ ring: "0" } as never));
  await refuses(uring, TypeError, () => uring.msgRing(to, 1 as never));
  await refuses(uring, RangeError, () => uring.msgRing(to, { value: -1 }));
  await refuses(uring, RangeError, () => uring.msgRing(to, { value: 2 ** 32 }));
  await refuses(uring, RangeError, () => uring.msgRing(to, { tag: 2 ** 30 }));
  await refuses(uring, RangeError, () => uring.msgRing(to, { tag: 0.5 }));
  await refuses(uring, TypeError, () => uring.sendFd(to, pipe.reader.fd as never));
  await refuses(uring, TypeError, () => uring.sendFd(to, foreign));
  await other.close(foreign);
  await refuses(other, TypeError, () => other.sendFd(to, foreign));
});

test("in a chain, with a time limit, with a signal", { skip }, async () => {
  await using uring = makeUring();
  await using receiver = makeUring();
  await using inbox = receiver.messages();
  using pair = new SocketPair();
  await uring.link((l) => [
    l.send(pair.a.fd, bytes("x")),
    l.msgRing(inbox.address, { value: 1 }),
    l.msgRing(inbox.address, { value: 2 }, { timeout: 10_000 }),
  ]);
  assert.deepEqual([(await take(inbox)).kind, (await take(inbox)).kind], ["data", "data"]);
  // What a chain breaks off is not sent.
  await uring.linkSettled((
    l,
  ) => [l.recv(1_000_000, new Uint8Array(1)), l.msgRing(inbox.address, { value: 3 })]);
  assert.equal(
    await failure(uring.msgRing(inbox.address, {}, { signal: AbortSignal.abort("early") })),
    "early",
  );
  await uring.msgRing(inbox.address, { value: 4 });
  assert.deepEqual(await take(inbox), { kind: "data", value: 4, tag: 0 });
});

test("closing the receiving ring in the middle", { skip }, async () => {
  const uring = makeUring();
  await using sender = makeUring();
  using pipe = new Pipe();
  const inbox = uring.messages();
  const file = await sender.registerFile(pipe.reader.fd);
  await sender.sendFd(inbox.address, file);
  await sender.msgRing(inbox.address, { value: 1 });
  await take(inbox);
  await take(inbox);
  await sender.sendFd(inbox.address, file);
  const waiting = [inbox.next(), inbox.next(), inbox.next()];
  await waiting[0];
  const failing = failure(waiting[1]!);
  await within(uring.disposeAsync(), "closing");
  assert.equal((await failing).code, "ECANCELED");
  assert.deepEqual(await waiting[2], { done: true, value: undefined });
  assert.deepEqual(await inbox.next(), { done: true, value: undefined });
  await inbox.return();
  await sender.close(file);
});

test("an inbox of a ring that is closed with nobody waiting tells so once", { skip }, async () => {
  const uring = makeUring();
  const inbox = uring.messages();
  await uring.disposeAsync();
  assert.equal((await failure(inbox.next())).code, "ECANCELED");
  assert.deepEqual(await inbox.next(), { done: true, value: undefined });
  assert.throws(() => uring.messages(), TypeError);
});

test("rings of large entries; a ring without a descriptor has no address", { skip }, async () => {
  const LARGE = IORING_SETUP_SQE128 | IORING_SETUP_CQE32;
  const NAMELESS = IORING_SETUP_NO_MMAP | IORING_SETUP_REGISTERED_FD_ONLY;
  if (missingRing({ flags: LARGE }) === false) {
    await using uring = makeUring({ flags: LARGE });
    await using inbox = uring.messages();
    await uring.msgRing(inbox.address, { value: 5, tag: 6 });
    assert.deepEqual(await take(inbox), { kind: "data", value: 5, tag: 6 });
  }
  if (missingRing({ flags: NAMELESS }) === false) {
    await using uring = makeUring({ flags: NAMELESS });
    await refuses(uring, TypeError, () => uring.messages());
  }
});

test("a full queue of completions loses no message", { skip }, async () => {
  for (const flags of [0, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN]) {
    await using uring = makeUring({ entries: 2, cqEntries: 2, flags });
    await using sender = makeUring({ entries: 64 });
    await using inbox = uring.messages();
    const sending = Array.from({ length: 300 }, (_, value) => sender.msgRing(inbox.address, { value }));
    collect();
    await within(Promise.all(sending), "sending");
    for (let value = 0; value < 300; value++) {
      const message = await take(inbox);
      assert.ok(
        message.kind === "data" && message.value === value,
        `${JSON.stringify(message)}, not ${value}`,
      );
    }
  }
});

test("an unreferenced ring's inbox does not keep the process alive", { skip }, async () => {
  await using uring = makeUring();
  uring.unref();
  await using inbox: Inbox = uring.messages();
  assert.equal(inbox.length, 0);
});

const permissions = ["--allow-ffi", "--allow-read"];
const RINGS: readonly [string, number | undefined][] = [
  ["default rings", undefined],
  ["plain rings", 0],
  ["SQPOLL", IORING_SETUP_SQPOLL],
];

for (const [name, flags] of RINGS) {
  const args = flags === undefined ? [] : [String(flags)];
  test(
    `liburing msg-ring: ${name}: messages between Workers, in order, while they work`,
    { skip },
    async () => {
      assert.equal(
        await output(fixture("msg_ring.ts"), ["echo", ...args], { permissions }),
        "500,500,500 1\n",
      );
    },
  );

  test(`liburing msg-ring-fd: ${name}: files between Workers`, { skip }, async () => {
    assert.equal(await output(fixture("msg_ring.ts"), ["files", ...args], { permissions }), "20 files\n");
  });
}

test("a Worker that is gone refuses messages", { skip }, async () => {
  assert.equal(await output(fixture("msg_ring.ts"), ["gone"], { permissions }), "refused\n");
});
