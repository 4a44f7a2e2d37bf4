/** Descriptors that are no files: what liburing's programs on eventfds, timers, pipes, signals and terminals check. */
import assert from "node:assert/strict";
import {
  CLOCK_MONOTONIC,
  IORING_SETUP_SQPOLL,
  Mapping,
  O_NONBLOCK,
  O_RDWR,
  POLLIN,
} from "../../src/ring/mod.ts";
import { check } from "../../src/ffi/errors.ts";
import { itimerspec } from "../../src/ffi/structs.ts";
import { system } from "../../src/ffi/system.ts";
import { EventFd, Fd, Pipe } from "../support/descriptors.ts";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { libc } from "../support/libc.ts";
import { put, WaitingPipe } from "../support/operations.ts";
import { fixture, output } from "../support/program.ts";
import {
  assertQuiet,
  block,
  entry,
  forEachKind,
  iovecs,
  makeRing,
  once,
  reap,
  reapResults,
  text,
} from "../support/rings.ts";

checkLeaks();

const EINTR = -4;
const EAGAIN = -11;

const O_NOCTTY = 0x100;
const SIG_BLOCK = 0;
const SIG_UNBLOCK = 1;
const SFD_NONBLOCK_CLOEXEC = 0x8_0800;
const TFD_CLOEXEC = 0x8_0000;
/** A signal that neither runtime has a use for. */
const SIGRTMAX = 64;

const one = (): Uint8Array => new Uint8Array(BigUint64Array.of(1n).buffer);

/** Blocks a signal on this thread and makes a descriptor of it. */
function signalFd(signal: number): Fd {
  const mask = new Uint8Array(new ArrayBuffer(128));
  mask[(signal - 1) >> 3]! |= 1 << ((signal - 1) & 7);
  check(libc().pthread_sigmask(SIG_BLOCK, mask, null), "pthread_sigmask");
  return new Fd(check(libc().signalfd(-1, mask, SFD_NONBLOCK_CLOEXEC), "signalfd"));
}

function unblock(signal: number): void {
  const mask = new Uint8Array(new ArrayBuffer(128));
  mask[(signal - 1) >> 3]! |= 1 << ((signal - 1) & 7);
  check(libc().pthread_sigmask(SIG_UNBLOCK, mask, null), "pthread_sigmask");
}

