/** Registered waits and the regions that they lie in, the clock, busy polling, cancelling synchronously. */
import assert from "node:assert/strict";
import {
  CLOCK_BOOTTIME,
  CLOCK_MONOTONIC,
  CLOCK_REALTIME,
  IO_URING_NAPI_STATIC_ADD_ID,
  IO_URING_NAPI_TRACKING_DYNAMIC,
  IO_URING_NAPI_TRACKING_INACTIVE,
  IO_URING_NAPI_TRACKING_STATIC,
  IORING_ASYNC_CANCEL_ALL,
  IORING_ASYNC_CANCEL_FD,
  IORING_ASYNC_CANCEL_OP,
  IORING_ENTER_EXT_ARG,
  IORING_ENTER_EXT_ARG_REG,
  IORING_ENTER_GETEVENTS,
  IORING_MEM_REGION_REG_WAIT_ARG,
  IORING_OP_READ,
  IORING_SETUP_DEFER_TASKRUN,
  IORING_SETUP_IOPOLL,
  IORING_SETUP_R_DISABLED,
  IORING_SETUP_SINGLE_ISSUER,
  IORING_SETUP_SQPOLL,
  IOSQE_ASYNC,
  Mapping,
  type Ring,
  type RingOptions,
  type SyncCancelOptions,
} from "../../src/ring/mod.ts";
import { kernelHas } from "../../src/ffi/kernel.ts";
import { io_uring_reg_wait } from "../../src/ffi/structs.ts";
import { system } from "../../src/ffi/system.ts";
import { isMapped, Pipe } from "../support/descriptors.ts";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { OldKernel } from "../support/old_kernel.ts";
import {
  block,
  entry,
  eventually,
  forEachKind,
  makeRing,
  missingRing,
  once,
  reap,
} from "../support/rings.ts";
import { Connection, send } from "../support/sockets.ts";

checkLeaks();

const EFAULT = -14;
const PAGE = 4096;
const BRIEF = { sec: 0, nsec: 1000 } as const;
const SIZE = io_uring_reg_wait.size;
const noRegion = kernelHas("6.13") ? false : "needs Linux 6.13";
const noClock = kernelHas("6.12") ? false : "needs Linux 6.12";
const noNapi = kernelHas("6.9") ? false : "needs Linux 6.9";
const noTracking = kernelHas("6.13") ? false : "needs Linux 6.13";
const noOp = kernelHas("6.6") ? false : "needs Linux 6.6";

const disabled = (options: RingOptions): RingOptions => ({
  ...options,
  flags: (options.flags ?? 0) | IORING_SETUP_R_DISABLED,
});

/**
 * Cancels until `count` operations have ended. One at a time is found, or all that have come so far to where they can be
 * found: the kernel's thread and its workers take a while.
 */
function cancelled(ring: Ring, options: SyncCancelOptions, count: number): void {
  const results: number[] = [];
  eventually(() => {
    try {
      const found = ring.registerSyncCancel(options);
      assert.ok(found >= 0 && found <= count, `${found}`);
    } catch (error) {
      // Not there yet, or one nanosecond is too short to see the end.
      assert.match((error as { code: string }).code, /^(ENOENT|ETIME)$/);
    }
    ring.submitAndGetEvents();
    ring.forEachCqe(({ userData, res }) => {
      assert.equal(userData, 0x89);
      results.push(res);
    });
    return results.length === count;
  }, `${count} operations are cancelled`);
  for (const res of results) assert.ok(res < 0, `${res}`);
}

/** `io_uring_enter` that waits for one completion as the region says at an offset. */
function waitAt(ring: Ring, offset: number): number {
  const flags = IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG | IORING_ENTER_EXT_ARG_REG;
  return system().enterOffset(ring.fd, 0, 1, flags, offset, SIZE);
}

/** Checks how many entries a call says it has submitted: the thread of SQPOLL may have taken some before it counts. */
function assertSubmitted(ring: Ring, told: number, count: number): void {
  if ((ring.flags & IORING_SETUP_SQPOLL) === 0) assert.equal(told, count);
  else assert.ok(told >= 0 && told <= count, `${told}`);
}

