/** When what was sent went out, as it goes. */
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import {
  AF_INET,
  AF_INET6,
  AF_UNIX,
  IORING_OP_BIND,
  IORING_SETUP_CQE32,
  IORING_SETUP_CQE_MIXED,
  IPPROTO_TCP,
  MSG_DONTWAIT,
  MSG_ERRQUEUE,
  SCM_TSTAMP_ACK,
  SCM_TSTAMP_SCHED,
  SCM_TSTAMP_SND,
  SO_TIMESTAMPING,
  SOCK_DGRAM,
  SOCK_STREAM,
  SOF_TIMESTAMPING_OPT_CMSG,
  SOF_TIMESTAMPING_OPT_ID,
  SOF_TIMESTAMPING_OPT_TSONLY,
  SOF_TIMESTAMPING_SOFTWARE,
  SOF_TIMESTAMPING_TX_ACK,
  SOF_TIMESTAMPING_TX_SCHED,
  SOF_TIMESTAMPING_TX_SOFTWARE,
  SOL_IP,
  SOL_SOCKET,
  TCP_NODELAY,
} from "../../src/ffi/abi.ts";
import { check } from "../../src/ffi/errors.ts";
import { kernelHas } from "../../src/ffi/kernel.ts";
import { system } from "../../src/ffi/system.ts";
import type { SocketAddress, TxTimestamp, Uring } from "../../src/mod.ts";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { makeUring, SocketPair, until, within } from "../support/loop.ts";
import {
  bytes,
  closeAll,
  failure,
  listener,
  localAddress,
  LOOPBACK,
  rejectsWith,
} from "../support/operations.ts";
import { missingOp, missingRing } from "../support/rings.ts";

checkLeaks();

const noStamps = firstReason(missingOp(IORING_OP_BIND), kernelHas("6.17") ? false : "needs Linux 6.17");
const noIpv6 = existsSync("/proc/net/if_inet6") && readFileSync("/proc/net/if_inet6", "utf8").includes(" lo")
  ? false
  : "the machine has no IPv6";

const RINGS = [
  { name: "CQE32", flags: IORING_SETUP_CQE32 },
  { name: "CQE_MIXED", flags: IORING_SETUP_CQE_MIXED },
].map((ring) => ({ ...ring, skip: firstReason(noStamps, missingRing({ flags: ring.flags })) }));

const SOFTWARE = SOF_TIMESTAMPING_SOFTWARE | SOF_TIMESTAMPING_OPT_CMSG | SOF_TIMESTAMPING_OPT_ID |
  SOF_TIMESTAMPING_OPT_TSONLY;

function setOption(fd: number, level: number, name: number, value: number): void {
  check(
    system().rare.setsockopt(fd, level, name, new Uint8Array(Int32Array.of(value).buffer), 4),
    "setsockopt",
  );
}