/** The two ends of a new pseudoterminal. */
function terminal(): { master: Fd; slave: Fd } {
  const TIOCGPTN = 0x8004_5430;
  const TIOCSPTLCK = 0x4004_5431;
  const master = Fd.open("/dev/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK);
  const word = new Uint8Array(new ArrayBuffer(4));
  check(libc().ioctl(master.fd, TIOCSPTLCK, word), "ioctl");
  check(libc().ioctl(master.fd, TIOCGPTN, word), "ioctl");
  const number = new DataView(word.buffer).getUint32(0, true);
  return { master, slave: Fd.open(`/dev/pts/${number}`, O_RDWR | O_NOCTTY | O_NONBLOCK) };
}

function missingTerminal(): string | false {
  try {
    const { master, slave } = terminal();
    master.close();
    slave.close();
    return false;
  } catch (error) {
    return `no pseudoterminals: ${(error as Error).message}`;
  }
}

const noTerminal = missingTerminal();

forEachKind(({ name, options, skip }) => {
  test(
    `liburing evfd-short-read, read-write: ${name}: an eventfd gives 8 bytes, however many are asked for`,
    {
      skip,
    },
    () => {
      using ring = makeRing(8, options);
      using eventfd = new EventFd();
      const buffer = block(16);
      for (const size of [8, 16]) {
        entry(ring, 1, (sqe) => sqe.prepRead(eventfd.fd, buffer.address, size, 0));
        ring.submit();
        assertQuiet(ring);
        put(eventfd.fd, one());
        assert.deepEqual(reap(ring, 1), [{ userData: 1, res: 8, flags: 0 }]);
        assert.equal(buffer.view.getBigUint64(0, true), 1n);
      }
      // One that has something already.
      put(eventfd.fd, one());
      assert.equal(once(ring, (sqe) => sqe.prepRead(eventfd.fd, buffer.address, 8, 0)).res, 8);
    },
  );

  test(`liburing timerfd-short-read: ${name}: a timer gives 8 bytes of 16`, { skip }, () => {
    using ring = makeRing(8, options);
    using timer = new Fd(check(libc().timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC), "timerfd_create"));
    const buffer = block(16);
    entry(ring, 1, (sqe) => sqe.prepRead(timer.fd, buffer.address, 16, 0));
    ring.submit();
    assertQuiet(ring);
    const when = block(itimerspec.size);
    when.view.setBigInt64(itimerspec.it_value + 8, 10_000_000n, true);
    check(libc().timerfd_settime(timer.fd, 0, when.bytes, null), "timerfd_settime");
    assert.deepEqual(reap(ring, 1), [{ userData: 1, res: 8, flags: 0 }]);
    assert.equal(buffer.view.getBigUint64(0, true), 1n);
  });

  test(`liburing fifo-nonblock-read: ${name}: a read waits although the pipe would not`, { skip }, () => {
    using ring = makeRing(2, options);
    using pipe = new Pipe();
    const buffer = block(32);
    entry(ring, 1, (sqe) => sqe.prepRead(pipe.reader.fd, buffer.address, 32, 0));
    ring.submit();
    assertQuiet(ring);
    pipe.write("Hello\n");
    assert.deepEqual(reap(ring, 1), [{ userData: 1, res: 6, flags: 0 }]);
    assert.equal(text(buffer, 6), "Hello\n");
  });

  test(`liburing sigfd-deadlock: ${name}: a signal ends the poll of its descriptor`, {
    skip: firstReason(
      skip,
      /SQPOLL/.test(name) && "the signal is this thread's, and the kernel's thread polls",
    ),
  }, () => {
    using ring = makeRing(32, options);
    using signals = signalFd(SIGRTMAX);
    entry(ring, 1, (sqe) => sqe.prepPollAdd(signals.fd, POLLIN));
    ring.submit();
    assertQuiet(ring);
    check(libc().pthread_kill(libc().pthread_self(), SIGRTMAX), "pthread_kill");
    assert.deepEqual(reap(ring, 1), [{ userData: 1, res: POLLIN, flags: 0 }]);
    // Taken out, or it would come with the unblocking.
    const info = new Uint8Array(new ArrayBuffer(128));
    assert.equal(system().read(signals.fd, info, 128), 128);
    assert.equal(info[0], SIGRTMAX);
    unblock(SIGRTMAX);
  });

  test(`liburing stdout: ${name}: a pipe is written to out of a registered buffer`, { skip }, () => {
    using ring = makeRing(8, options);
    using pipe = new WaitingPipe();
    using memory = Mapping.anonymous(4096);
    const message = new TextEncoder().encode("This is a fixed pipe test\n");
    new Uint8Array(memory.buffer).set(message);
    ring.registerBuffers([{ address: memory.address, length: message.length }]);
    const buffer = block(128);
    const vectors = iovecs([buffer]);
    entry(ring, 1, (sqe) => sqe.prepWriteFixed(pipe.writer.fd, memory.address, message.length, 0, 0));
    entry(ring, 2, (sqe) => sqe.prepReadv(pipe.reader.fd, vectors.address, 1, 0));
    assert.deepEqual([...reapResults(ring, 2)].sort(), [[1, message.length], [2, message.length]]);
    assert.deepEqual(buffer.bytes.subarray(0, message.length), message);
    ring.unregisterBuffers();
  });

  test(`liburing tty-write-dpoll: ${name}: more is written to a terminal than it takes at once`, {
    skip: skip || noTerminal,
  }, () => {
    const [WRITES, SIZE] = [128, 512] as const;
    using ring = makeRing(256, options);
    const { master, slave } = terminal();
    using _master = master;
    using _slave = slave;
    const data = block(SIZE);
    data.bytes.fill(0x78);
    const vectors = iovecs([data]);
    const write = (): void => {
      entry(ring, 1, (sqe) => sqe.prepWritev(slave.fd, vectors.address, 1, 0));
    };
    for (let i = 0; i < WRITES; i++) write();
    if ((ring.flags & IORING_SETUP_SQPOLL) === 0) assert.equal(ring.submit(), WRITES);
    else ring.submit();
    let read = 0;
    let written = 0;
    const buffer = new Uint8Array(new ArrayBuffer(65536));
    for (let ended = 0; ended < WRITES;) {
      const length = system().read(master.fd, buffer, buffer.length);
      if (length > 0) read += length;
      const cqe = ring.waitCqeTimeout({ sec: 0, nsec: 1_000_000 });
      if (cqe === null) continue;
      const { res } = cqe;
      ring.cqeSeen(cqe);
      if (res === EINTR || res === EAGAIN) {
        // The terminal takes other work of this thread's for a signal; or it was full again when the kernel tried again.
        write();
        ring.submit();
        continue;
      }
      assert.ok(res > 0, `${res}`);
      written += res;
      ended++;
    }
    for (;;) {
      const length = system().read(master.fd, buffer, buffer.length);
      if (length <= 0) break;
      read += length;
    }
    assert.equal(read, written, "all that was written can be read");
  });
});

test("liburing stdout: the standard output, by vectors and out of a registered buffer", async () => {
  assert.equal(
    await output(fixture("raw_process.ts"), ["stdout"]),
    "This is a pipe test\nThis is a fixed pipe test\n",
  );
});