forEachKind(({ name, options, skip }) => {
  test(
    `liburing reg-wait: ${name}: waits that lie in a region`,
    { skip: firstReason(skip, noRegion) },
    () => {
      using ring = makeRing(8, disabled(options));
      const waits = ring.registerWaitReg(3);
      assert.equal(waits.length, PAGE / SIZE - 1);
      ring.enableRings();
      // Each by itself: no other lies in the region that would do.
      for (const index of [waits.length - 1, 1, 0]) {
        waits.at(index).timeout = BRIEF;
        assert.deepEqual(waits.at(index).timeout, BRIEF);
        assert.equal(ring.submitAndWaitReg(1, index), 0);
        assert.equal(ring.cqReady(), 0);
      }
      assert.throws(() => ring.submitAndWaitReg(1, waits.length + 1), {
        code: "EFAULT",
        syscall: "io_uring_enter",
      });
      assert.throws(() => waits.at(waits.length), RangeError);
      // What is queued is submitted on the way, whether the time runs out or not.
      entry(ring, 1, (sqe) => sqe.prepNop());
      entry(ring, 2, (sqe) => sqe.prepNop());
      waits.at(2).timeout = { sec: 10, nsec: 0 };
      assertSubmitted(ring, ring.submitAndWaitReg(2, 2), 2);
      assert.deepEqual(reap(ring, 2).map(({ userData }) => userData), [1, 2]);
      entry(ring, 3, (sqe) => sqe.prepNop());
      assertSubmitted(ring, ring.submitAndWaitReg(2, 1), 1);
      assert.equal(reap(ring, 1)[0]!.userData, 3);
      // Without a limit it waits for what comes.
      entry(ring, 4, (sqe) => sqe.prepNop());
      waits.at(0).timeout = null;
      assert.equal(waits.at(0).timeout, null);
      assertSubmitted(ring, ring.submitAndWaitReg(1, 0), 1);
      assert.equal(reap(ring, 1)[0]!.userData, 4);
      // After the minimum one completion is enough.
      waits.at(0).timeout = { sec: 10, nsec: 0 };
      waits.at(0).minWaitUsec = 1;
      assert.equal(waits.at(0).minWaitUsec, 1);
      entry(ring, 5, (sqe) => sqe.prepNop());
      assertSubmitted(ring, ring.submitAndWaitReg(8, 0), 1);
      assert.equal(reap(ring, 1)[0]!.userData, 5);
    },
  );
});

test("liburing reg-wait: offsets and signal masks that cannot be", { skip: noRegion }, () => {
  using ring = makeRing(8, disabled({}));
  const waits = ring.registerWaitReg(64);
  ring.enableRings();
  const { byteLength } = waits.memory;
  for (const offset of [byteLength, byteLength - 8, byteLength - SIZE + 1, 2 ** 40]) {
    assert.equal(waitAt(ring, offset), EFAULT, `${offset}`);
  }
  waits.at(0).timeout = { sec: 1, nsec: 0 };
  waits.at(0).setSigmask(block(8).address, 1);
  assert.throws(() => ring.submitAndWaitReg(1, 0), { code: "EINVAL" });
  waits.at(0).setSigmask(100, 8);
  assert.throws(() => ring.submitAndWaitReg(1, 0), { code: "EFAULT" });
  waits.at(0).setSigmask(block(8).address, 8);
  waits.at(0).timeout = BRIEF;
  assert.equal(ring.submitAndWaitReg(1, 0), 0);
  // A flag that nobody knows.
  new DataView(waits.memory.buffer).setUint32(io_uring_reg_wait.flags, 0x8000_0000, true);
  assert.throws(() => ring.submitAndWaitReg(1, 0), { code: "EINVAL" });
});

test("liburing reg-wait: where it is unknown, nothing queued is published", () => {
  using _old = new OldKernel("5.10");
  using ring = makeRing(8);
  entry(ring, 1, (sqe) => sqe.prepNop());
  assert.throws(() => ring.submitAndWaitReg(1, 0), { code: "EINVAL", message: /needs Linux 6\.13/ });
  assert.equal(ring.sqReady(), 1);
  // Another enter submits nothing of it.
  assert.equal(system().enter(ring.fd, 1, 0, 0), 0);
  assert.equal(ring.submit(), 1);
});

