/** Twins of liburing's programs about NOPs, which can pretend to be other operations. */
import assert from "node:assert/strict";
import { kernelHas } from "../../src/ffi/kernel.ts";
import { system } from "../../src/ffi/system.ts";
import {
  IORING_NOP_CQE32,
  IORING_NOP_FILE,
  IORING_NOP_FIXED_BUFFER,
  IORING_NOP_FIXED_FILE,
  IORING_NOP_INJECT_RESULT,
  IORING_NOP_TW,
  IORING_SETUP_CQE32,
  IORING_SETUP_CQE_MIXED,
  IOSQE_ASYNC,
  IOSQE_FIXED_FILE,
  IOSQE_IO_DRAIN,
  O_RDWR,
} from "../../src/ring/mod.ts";
import { Fd, Pipe } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { block, entry, forEachKind, makeRing, once, reap } from "../support/rings.ts";

checkLeaks();

const EBADF = -9;
const EFAULT = -14;
const EINVAL = -22;
const EPIPE = -32;
const NO_FD = 1_000_000;

const noInject = kernelHas("6.10") ? false : "needs Linux 6.10";
const noFile = kernelHas("6.13") ? false : "needs Linux 6.13";
const noTw = kernelHas("6.15") ? false : "needs Linux 6.15";
const noNop32 = kernelHas("6.18") ? false : "needs Linux 6.18";

