/** Twins of liburing's programs about polling for completions, on disks that can and files that cannot be polled for. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import {
  IORING_SETUP_HYBRID_IOPOLL,
  IORING_SETUP_IOPOLL,
  IORING_SETUP_SQPOLL,
  IORING_SETUP_SUBMIT_ALL,
  IOSQE_BUFFER_SELECT,
  IOSQE_FIXED_FILE,
  IOSQE_IO_LINK,
  Mapping,
  O_DIRECT,
  O_RDONLY,
  type Ring,
  SO_REUSEADDR,
  SOCKET_URING_OP_GETSOCKOPT,
  SOCKET_URING_OP_SETSOCKOPT,
  SOL_SOCKET,
} from "../../src/ring/mod.ts";
import { assertContent, content } from "../support/content.ts";
import { Fd, TempDir } from "../support/descriptors.ts";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { missingPolling, openPollable } from "../support/pollable.ts";
import { fixture, output } from "../support/program.ts";
import { block, entry, makeRing, missingRing, reap } from "../support/rings.ts";
import { Bound } from "../support/sockets.ts";

checkLeaks();

const EINVAL = -22;
const EOPNOTSUPP = -95;
const IOPOLL = IORING_SETUP_IOPOLL;
const HYBRID = IOPOLL | IORING_SETUP_HYBRID_IOPOLL;
const COUNT = 64;
const SIZE = 4096;
const SHORT = { sec: 0, nsec: 2_000_000 };

const unpollable = missingPolling();
const noHybrid = missingRing({ flags: HYBRID });

/** A file of blocks; read past the page cache where its file system can. */
function openFile(dir: TempDir): Fd {
  writeFileSync(dir.of("file"), content(COUNT * SIZE));
  try {
    return Fd.open(dir.of("file"), O_RDONLY | O_DIRECT);
  } catch {
    return Fd.open(dir.of("file"), O_RDONLY);
  }
}

/** Takes `count` completions by peeking alone. */
function peekAll(ring: Ring, count: number): number[] {
  const results: number[] = [];
  const deadline = performance.now() + 30_000;
  while (results.length < count && performance.now() < deadline) {
    const cqe = ring.peekCqe();
    if (cqe === null) continue;
    results.push(cqe.res);
    ring.cqeSeen(cqe);
  }
  assert.equal(results.length, count);
  return results;
}

for (const [name, flags, skip] of [["IOPOLL", IOPOLL, false], ["HYBRID_IOPOLL", HYBRID, noHybrid]] as const) {
  test(
    `liburing iopoll: ${name}: what cannot be polled for says EOPNOTSUPP`,
    { skip: firstReason(skip) },
    () => {
      using dir = new TempDir();
      using file = openFile(dir);
      using memory = Mapping.anonymous(COUNT * SIZE);
      using ring = makeRing(COUNT, { flags });
      for (let i = 0; i < COUNT; i++) {
        entry(ring, i, (sqe) => sqe.prepRead(file.fd, memory.address + i * SIZE, SIZE, i * SIZE));
      }
      // Some file systems can, where the disk below can.
      const results = new Set(reap(ring, COUNT).map(({ res }) => res));
      assert.equal(results.size, 1);
      assert.ok(results.has(EOPNOTSUPP) || results.has(SIZE), [...results].join());
    },
  );

  for (const [how, more] of [["", 0], [" by a kernel thread", IORING_SETUP_SQPOLL]] as const) {
    test(`liburing iopoll: ${name}${how}: writes and reads, plain, registered and with chosen buffers`, {
      skip: firstReason(skip, unpollable),
    }, () => {
      using disk = openPollable();
      using memory = Mapping.anonymous(COUNT * SIZE);
      const bytes = new Uint8Array(memory.buffer);
      const expected = content(COUNT * SIZE);
      const options = { flags: flags | more };
      using ring = makeRing(COUNT, more === 0 ? options : { ...options, sqThreadIdle: 20 });
      ring.registerFiles([disk.fd]);
      ring.registerBuffers([{ address: memory.address, length: COUNT * SIZE }]);
      for (const registered of [false, true]) {
        const all = (prep: "Write" | "Read"): void => {
          for (let i = 0; i < COUNT; i++) {
            entry(ring, i, (sqe) => {
              const at = memory.address + i * SIZE;
              if (registered) sqe[`prep${prep}Fixed`](0, at, SIZE, i * SIZE, 0);
              else sqe[`prep${prep}`](disk.fd, at, SIZE, i * SIZE);
              if (registered) sqe.flags = IOSQE_FIXED_FILE;
            });
          }
          ring.submit();
          assert.ok(peekAll(ring, COUNT).every((res) => res === SIZE));
        };
        bytes.set(expected);
        all("Write");
        bytes.fill(0);
        all("Read");
        assertContent(bytes, COUNT * SIZE, 0);
      }
      bytes.fill(0);
      entry(ring, 1, (sqe) => sqe.prepProvideBuffers(memory.address, SIZE, COUNT, 7, 0));
      assert.ok(reap(ring, 1)[0]!.res >= 0);
      for (let i = 0; i < COUNT; i++) {
        entry(ring, i, (sqe) => {
          sqe.prepRead(disk.fd, 0, SIZE, i * SIZE);
          sqe.flags = IOSQE_BUFFER_SELECT;
          sqe.bufGroup = 7;
        });
      }
      ring.submit();
      for (const { userData, res, flags } of reap(ring, COUNT)) {
        assert.equal(res, SIZE);
        const at = (flags >>> 16) * SIZE;
        assertContent(bytes.subarray(at, at + SIZE), SIZE, userData * SIZE);
      }
    });
  }

  test(
    `liburing iopoll: ${name}: submitting fetches what has ended`,
    { skip: firstReason(skip, unpollable) },
    () => {
      using disk = openPollable();
      using memory = Mapping.anonymous(COUNT * SIZE);
      using ring = makeRing(COUNT, { flags });
      for (let i = 0; i < COUNT; i++) {
        entry(ring, i, (sqe) => sqe.prepRead(disk.fd, memory.address + i * SIZE, SIZE, i * SIZE));
      }
      assert.equal(ring.enter(COUNT, 0, 0), COUNT);
      const deadline = performance.now() + 30_000;
      while (ring.cqReady() === 0 && performance.now() < deadline) assert.equal(ring.submit(), 0);
      assert.ok(ring.cqReady() > 0);
      assert.ok(reap(ring, COUNT).every(({ res }) => res === SIZE));
    },
  );

  test(`${name}: waits have their time limits all the same`, { skip: firstReason(skip) }, () => {
    using ring = makeRing(4, { flags });
    assert.equal(ring.waitCqeTimeout(SHORT), null);
    assert.equal(ring.submitAndWaitTimeout(1, SHORT), 0);
    assert.equal(ring.waitCqes(1, { sec: 1, nsec: 0 }, { absolute: true }), null);
    entry(ring, 1, (sqe) => sqe.prepNop());
    assert.equal(ring.submitAndWaitTimeout(2, SHORT, { minWaitUsec: 100 }), 1);
    assert.equal(ring.waitCqes(1, { sec: 600, nsec: 0 })!.userData, 1);
    assert.equal(ring.waitCqes(2, { sec: 600, nsec: 0 }, { minWaitUsec: 1000 })!.userData, 1);
    ring.cqAdvance(1);
    assert.equal(ring.peekCqe(), null);
  });
}

