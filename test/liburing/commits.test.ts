/** Twins of the programs of liburing that are named after the commit of the kernel that mended what they found. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { system } from "../../src/ffi/system.ts";
import {
  IORING_REGISTER_BUFFERS,
  IORING_SETUP_IOPOLL,
  IORING_SETUP_SQPOLL,
  O_CREAT,
  O_DIRECT,
  O_RDWR,
  O_WRONLY,
  POSIX_FADV_DONTNEED,
  type Ring,
  RWF_NOWAIT,
} from "../../src/ring/mod.ts";
import { Fd, TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { libc } from "../support/libc.ts";
import {
  type Block,
  block,
  entry,
  eventually,
  forEachKind,
  iovecs,
  makeRing,
  missingRing,
  once,
  reap,
} from "../support/rings.ts";
import { Connection } from "../support/sockets.ts";
import { EnterThread } from "../support/threads.ts";

checkLeaks();

const EAGAIN = -11;
const EFAULT = -14;
const EOPNOTSUPP = -95;
const FIONBIO = 0x5421;

/** A page that begins at a multiple of a page, as O_DIRECT needs it. */
function page(): Block {
  const { bytes, address } = block(8192);
  const offset = (4096 - address % 4096) % 4096;
  const part = bytes.subarray(offset, offset + 4096);
  return { bytes: part, address: address + offset, view: new DataView(part.buffer, part.byteOffset, 4096) };
}

/** Sends 33 bytes three at a time and receives them two at a time, each on a ring of its own. */
function talk(receiving: Ring, sending: Ring, { a, b }: Connection, nonblocking: boolean): void {
  const into = block(2);
  const out = block(3);
  const [intoVector, outVector] = [iovecs([into]).address, iovecs([out]).address];
  const SENT = 33;
  let sent = 0;
  let next = 0;
  const send = (): void => {
    out.bytes.set([sent, sent + 1, sent + 2]);
    const { res } = once(sending, (sqe) => sqe.prepWritev(a.fd, outVector, 1, 0));
    assert.equal(res, 3);
    sent += 3;
  };
  while (next < SENT) {
    entry(receiving, 1, (sqe) => sqe.prepReadv(b.fd, intoVector, 1, 0));
    receiving.submit();
    if (next === sent) {
      // Nothing is there: the read waits or, on a socket that is not to block, may fail.
      const early = receiving.waitCqeTimeout({ sec: 0, nsec: 1_000_000 });
      if (early !== null) {
        assert.ok(nonblocking);
        assert.equal(early.res, EAGAIN);
        receiving.cqeSeen(early);
        send();
        continue;
      }
      send();
    }
    const { res } = reap(receiving, 1)[0]!;
    assert.ok(res === 1 || res === 2, `${res}`);
    for (let i = 0; i < res; i++) assert.equal(into.bytes[i], next++);
  }
  assert.equal(next, sent);
}

/** Why files here cannot be read without waiting, or `false`. */
function missingNowait(): string | false {
  using dir = new TempDir();
  writeFileSync(dir.of("file"), "content");
  using file = Fd.open(dir.of("file"), O_RDWR);
  using ring = makeRing(1);
  const { address } = iovecs([block(8)]);
  const { res } = once(ring, (sqe) => {
    sqe.prepReadv(file.fd, address, 1, 0);
    sqe.opFlags = RWF_NOWAIT;
  });
  return res === EOPNOTSUPP ? "the file system cannot read without waiting" : false;
}

const noNowait = missingNowait();

