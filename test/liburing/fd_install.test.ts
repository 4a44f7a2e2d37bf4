/** From a registered file to a descriptor: what liburing's program of this name checks. */
import assert from "node:assert/strict";
import {
  IORING_FIXED_FD_NO_CLOEXEC,
  IORING_OP_FIXED_FD_INSTALL,
  IORING_REGISTER_PERSONALITY,
  IOSQE_ASYNC,
  IOSQE_FIXED_FILE,
  IOSQE_IO_LINK,
  O_CLOEXEC,
  type Ring,
  type Sqe,
} from "../../src/ring/mod.ts";
import { system } from "../../src/ffi/system.ts";
import { Fd, fdFlags } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { WaitingPipe } from "../support/operations.ts";
import {
  assertEntry,
  block,
  entry,
  forEachKind,
  makeRing,
  missingOp,
  once,
  reap,
  reapResults,
} from "../support/rings.ts";

checkLeaks();

const EPERM = -1;
const EBADF = -9;
const EINVAL = -22;

const noInstall = missingOp(IORING_OP_FIXED_FD_INSTALL);

function install(ring: Ring, slot: number, flags = 0, change?: (sqe: Sqe) => void): number {
  return once(ring, (sqe) => {
    sqe.prepFixedFdInstall(slot, flags);
    change?.(sqe);
  }).res;
}

function readByte(fd: number): number {
  return system().read(fd, new Uint8Array(new ArrayBuffer(8)), 8);
}

forEachKind(({ name, options, skip: noRing }) => {
  const skip = noRing || noInstall;

  test(`liburing fd-install: ${name}: the file outlives its slot and its old descriptor`, { skip }, () => {
    using ring = makeRing(4, options);
    using pipe = new WaitingPipe();
    ring.registerFiles([pipe.reader.fd]);
    pipe.reader.close();
    const buffer = block(32);
    const direct = (): number =>
      once(ring, (sqe) => {
        sqe.prepRead(0, buffer.address, 32, 0);
        sqe.flags |= IOSQE_FIXED_FILE;
      }).res;
    pipe.write("Hello");
    assert.equal(direct(), 5);
    const sqe = entry(ring, 1, (sqe) => sqe.prepFixedFdInstall(0, 0));
    assertEntry(sqe, { opcode: IORING_OP_FIXED_FD_INSTALL, flags: IOSQE_FIXED_FILE });
    using reader = new Fd(reap(ring, 1)[0]!.res);
    assert.ok(reader.fd >= 0, `${reader.fd}`);
    pipe.write("Hello");
    assert.equal(readByte(reader.fd), 5);
    assert.equal(once(ring, (sqe) => sqe.prepCloseDirect(0)).res, 0);
    pipe.write("Hello");
    assert.equal(readByte(reader.fd), 5);
    assert.equal(direct(), EBADF);
    assert.equal(install(ring, 0), EBADF, "an empty slot");
    assert.equal(install(ring, 500), EBADF, "no slot");
  });

  test(`liburing fd-install: ${name}: flags, and descriptors that are no slots`, { skip }, () => {
    using ring = makeRing(4, options);
    using pipe = new WaitingPipe();
    ring.registerFiles([pipe.reader.fd]);
    assert.equal(install(ring, 0, 1 << 17), EINVAL);
    for (const flags of [0, IOSQE_ASYNC]) {
      using open = new Fd(
        install(ring, 0, IORING_FIXED_FD_NO_CLOEXEC, (sqe) => {
          sqe.flags |= flags;
        }),
      );
      assert.equal(fdFlags(open.fd) & O_CLOEXEC, 0);
    }
    using closed = new Fd(install(ring, 0));
    assert.equal(fdFlags(closed.fd) & O_CLOEXEC, O_CLOEXEC);
    const plain = install(ring, pipe.reader.fd, 0, (sqe) => {
      sqe.flags &= ~IOSQE_FIXED_FILE;
    });
    assert.equal(plain, EBADF);
  });

  test(`liburing fd-install: ${name}: not in the name of others`, { skip }, () => {
    using ring = makeRing(4, options);
    using pipe = new WaitingPipe();
    ring.registerFiles([pipe.reader.fd]);
    const personality = ring.register(IORING_REGISTER_PERSONALITY, null, 0);
    for (const flags of [0, IOSQE_ASYNC]) {
      const res = install(ring, 0, 0, (sqe) => {
        sqe.flags |= flags;
        sqe.personality = personality;
      });
      assert.equal(res, EPERM);
    }
  });

  test(`liburing fd-install: ${name}: behind another operation`, { skip }, () => {
    using ring = makeRing(4, options);
    using pipe = new WaitingPipe();
    ring.registerFiles([pipe.reader.fd]);
    entry(ring, 1, (sqe) => {
      sqe.prepNop();
      sqe.flags |= IOSQE_IO_LINK;
    });
    entry(ring, 2, (sqe) => sqe.prepFixedFdInstall(0, 0));
    const results = reapResults(ring, 2);
    assert.equal(results.get(1), 0);
    using fd = new Fd(results.get(2)!);
    assert.ok(fd.fd >= 0);
  });
});
