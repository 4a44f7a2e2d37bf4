/** Rings that are restricted refuse what they must: operations, flags, register calls, whatever comes. */
import assert from "node:assert/strict";
import {
  IORING_OP_READ,
  IORING_OP_READV,
  IORING_OP_WRITE,
  IORING_OP_WRITEV,
  IORING_REGISTER_BUFFERS,
  IORING_REGISTER_FILES,
  IORING_SETUP_R_DISABLED,
  IORING_SETUP_SQPOLL,
  IOSQE_ASYNC,
  IOSQE_FIXED_FILE,
  IOSQE_IO_DRAIN,
  IOSQE_IO_LINK,
  type Restriction,
  type Ring,
  type RingOptions,
  type Sqe,
} from "../../src/ring/mod.ts";
import { kernelHas } from "../../src/ffi/kernel.ts";
import { OPCODE_NAME, REGISTER_NAME } from "../../src/ffi/versions.ts";
import { ALL_OPERATIONS, appearance, Things } from "../support/all_operations.ts";
import { Pipe, TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { blockOf, entry, forEachKind, iovecs, makeRing, once, reapResults } from "../support/rings.ts";

checkLeaks();

const EACCES = -13;

/** A ring that may do this and nothing else. */
function restricted(restrictions: readonly Restriction[], options: RingOptions = {}, entries = 8): Ring {
  const ring = makeRing(entries, { ...options, flags: (options.flags ?? 0) | IORING_SETUP_R_DISABLED });
  ring.registerRestrictions(restrictions);
  ring.enableRings();
  return ring;
}

const READ_AND_WRITE: readonly Restriction[] = [
  { sqeOp: IORING_OP_READ },
  { sqeOp: IORING_OP_WRITE },
  // Without one, register operations are free since Linux 7.0.
  { registerOp: IORING_REGISTER_BUFFERS },
];

test("the table of operations is complete", () => {
  assert.deepEqual([...ALL_OPERATIONS.keys()].sort((a, b) => a - b), OPCODE_NAME.map((_, op) => op));
  // Each entry is of the operation that it is listed under.
  using dir = new TempDir();
  using things = new Things(dir);
  using ring = makeRing(1);
  for (const [op, prep] of ALL_OPERATIONS) {
    const sqe = ring.getSqe() ?? assert.fail("full");
    prep(sqe, things);
    assert.equal(sqe.opcode, op, OPCODE_NAME[op]!);
    sqe.prepNop();
    ring.submit();
    ring.forEachCqe(() => {});
  }
});

forEachKind(({ name, options, skip }) => {
  test(`${name}: narrowed to read and write, it refuses every other operation`, { skip }, () => {
    using dir = new TempDir();
    using things = new Things(dir);
    using free = makeRing(1);
    const probe = free.getProbe();
    using ring = restricted(READ_AND_WRITE, options);
    const before = appearance(things);
    let refused = 0;
    for (const [op, prep] of ALL_OPERATIONS) {
      if (op === IORING_OP_READ || op === IORING_OP_WRITE || !probe.opcodeSupported(op)) continue;
      // A wide entry has no room on most rings, which is seen first.
      if (/128$/.test(OPCODE_NAME[op]!)) continue;
      assert.equal(once(ring, (sqe) => prep(sqe, things)).res, EACCES, OPCODE_NAME[op]!);
      refused++;
    }
    assert.ok(refused > 30);
    assert.deepEqual(appearance(things), before);
    // What it may do it does.
    const buffer = blockOf("written");
    assert.equal(once(ring, (sqe) => sqe.prepWrite(things.file.fd, buffer.address, 7, 0)).res, 7);
    buffer.bytes.fill(0);
    assert.equal(once(ring, (sqe) => sqe.prepRead(things.file.fd, buffer.address, 7, 0)).res, 7);
    assert.equal(new TextDecoder().decode(buffer.bytes), "written");
  });

  test(`${name}: restricted, it refuses every register operation that is not named`, { skip }, () => {
    using pipe = new Pipe();
    using ring = restricted(READ_AND_WRITE, options);
    REGISTER_NAME.forEach((name, opcode) => {
      // The registered descriptor of a ring is no business of the ring's, but how it is named in some kernels.
      if (opcode === IORING_REGISTER_BUFFERS) return;
      assert.throws(() => ring.register(opcode, null, 0), (error: Error & { code: string }) => {
        // What this kernel does not know at all is EINVAL.
        assert.match(error.code, /^(EACCES|EINVAL)$/, name);
        if (error.code === "EINVAL") assert.match(error.message, /needs Linux/);
        else assert.match(error.message, /restrictions do not allow/);
        return true;
      });
    });
    assert.throws(() => ring.registerFiles([pipe.reader.fd]), { code: "EACCES" });
    ring.registerBuffers([blockOf("x").bytes]);
  });

  test(`liburing register-restrictions: ${name}: operations that are named, and others`, { skip }, () => {
    using pipe = new Pipe();
    using ring = restricted([{ sqeOp: IORING_OP_WRITEV }, { sqeOp: IORING_OP_WRITE }], options);
    const vectors = iovecs([blockOf("12345678")]).address;
    entry(ring, 1, (sqe) => sqe.prepWritev(pipe.writer.fd, vectors, 1, -1));
    entry(ring, 2, (sqe) => sqe.prepReadv(pipe.reader.fd, vectors, 1, -1));
    assert.equal(ring.submit(), 2);
    assert.deepEqual(reapResults(ring, 2), new Map([[1, 8], [2, EACCES]]));
  });

  test(`liburing register-restrictions: ${name}: flags that an entry may and must have`, { skip }, () => {
    using pipe = new Pipe();
    using ring = makeRing(8, { ...options, flags: (options.flags ?? 0) | IORING_SETUP_R_DISABLED });
    ring.registerRestrictions([
      { sqeOp: IORING_OP_WRITEV },
      { sqeFlagsAllowed: IOSQE_ASYNC | IOSQE_IO_LINK },
      { sqeFlagsRequired: IOSQE_FIXED_FILE },
    ]);
    // Until it is enabled nothing is refused.
    ring.registerFiles([pipe.reader.fd, pipe.writer.fd]);
    ring.enableRings();
    const vectors = iovecs([blockOf("12345678")]).address;
    const write = (fd: number, flags: number) => (sqe: Sqe): void => {
      sqe.prepWritev(fd, vectors, 1, -1);
      sqe.flags = flags;
    };
    for (const allowed of [0, IOSQE_ASYNC, IOSQE_IO_LINK]) {
      assert.equal(once(ring, write(1, IOSQE_FIXED_FILE | allowed)).res, 8, `flags ${allowed}`);
    }
    assert.equal(once(ring, write(1, IOSQE_FIXED_FILE | IOSQE_IO_DRAIN)).res, EACCES);
    for (const flags of [0, IOSQE_IO_DRAIN, IOSQE_ASYNC]) {
      assert.equal(once(ring, write(pipe.writer.fd, flags)).res, EACCES, `flags ${flags}`);
    }
  });
});

test("liburing register-restrictions: register operations that are named, and others", () => {
  using pipe = new Pipe();
  using ring = restricted([{ registerOp: IORING_REGISTER_BUFFERS }]);
  ring.registerBuffers([blockOf("12345678").bytes]);
  assert.throws(() => ring.registerFiles([pipe.reader.fd, pipe.writer.fd]), {
    code: "EACCES",
    message: /IORING_REGISTER_FILES: the ring's restrictions do not allow it/,
  });
});

test("liburing register-restrictions: registered files alone", () => {
  using pipe = new Pipe();
  using ring = restricted([
    { sqeOp: IORING_OP_WRITEV },
    { sqeOp: IORING_OP_READV },
    { sqeFlagsRequired: IOSQE_FIXED_FILE },
    { registerOp: IORING_REGISTER_FILES },
  ]);
  ring.registerFiles([pipe.reader.fd, pipe.writer.fd]);
  const vectors = iovecs([blockOf("12345678")]).address;
  const fixed = (prep: (sqe: Sqe) => void): number =>
    once(ring, (sqe) => {
      prep(sqe);
      sqe.flags = IOSQE_FIXED_FILE;
    }).res;
  assert.equal(fixed((sqe) => sqe.prepWritev(1, vectors, 1, -1)), 8);
  assert.equal(fixed((sqe) => sqe.prepReadv(0, vectors, 1, -1)), 8);
  assert.equal(once(ring, (sqe) => sqe.prepWritev(pipe.writer.fd, vectors, 1, -1)).res, EACCES);
});

test("liburing register-restrictions: nothing at all", () => {
  using pipe = new Pipe();
  using ring = restricted([]);
  assert.throws(() => ring.registerBuffers([blockOf("x").bytes]), { code: "EACCES" });
  assert.throws(() => ring.registerFiles([pipe.reader.fd]), { code: "EACCES" });
  assert.equal(once(ring, (sqe) => sqe.prepNop()).res, EACCES);
});

test("liburing register-restrictions: only before a ring is enabled, and once", () => {
  using enabled = makeRing(8);
  assert.throws(() => enabled.registerRestrictions([{ sqeOp: IORING_OP_WRITEV }]), {
    code: "EBADFD",
    message: /enabled already/,
  });
  assert.throws(() => enabled.enableRings(), { code: "EBADFD" });
  using ring = makeRing(8, { flags: IORING_SETUP_R_DISABLED });
  assert.throws(() => ring.registerRestrictions([{ sqeOp: 250 }]), { code: "EINVAL", message: /no such/ });
  assert.throws(() => ring.registerRestrictions([{ registerOp: 250 }]), { code: "EINVAL" });
  ring.registerRestrictions([{ sqeOp: IORING_OP_WRITEV }]);
  assert.throws(() => ring.registerRestrictions([{ sqeOp: IORING_OP_READV }]), {
    code: "EBUSY",
    message: /restricted already/,
  });
});

test("liburing register-restrictions: a ring that is not enabled submits nothing", () => {
  using ring = makeRing(8, { flags: IORING_SETUP_R_DISABLED });
  entry(ring, 1, (sqe) => sqe.prepNop());
  assert.throws(() => ring.submit(), { code: "EBADFD", syscall: "io_uring_enter" });
  ring.enableRings();
  assert.equal(ring.submit(), 1);
  assert.equal(reapResults(ring, 1).get(1), 0);
});

test("what is not named is free of its kind, or not", () => {
  using pipe = new Pipe();
  // Until Linux 7.0 a ring that was restricted in one way was so in the other.
  const apart = kernelHas("7.0");
  using operations = restricted([{ sqeOp: IORING_OP_READ }]);
  if (apart) operations.registerFiles([pipe.reader.fd]);
  else assert.throws(() => operations.registerFiles([pipe.reader.fd]), { code: "EACCES" });
  using registers = restricted([{ registerOp: IORING_REGISTER_BUFFERS }]);
  assert.equal(once(registers, (sqe) => sqe.prepNop()).res, apart ? 0 : EACCES);
});

test("rings that may not unregister their descriptors are closed all the same", () => {
  // A thread has room for 16.
  for (let i = 0; i < 40; i++) {
    const ring = makeRing(1, { flags: IORING_SETUP_R_DISABLED });
    ring.registerRingFd();
    ring.registerRestrictions(READ_AND_WRITE);
    ring.enableRings();
    assert.throws(() => ring.unregisterRingFd(), { code: "EACCES" });
    if (i % 2 === 1) ring.closeRingFd();
    ring.close();
    assert.equal(ring.closed, true);
  }
});

test("SQPOLL: the kernel's thread heeds restrictions", () => {
  using ring = restricted(READ_AND_WRITE, { flags: IORING_SETUP_SQPOLL, sqThreadIdle: 5 });
  assert.equal(once(ring, (sqe) => sqe.prepNop()).res, EACCES);
});