/** A TCP connection that takes time stamps. */
async function stamped(
  uring: Uring,
  where: SocketAddress,
  stages: number,
): Promise<{ fd: number; rest: number[] }> {
  const listening = await listener(uring, where);
  const fd = await uring.socket(where.family === "ipv6" ? AF_INET6 : AF_INET, SOCK_STREAM);
  const accepting = uring.accept(listening.fd);
  setOption(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  await uring.connect(fd, listening.address);
  setOption(fd, SOL_SOCKET, SO_TIMESTAMPING, SOFTWARE | stages);
  return { fd, rest: [listening.fd, await accepting] };
}

const STAGES: readonly [string, number, readonly number[]][] = [
  ["SND", SOF_TIMESTAMPING_TX_SOFTWARE, [SCM_TSTAMP_SND]],
  ["ENQ", SOF_TIMESTAMPING_TX_SCHED, [SCM_TSTAMP_SCHED]],
  ["ACK", SOF_TIMESTAMPING_TX_ACK, [SCM_TSTAMP_ACK]],
  [
    "ENQ, SND and ACK",
    SOF_TIMESTAMPING_TX_SCHED | SOF_TIMESTAMPING_TX_SOFTWARE | SOF_TIMESTAMPING_TX_ACK,
    [SCM_TSTAMP_SCHED, SCM_TSTAMP_SND, SCM_TSTAMP_ACK],
  ],
];

for (const { name, flags, skip } of RINGS) {
  for (const [stages, bits, types] of STAGES) {
    test(`liburing timestamp: ${name}: ${stages}`, { skip: firstReason(skip, noIpv6) }, async () => {
      await using uring = makeUring({ flags });
      const { fd, rest } = await stamped(uring, { family: "ipv6", address: "::1", port: 0 }, bits);
      const stamps = uring.txTimestamps(fd);
      const before = BigInt(Date.now()) * 1_000_000n;
      // Each sends ten bytes: the key is the number of the last one.
      for (let round = 1; round <= 3; round++) {
        await uring.sendmsg(fd, bytes("aaaaaaaaaa"));
        const seen: TxTimestamp[] = [];
        for (const _ of types) seen.push((await within(stamps.next(), "a time stamp")).value!);
        assert.deepEqual(seen.map(({ type }) => type).sort(), [...types].sort());
        for (const { key, hardware, time } of seen) {
          assert.equal(key, round * 10 - 1);
          assert.equal(hardware, false);
          const off = time - before;
          assert.ok(off > -1_000_000_000n && off < 600_000_000_000n, `${off} ns after it was sent`);
        }
      }
      await stamps.return();
      assert.equal(uring.stats.inFlight, 0);
      closeAll(fd, ...rest);
    });
  }

  test(`${name}: stamps wait for whoever asks late; other operations go on`, { skip }, async () => {
    await using uring = makeUring({ flags });
    const receiver = await uring.socket(AF_INET, SOCK_DGRAM);
    await uring.bind(receiver, LOOPBACK);
    const fd = await uring.socket(AF_INET, SOCK_DGRAM);
    await uring.connect(fd, localAddress(receiver));
    setOption(fd, SOL_SOCKET, SO_TIMESTAMPING, SOFTWARE | SOF_TIMESTAMPING_TX_SOFTWARE);
    for (let i = 0; i < 20; i++) await uring.send(fd, bytes("x"));
    const direct = await uring.registerFile(fd);
    const stamps = uring.txTimestamps(direct);
    for (let i = 0; i < 20; i++) assert.equal((await within(stamps.next(), "a stamp")).value!.key, i);
    const waiting = stamps.next();
    await uring.nop();
    await uring.send(fd, bytes("x"));
    assert.equal((await within(waiting, "the next")).value!.key, 20);
    await stamps.return();
    await uring.close(direct);
    closeAll(fd, receiver);
  });

  test(`liburing timestamp-bug: ${name}: stamps between errors`, { skip }, async () => {
    await using uring = makeUring({ flags });
    const IP_RECVERR = 11;
    const receiver = await uring.socket(AF_INET, SOCK_DGRAM);
    await uring.bind(receiver, LOOPBACK);
    const address = localAddress(receiver);
    // A port that nobody listens at.
    const closed = await uring.socket(AF_INET, SOCK_DGRAM);
    await uring.bind(closed, LOOPBACK);
    const nowhere = localAddress(closed);
    closeAll(closed);
    const fd = await uring.socket(AF_INET, SOCK_DGRAM);
    setOption(fd, SOL_SOCKET, SO_TIMESTAMPING, SOFTWARE | SOF_TIMESTAMPING_TX_SOFTWARE);
    setOption(fd, SOL_IP, IP_RECVERR, 1);
    for (const to of [address, address, nowhere]) await uring.sendto(fd, bytes("A"), to);
    const stamps = uring.txTimestamps(fd);
    for (const key of [0, 1, 2]) assert.equal((await within(stamps.next(), "a stamp")).value!.key, key);
    await stamps.return();
    // The error is left where it was.
    const message = await uring.recvmsg(fd, new Uint8Array(8), {
      flags: MSG_ERRQUEUE | MSG_DONTWAIT,
      controlLength: 256,
    });
    assert.ok(message.control.length > 0);
    closeAll(fd, receiver);
  });

  test(`${name}: failures, signals, time limits, closing in the middle`, { skip }, async () => {
    const uring = makeUring({ flags });
    using pair = new SocketPair();
    await rejectsWith(uring.txTimestamps(1_000_000).next(), "EBADF", "tx_timestamp");
    const { fd, rest } = await stamped(uring, LOOPBACK, SOF_TIMESTAMPING_TX_SOFTWARE);
    await rejectsWith(uring.txTimestamps(fd, { timeout: 3 }).next(), "ETIMEDOUT", "tx_timestamp");
    const controller = new AbortController();
    const waiting = failure(uring.txTimestamps(fd, { signal: controller.signal }).next());
    await uring.nop();
    controller.abort("reason");
    assert.equal(await waiting, "reason");
    await until(() => uring.stats.inFlight === 0, "nothing in flight");
    const last = failure(uring.txTimestamps(fd).next());
    await uring.nop();
    await within(uring.disposeAsync(), "closing");
    assert.equal((await last).code, "ECANCELED");
    closeAll(fd, ...rest);
    assert.equal(pair.a.fd >= 0, true);
  });
}

test("a ring without large completions is told so", async () => {
  await using uring = makeUring({ flags: 0 });
  assert.throws(() => uring.txTimestamps(0), TypeError);
  assert.equal(uring.stats.inFlight, 0);
});

test("an Unix socket has no time stamps", { skip: RINGS[0]!.skip }, async () => {
  await using uring = makeUring({ flags: IORING_SETUP_CQE32 });
  const fd = await uring.socket(AF_UNIX, SOCK_STREAM);
  const outcome = await within(
    uring.txTimestamps(fd, { timeout: 20 }).next().then(() => "a stamp", (error) => error.code),
    "an outcome",
  );
  assert.ok(["ETIMEDOUT", "ENOTSUP"].includes(outcome), outcome);
  closeAll(fd);
});