test("liburing reg-wait: regions that cannot be", { skip: noRegion }, () => {
  using memory = Mapping.anonymous(4 * PAGE);
  const attempt = (region: Parameters<Ring["registerRegion"]>[0], started = false): string => {
    using ring = makeRing(1, started ? {} : disabled({}));
    try {
      ring.registerRegion({ flags: IORING_MEM_REGION_REG_WAIT_ARG, ...region });
      return "";
    } catch (error) {
      return (error as { code: string }).code;
    }
  };
  const piece = (offset: number, byteLength: number): Mapping =>
    ({ address: memory.address + offset, byteLength }) as Mapping;
  assert.equal(attempt({ memory }), "");
  assert.equal(attempt({ memory: piece(0, PAGE) }), "");
  assert.equal(attempt({ memory }, true), "EINVAL", "a ring that runs may have waiters");
  assert.equal(attempt({ memory: piece(0, 0) }), "EINVAL");
  assert.equal(attempt({ memory: piece(16, PAGE) }), "EINVAL");
  assert.equal(attempt({ memory: piece(-memory.address, PAGE) }), "EFAULT");
  assert.equal(attempt({ memory: piece(0x1000 - memory.address, PAGE) }), "EFAULT");
  assert.equal(attempt({ memory, flags: 0x10 }), "EINVAL");
  assert.equal(attempt({}), "EINVAL", "no size");
  // What is no wait may be registered at any time, and only once.
  using ring = makeRing(1);
  ring.registerRegion({ memory, flags: 0 });
  assert.throws(() => ring.registerRegion({ memory, flags: 0 }), {
    code: "EBUSY",
    message: /region already/,
  });
  assert.throws(() => ring.registerWaitReg(0), RangeError);
});

for (const pages of [1, 2, 8, 64]) {
  for (const ofKernel of [false, true]) {
    test(`liburing reg-wait: ${pages} pages of the ${ofKernel ? "kernel's" : "program's"}`, {
      skip: noRegion,
    }, () => {
      const own = ofKernel ? null : Mapping.anonymous(pages * PAGE);
      const ring = makeRing(1, disabled({}));
      const flags = IORING_MEM_REGION_REG_WAIT_ARG;
      const memory = ring.registerRegion(
        own === null ? { size: pages * PAGE, flags } : { memory: own, flags },
      );
      ring.enableRings();
      const last = pages * PAGE / SIZE - 2;
      const view = new DataView(memory.buffer);
      view.setUint32(last * SIZE + io_uring_reg_wait.flags, 1, true);
      view.setUint32(last * SIZE + io_uring_reg_wait.ts + 8, 1000, true);
      assert.equal(ring.submitAndWaitReg(1, last), 0);
      assert.throws(() => ring.submitAndWaitReg(1, last + 2), { code: "EFAULT" });
      const { address } = memory;
      ring.close();
      // What the kernel has allocated goes with the ring, what the program has does not.
      assert.equal(isMapped(address), !ofKernel);
      own?.unmap();
    });
  }
}

test("a ring without a descriptor cannot map what the kernel allocates", { skip: noRegion }, () => {
  using ring = makeRing(1);
  ring.registerRingFd();
  ring.closeRingFd();
  assert.throws(() => ring.registerRegion({ size: PAGE }), { code: "EBADF", message: /mapped through/ });
  using memory = Mapping.anonymous(PAGE);
  assert.equal(ring.registerRegion({ memory }), memory);
});

test("the region that a ring has made goes with it", { skip: noRegion }, () => {
  const ring = makeRing(1, disabled({}));
  const waits = ring.registerWaitReg(1);
  const { address } = waits.memory;
  const wait = waits.at(0);
  ring.close();
  assert.equal(isMapped(address), false);
  wait.timeout = BRIEF;
  wait.minWaitUsec = 5;
  assert.equal(wait.minWaitUsec, 0);
});

forEachKind(({ name, options, skip }) => {
  test(`${name}: the clock of waits is chosen`, { skip: firstReason(skip, noClock) }, () => {
    using ring = makeRing(2, options);
    for (const clock of [CLOCK_BOOTTIME, CLOCK_MONOTONIC]) {
      ring.registerClock(clock);
      // A second after the start of the machine is long past.
      assert.equal(ring.submitAndWaitTimeout(1, { sec: 1, nsec: 0 }, { absolute: true }), 0);
      assert.equal(ring.submitAndWaitTimeout(1, BRIEF), 0);
      assert.equal(once(ring, (sqe) => sqe.prepNop()).res, 0);
    }
    assert.throws(() => ring.registerClock(CLOCK_REALTIME), { code: "EINVAL", message: /CLOCK_BOOTTIME/ });
  });

  for (const async of [false, true]) {
    for (const all of [false, true]) {
      for (const byFd of [false, true]) {
        const what = `${all ? "all" : "one"} by ${byFd ? "descriptor" : "user_data"}${
          async ? ", in workers" : ""
        }`;
        test(`liburing sync-cancel: ${name}: ${what}`, { skip }, () => {
          using pipe = new Pipe();
          using ring = makeRing(8, options);
          const buffer = block(32);
          const count = all ? 4 : 1;
          for (let i = 0; i < count; i++) {
            entry(ring, 0x89, (sqe) => {
              sqe.prepRead(pipe.reader.fd, buffer.address, 32, -1);
              if (async) sqe.flags = IOSQE_ASYNC;
            });
          }
          ring.submit();
          const flags = (all ? IORING_ASYNC_CANCEL_ALL : 0) | (byFd ? IORING_ASYNC_CANCEL_FD : 0);
          const target = byFd ? { fd: pipe.reader.fd } : { userData: 0x89 };
          cancelled(ring, { ...target, flags, timeout: { sec: 20, nsec: 0 } }, count);
          assert.throws(
            () => ring.registerSyncCancel({ ...target, flags: flags & ~IORING_ASYNC_CANCEL_ALL }),
            {
              code: "ENOENT",
            },
          );
        });
      }
    }
    test(`liburing sync-cancel: ${name}: by operation, no longer than asked${async ? ", in workers" : ""}`, {
      skip: firstReason(skip, noOp),
    }, () => {
      using pipe = new Pipe();
      using ring = makeRing(8, options);
      const buffer = block(32);
      entry(ring, 0x89, (sqe) => {
        sqe.prepRead(pipe.reader.fd, buffer.address, 32, -1);
        if (async) sqe.flags = IOSQE_ASYNC;
      });
      ring.submit();
      const timeout = { sec: 0, nsec: 1 };
      cancelled(ring, { flags: IORING_ASYNC_CANCEL_OP, opcode: IORING_OP_READ, timeout }, 1);
    });
  }
});

