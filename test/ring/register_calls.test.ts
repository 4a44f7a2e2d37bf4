/** `io_uring_register` with what cannot be, messages without a ring, and that every operation has a method. */
import assert from "node:assert/strict";
import process from "node:process";
import {
  detachedSqe,
  IORING_MSG_RING_FLAGS_PASS,
  IORING_REGISTER_BUFFERS,
  IORING_SETUP_R_DISABLED,
  IORING_SETUP_SQPOLL,
  IOSQE_ASYNC,
  ioUringRegister,
  MAP_SHARED,
  Mapping,
  O_CREAT,
  O_RDONLY,
  O_RDWR,
  POLLIN,
  POLLOUT,
  PROT_READ,
  PROT_WRITE,
  registerSyncMsg,
} from "../../src/ring/mod.ts";
import { kernelHas } from "../../src/ffi/kernel.ts";
import { system } from "../../src/ffi/system.ts";
import { Fd, Pipe, TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { libc } from "../support/libc.ts";
import { forEachKind, makeRing, once, reap } from "../support/rings.ts";

checkLeaks();

const PAGE = 4096;
const noSyncMsg = kernelHas("6.13") ? false : "needs Linux 6.13";

test("liburing io_uring_register: descriptors and operations that cannot be", () => {
  using devNull = Fd.open("/dev/null", O_RDWR);
  using pipe = new Pipe();
  using ring = makeRing(1);
  // Without a ring there are a few operations, and this is none of them.
  assert.throws(() => ioUringRegister(-1, IORING_REGISTER_BUFFERS, null, 0), /EBADF|EINVAL/);
  assert.throws(() => ioUringRegister(1_000_000, 0, null, 0), { code: "EBADF" });
  for (const { fd } of [devNull, pipe.reader]) {
    assert.throws(() => ioUringRegister(fd, 0, null, 0), /ENOTSUP|EOPNOTSUPP/);
  }
  assert.throws(() => ring.register(0x7fff_ffff, null, 0), {
    code: "EINVAL",
    syscall: "io_uring_register",
    message: /IORING_REGISTER_2147483647/,
  });
});

test("liburing io_uring_register: memory that cannot be registered", () => {
  using dir = new TempDir();
  using ring = makeRing(1);
  const refused = (address: number, length: number): string => {
    try {
      ring.registerBuffers([{ address, length }]);
      return "";
    } catch (error) {
      return (error as { code: string }).code;
    }
  };
  assert.equal(refused(0, PAGE), "EFAULT");
  using memory = Mapping.anonymous(2 * PAGE);
  assert.equal(refused(memory.address, 0), "EFAULT");
  assert.equal(refused(memory.address, 2 ** 31), "EFAULT");
  // A hole behind the first page.
  const hole = system().mmap(0, 2 * PAGE, PROT_READ | PROT_WRITE, 0x22, -1, 0);
  assert.equal(system().munmap(hole + PAGE, PAGE), 0);
  assert.equal(refused(hole, 2 * PAGE), "EFAULT");
  assert.equal(refused(hole, PAGE), "");
  ring.unregisterBuffers();
  assert.equal(system().munmap(hole, PAGE), 0);
  // Memory of a file: the kernel would write to it behind the file system's back.
  using file = Fd.open(dir.of("file"), O_RDWR | O_CREAT);
  assert.equal(libc().ftruncate(file.fd, PAGE), 0);
  const mapped = system().mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file.fd, 0);
  const verdict = refused(mapped, PAGE);
  // File systems in memory are the exception.
  assert.match(verdict, /^(EFAULT|ENOTSUP|EOPNOTSUPP|)$/);
  system().munmap(mapped, PAGE);
});