forEachKind(({ name, options, skip }) => {
  const big = ((options.flags ?? 0) & IORING_SETUP_CQE32) !== 0;

  test(`liburing nop: ${name}: inline and in a worker thread, alone and around a drain`, { skip }, () => {
    using ring = makeRing(8, options);
    for (let round = 0; round < 20; round++) {
      const flags = round % 2 === 0 ? 0 : IOSQE_ASYNC;
      const nop = (userData: number, more = 0): void => {
        entry(ring, userData, (sqe) => {
          sqe.prepNop();
          sqe.flags = flags | more;
        });
      };
      nop(1);
      ring.submitAndWait(1);
      const cqe = ring.waitCqe();
      assert.deepEqual([cqe.userData, cqe.res, cqe.flags], [1, 0, 0]);
      if (big) assert.deepEqual(cqe.bigCqe, [0n, 0n]);
      ring.cqeSeen(cqe);

      for (let i = 0; i < 8; i++) nop(i, i === 4 ? IOSQE_IO_DRAIN : 0);
      const found = reap(ring, 8);
      for (const { res } of found) assert.equal(res, 0);
      const order = found.map(({ userData }) => userData);
      assert.deepEqual([...order].sort(), [0, 1, 2, 3, 4, 5, 6, 7]);
      // The drain waits for those before it, and those after it wait for the drain.
      assert.equal(order[4], 4);
    }
  });

  test(`liburing nop, nop-flags: ${name}: a NOP's result can be chosen`, { skip: skip || noInject }, () => {
    using ring = makeRing(8, options);
    for (const flags of [0, IOSQE_ASYNC]) {
      for (const result of [EFAULT, 42]) {
        const { res } = once(ring, (sqe) => {
          sqe.prepNop();
          sqe.opFlags = IORING_NOP_INJECT_RESULT;
          sqe.len = result;
          sqe.flags = flags;
        });
        assert.equal(res, result);
      }
    }
  });

  test(
    `liburing nop-flags: ${name}: with a descriptor, which must be there`,
    { skip: skip || noFile },
    () => {
      using file = Fd.open("/dev/null", O_RDWR);
      using ring = makeRing(8, options);
      const nop = (fd: number, opFlags: number): number =>
        once(ring, (sqe) => {
          sqe.prepNop();
          sqe.opFlags = opFlags;
          sqe.fd = fd;
        }).res;
      assert.equal(nop(NO_FD, IORING_NOP_FILE), EBADF);
      assert.equal(nop(file.fd, IORING_NOP_FILE), 0);
      const direct = IORING_NOP_FILE | IORING_NOP_FIXED_FILE;
      assert.equal(nop(0, direct), EBADF);
      ring.registerFiles([file.fd]);
      assert.equal(nop(0, direct), 0);
      assert.equal(nop(999, direct), EBADF);
      ring.unregisterFiles();
    },
  );

  test(`liburing nop-flags: ${name}: with a registered buffer`, { skip: skip || noFile }, () => {
    using ring = makeRing(8, options);
    const { address } = block(4096);
    ring.registerBuffers([{ address, length: 4096 }]);
    const nop = (index: number): number =>
      once(ring, (sqe) => {
        sqe.prepNop();
        sqe.opFlags = IORING_NOP_FIXED_BUFFER;
        sqe.bufIndex = index;
      }).res;
    assert.equal(nop(0), 0);
    assert.equal(nop(999), EFAULT);
    ring.unregisterBuffers();
  });

  test(
    `liburing nop-flags: ${name}: completed by task work, and all of it at once`,
    { skip: skip || noTw },
    () => {
      using file = Fd.open("/dev/null", O_RDWR);
      using ring = makeRing(8, options);
      for (let i = 1; i <= 8; i++) {
        entry(ring, i, (sqe) => {
          sqe.prepNop();
          sqe.opFlags = IORING_NOP_TW;
        });
      }
      const found = reap(ring, 8);
      assert.deepEqual(
        found.map(({ userData, res }) => [userData, res]).sort(),
        [1, 2, 3, 4, 5, 6, 7, 8].map((i) => [i, 0]),
      );
      const injected = once(ring, (sqe) => {
        sqe.prepNop();
        sqe.opFlags = IORING_NOP_TW | IORING_NOP_INJECT_RESULT;
        sqe.len = 42;
      });
      assert.equal(injected.res, 42);

      const { address } = block(4096);
      ring.registerFiles([file.fd]);
      ring.registerBuffers([{ address, length: 4096 }]);
      const all = once(ring, (sqe) => {
        sqe.prepNop();
        sqe.opFlags = IORING_NOP_FILE | IORING_NOP_FIXED_FILE | IORING_NOP_FIXED_BUFFER | IORING_NOP_TW;
        sqe.fd = 0;
        sqe.bufIndex = 0;
      });
      assert.equal(all.res, 0);
      ring.unregisterBuffers();
      ring.unregisterFiles();
    },
  );

  test(`liburing nop-flags: ${name}: 32 bytes, on a ring that has them`, { skip: skip || noNop32 }, () => {
    using ring = makeRing(8, options);
    entry(ring, 1, (sqe) => {
      sqe.prepNop();
      sqe.opFlags = IORING_NOP_CQE32;
      sqe.off = 0xdead_beef_1234_5678n;
      sqe.addr = 0xabcd_ef00_1122_3344n;
    });
    ring.submit();
    const cqe = ring.waitCqe();
    const can = ((options.flags ?? 0) & (IORING_SETUP_CQE32 | IORING_SETUP_CQE_MIXED)) !== 0;
    assert.equal(cqe.res, can ? 0 : EINVAL);
    if (can) assert.deepEqual(cqe.bigCqe, [0xdead_beef_1234_5678n, 0xabcd_ef00_1122_3344n]);
    ring.cqeSeen(cqe);
  });

  test(
    `liburing nop-fixed-file-leak: ${name}: a NOP gives its descriptor back`,
    { skip: skip || noFile },
    () => {
      using ring = makeRing(8, options);
      using pipe = new Pipe();
      // The entry's own flag for direct descriptors contradicts the NOP's; whatever comes of it, nothing may be kept.
      once(ring, (sqe) => {
        sqe.prepNop();
        sqe.opFlags = IORING_NOP_FILE;
        sqe.fd = pipe.reader.fd;
        sqe.flags = IOSQE_FIXED_FILE;
      });
      pipe.reader.close();
      assert.equal(system().write(pipe.writer.fd, Uint8Array.of(120), 1), EPIPE);
    },
  );
});