forEachKind(({ name, options, skip }) => {
  test(
    `liburing 232c93d07b74: ${name}: vectors over sockets come in order, blocking or not`,
    { skip },
    () => {
      using receiving = makeRing(32, options);
      using sending = makeRing(32, options);
      for (const family of ["unix", "tcp"] as const) {
        for (const nonblocking of [false, true]) {
          using connection = Connection[family]();
          for (const { fd } of nonblocking ? [connection.a, connection.b] : []) {
            assert.equal(libc().ioctl(fd, FIONBIO, Int32Array.of(1)), 0);
          }
          talk(receiving, sending, connection, nonblocking);
        }
      }
    },
  );

  test(`liburing 8a9973408177: ${name}: a sync after a file was registered and taken back`, { skip }, () => {
    using dir = new TempDir();
    using ring = makeRing(8, options);
    using first = Fd.open(dir.of("first"), O_RDWR | O_CREAT);
    ring.registerFiles([first.fd]);
    ring.unregisterFiles();
    first.close();
    using second = Fd.open(dir.of("second"), O_RDWR | O_CREAT);
    assert.equal(once(ring, (sqe) => sqe.prepFsync(second.fd, 0)).res, 0);
  });

  test(
    `liburing eeed8b54e0df: ${name}: a read that must not wait is done at once, or says EAGAIN`,
    { skip: skip || noNowait },
    () => {
      using dir = new TempDir();
      writeFileSync(dir.of("file"), new Uint8Array(4096).fill(7));
      using file = Fd.open(dir.of("file"), O_RDWR);
      using ring = makeRing(2, options);
      const buffer = block(4096);
      const vector = iovecs([buffer]).address;
      for (const cached of [false, true]) {
        assert.equal(once(ring, (sqe) => sqe.prepFsync(file.fd, 0)).res, 0);
        if (!cached) assert.equal(system().rare.posix_fadvise(file.fd, 0, 4096, POSIX_FADV_DONTNEED), 0);
        else assert.equal(readFileSync(dir.of("file")).length, 4096);
        entry(ring, 1, (sqe) => {
          sqe.prepReadv(file.fd, vector, 1, 0);
          sqe.opFlags = RWF_NOWAIT;
        });
        ring.submit();
        if ((ring.flags & IORING_SETUP_SQPOLL) !== 0) {
          eventually(() => ring.cqReady() > 0, "the thread has read");
        }
        const cqe = ring.peekCqe()!;
        assert.ok(cqe.res === 4096 || (cqe.res === EAGAIN && !cached), `${cqe.res}`);
        if (cqe.res === 4096) {
          assert.ok(buffer.bytes.every((byte) => byte === 7));
        }
        ring.cqeSeen(cqe);
      }
    },
  );
});

const iopoll = { flags: IORING_SETUP_IOPOLL };

/** Writes a page to a file that it opens past the page cache; the result, or why that cannot be. */
function polledWrite(ring: Ring, file: Fd, from: Block, offset: number): number {
  const { address } = iovecs([from]);
  entry(ring, offset, (sqe) => sqe.prepWritev(file.fd, address, 1, offset));
  assert.equal(ring.submitAndWait(1), 1);
  const { res, userData } = ring.waitCqe();
  assert.equal(userData, offset);
  ring.cqAdvance(1);
  return res;
}

function missingPolledWrites(): string | false {
  const noRing = missingRing(iopoll, 1);
  if (noRing !== false) return noRing;
  using dir = new TempDir();
  using ring = makeRing(1, iopoll);
  try {
    using file = Fd.open(dir.of("file"), O_WRONLY | O_CREAT | O_DIRECT);
    const res = polledWrite(ring, file, page(), 0);
    return res === EOPNOTSUPP ? "the file system or its disk cannot be polled" : false;
  } catch {
    return "the file system lacks O_DIRECT";
  }
}

test("liburing 500f9fbadef8: a polled ring appends to a file, waiting twice for each write", {
  skip: missingPolledWrites(),
}, () => {
  const PAGES = 256;
  using dir = new TempDir();
  using file = Fd.open(dir.of("file"), O_WRONLY | O_CREAT | O_DIRECT);
  using ring = makeRing(1, iopoll);
  const from = page();
  for (let i = 0; i < PAGES; i++) {
    from.bytes.fill(i);
    assert.equal(polledWrite(ring, file, from, i * 4096), 4096);
  }
  const content = readFileSync(dir.of("file"));
  assert.equal(content.length, PAGES * 4096);
  for (let i = 0; i < PAGES; i++) assert.equal(content[i * 4096 + 17], i);
});

test("liburing 35fa71a030ca: threads that register nothing at once get EFAULT, and the ring goes on", async () => {
  using ring = makeRing(0x64);
  const threads = await Promise.all([EnterThread.start(), EnterThread.start()]);
  try {
    const calls = threads.map((thread) =>
      thread.register({ fd: ring.fd, opcode: IORING_REGISTER_BUFFERS, times: 1000 })
    );
    for (let i = 0; i < 100; i++) {
      assert.throws(() => ring.register(IORING_REGISTER_BUFFERS, null, 0), { code: "EFAULT" });
      once(ring, (sqe) => sqe.prepNop());
    }
    assert.deepEqual(await Promise.all(calls), [EFAULT, EFAULT]);
    const { address } = block(4096);
    ring.registerBuffers([{ address, length: 4096 }]);
    ring.unregisterBuffers();
  } finally {
    await Promise.all(threads.map((thread) => thread.end()));
  }
});