test("liburing io_uring_register: as many buffers as there may be, and too many", () => {
  using memory = Mapping.anonymous(PAGE);
  using ring = makeRing(1);
  const { address } = memory;
  const buffers = (count: number): { address: number; length: number }[] =>
    Array.from({ length: count }, () => ({ address, length: PAGE }));
  assert.throws(() => ring.registerBuffers(buffers(1_000_000)), { code: "EINVAL" });
  try {
    ring.registerBuffers(buffers(1024));
    assert.equal(ring.registeredBuffers, 1024);
  } catch (error) {
    // 4 MiB count against an ordinary user's limit.
    assert.match(String(error), /ENOMEM.*RLIMIT_MEMLOCK/);
    assert.notEqual(process.getuid?.(), 0);
  }
});

test("liburing io_uring_register: more memory than RLIMIT_MEMLOCK allows", {
  skip: process.getuid?.() === 0 ? "root may lock all memory" : false,
}, () => {
  using memory = Mapping.anonymous(1 << 30);
  using ring = makeRing(1);
  assert.throws(() => ring.registerBuffers([{ address: memory.address, length: 1 << 30 }]), {
    code: "ENOMEM",
    message: /RLIMIT_MEMLOCK/,
  });
});

for (const flags of [0, IORING_SETUP_SQPOLL]) {
  test(`liburing io_uring_register: ${flags === 0 ? "" : "SQPOLL: "}a ring polls itself and holds no ring`, () => {
    using ring = makeRing(2, { flags, sqThreadIdle: 5 });
    const { res } = once(ring, (sqe) => sqe.prepPollAdd(ring.fd, POLLIN | POLLOUT));
    assert.equal(res & POLLOUT, POLLOUT);
    assert.throws(() => ring.registerFiles([ring.fd]), { code: "EBADF" });
  });
}

forEachKind(({ name, options, skip }) => {
  test(`${name}: a message from where no ring is`, { skip: skip || noSyncMsg }, () => {
    using ring = makeRing(4, options);
    const sqe = detachedSqe();
    if (ring.fd < 0) {
      sqe.prepMsgRing(999_999, 1, 2, 0);
      assert.throws(() => registerSyncMsg(sqe), { code: "EBADF" });
      return;
    }
    for (let i = 0; i < 3; i++) {
      sqe.prepMsgRing(ring.fd, 100 + i, 0xabcd_0000_0000 + i, 0);
      assert.equal(registerSyncMsg(sqe), 0);
      const [{ userData, res, flags } = { userData: 0, res: 0, flags: -1 }] = reap(ring, 1);
      assert.deepEqual([userData, res, flags], [0xabcd_0000_0000 + i, 100 + i, 0]);
    }
    sqe.prepMsgRingCqeFlags(ring.fd, 7, 8, IORING_MSG_RING_FLAGS_PASS, 0x10);
    assert.equal(registerSyncMsg(sqe), 0);
    assert.equal(reap(ring, 1)[0]!.flags & 0x10, 0x10);
  });
});

test("messages that cannot be sent without a ring", { skip: noSyncMsg }, () => {
  using file = Fd.open("/dev/null", O_RDONLY);
  using ring = makeRing(4);
  const sqe = detachedSqe();
  sqe.prepNop();
  assert.throws(() => registerSyncMsg(sqe), { code: "EINVAL", syscall: "io_uring_register" });
  sqe.prepMsgRing(ring.fd, 1, 2, 0);
  sqe.flags = IOSQE_ASYNC;
  assert.throws(() => registerSyncMsg(sqe), { code: "EINVAL" });
  sqe.prepMsgRingFd(ring.fd, 0, 0, 0, 0);
  sqe.flags = 0;
  assert.throws(() => registerSyncMsg(sqe), { code: "EINVAL", message: /message with data/ });
  const data = detachedSqe();
  data.prepMsgRing(file.fd, 1, 2, 0);
  assert.throws(() => registerSyncMsg(data), { code: "EBADFD" });
  using disabled = makeRing(1, { flags: IORING_SETUP_R_DISABLED });
  data.prepMsgRing(disabled.fd, 1, 2, 0);
  assert.throws(() => registerSyncMsg(data), { code: "EBADFD", message: /not enabled/ });
  assert.equal(ring.cqReady(), 0);
});