test("liburing iopoll-overflow: more completions than the queue holds", () => {
  using dir = new TempDir();
  using file = unpollable === false ? openPollable() : openFile(dir);
  using memory = Mapping.anonymous(COUNT * SIZE);
  using ring = makeRing(COUNT, { flags: IOPOLL | IORING_SETUP_SUBMIT_ALL, cqEntries: COUNT });
  const expected = unpollable === false ? SIZE : EOPNOTSUPP;
  for (let round = 0; round < 8; round++) {
    for (let i = 0; i < COUNT; i++) {
      entry(
        ring,
        round * COUNT + i,
        (sqe) => sqe.prepRead(file.fd, memory.address + i * SIZE, SIZE, i * SIZE),
      );
    }
    assert.equal(ring.enter(COUNT, 0, 0), COUNT);
  }
  const found = reap(ring, 8 * COUNT);
  assert.equal(new Set(found.map(({ userData }) => userData)).size, 8 * COUNT);
  assert.ok(found.every(({ res }) => res === expected || res === SIZE));
  assert.equal(ring.cqHasOverflow(), false);
});

test("liburing iopoll-leak: a program ends with a polled read in flight", async () => {
  using dir = new TempDir();
  using _file = openFile(dir);
  for (let i = 0; i < 3; i++) {
    assert.equal(await output(fixture("ring_exit.ts"), ["iopoll", dir.of("file")]), "done\n");
  }
});

test("liburing iopoll-sync: commands of a socket on a polled ring, in order, or refused", () => {
  using socket = Bound.tcp();
  using ring = makeRing(4, { flags: IOPOLL });
  const values = [123, 1, 123].map((value) => {
    const made = block(4);
    made.view.setInt32(0, value, true);
    return made;
  });
  const ops = [SOCKET_URING_OP_GETSOCKOPT, SOCKET_URING_OP_SETSOCKOPT, SOCKET_URING_OP_GETSOCKOPT];
  ops.forEach((op, i) =>
    entry(ring, i + 1, (sqe) => {
      sqe.prepCmdSock(op, socket.fd, SOL_SOCKET, SO_REUSEADDR, values[i]!.address, 4);
      if (i < 2) sqe.flags = IOSQE_IO_LINK;
    })
  );
  assert.equal(ring.submit(), 3);
  const found = reap(ring, 3);
  assert.deepEqual(found.map(({ userData }) => userData), [1, 2, 3]);
  const [first] = found;
  if (first!.res === EOPNOTSUPP || first!.res === EINVAL) {
    const ECANCELED = -125;
    assert.deepEqual(found.slice(1).map(({ res }) => res), [ECANCELED, ECANCELED]);
    return;
  }
  assert.deepEqual(found.map(({ res }) => res), [4, 0, 4]);
  assert.equal(values[2]!.view.getInt32(0, true), 1);
});