const NAPI_RINGS: readonly (readonly [name: string, options: RingOptions])[] = [
  ["default", {}],
  ["DEFER_TASKRUN", { flags: IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN }],
  ["SQPOLL", { flags: IORING_SETUP_SQPOLL, sqThreadIdle: 5 }],
];

/** Why busy polling cannot be registered here, or `false`. */
function missingNapi(): string | false {
  if (noNapi !== false) return noNapi;
  using ring = makeRing(1);
  try {
    ring.registerNapi({ busyPollTo: 1 });
    return false;
  } catch (error) {
    return String(error);
  }
}
const napi = missingNapi();

for (const [name, options] of NAPI_RINGS) {
  test(`liburing napi-test: ${name}: what is received while polling busily`, {
    skip: firstReason(missingRing(options), napi),
  }, () => {
    using connection = Connection.tcp();
    using ring = makeRing(8, options);
    ring.registerNapi({ busyPollTo: 50, preferBusyPoll: true });
    const buffer = block(PAGE);
    let expected = 0;
    for (let round = 0; round < 64; round++) {
      send(connection.a.fd, Uint8Array.from({ length: PAGE }, (_, i) => (round + i) & 0xff));
      for (let left = PAGE; left > 0;) {
        const { res } = once(ring, (sqe) => sqe.prepRecv(connection.b.fd, buffer.address, left, 0));
        assert.ok(res > 0, `${res}`);
        for (let i = 0; i < res; i++) {
          if (buffer.bytes[i] !== ((round + PAGE - left + i) & 0xff)) assert.fail(`byte ${expected + i}`);
        }
        left -= res;
        expected += res;
      }
    }
    assert.deepEqual([ring.unregisterNapi().busyPollTo, ring.unregisterNapi().busyPollTo], [50, 0]);
  });
}

test("settings of busy polling come back", { skip: firstReason(napi, noTracking) }, () => {
  using ring = makeRing(1);
  assert.deepEqual(ring.registerNapi({ busyPollTo: 100, preferBusyPoll: true }), {
    busyPollTo: 0,
    preferBusyPoll: false,
    tracking: IO_URING_NAPI_TRACKING_INACTIVE,
  });
  assert.deepEqual(ring.registerNapi({ busyPollTo: 7, opParam: IO_URING_NAPI_TRACKING_STATIC }), {
    busyPollTo: 100,
    preferBusyPoll: true,
    tracking: IO_URING_NAPI_TRACKING_DYNAMIC,
  });
  // Ids below the first of a device are none.
  assert.throws(() => ring.registerNapi({ opcode: IO_URING_NAPI_STATIC_ADD_ID, opParam: 1 }), {
    code: "EINVAL",
  });
  assert.throws(() => ring.registerNapi({ opcode: 77 }), { code: "EINVAL" });
  assert.equal(ring.unregisterNapi().busyPollTo, 7);
});

test("IOPOLL excludes busy polling of devices", {
  skip: firstReason(napi, missingRing({ flags: IORING_SETUP_IOPOLL })),
}, () => {
  using ring = makeRing(1, { flags: IORING_SETUP_IOPOLL });
  assert.throws(() => ring.registerNapi({ busyPollTo: 1 }), {
    code: "EINVAL",
    message: /IORING_SETUP_IOPOLL/,
  });
});
