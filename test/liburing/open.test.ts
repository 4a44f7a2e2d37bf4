/** Opening and closing: what liburing's programs of this name check. */
import assert from "node:assert/strict";
import { existsSync, statSync, truncateSync, writeFileSync } from "node:fs";
import process from "node:process";
import {
  AT_FDCWD,
  IORING_FILE_INDEX_ALLOC,
  IOSQE_ASYNC,
  IOSQE_CQE_SKIP_SUCCESS,
  IOSQE_FIXED_FILE,
  IOSQE_IO_DRAIN,
  IOSQE_IO_LINK,
  O_CLOEXEC,
  O_CREAT,
  O_DIRECTORY,
  O_LARGEFILE,
  O_PATH,
  O_RDONLY,
  O_RDWR,
  type Ring,
} from "../../src/ring/mod.ts";
import { check } from "../../src/ffi/errors.ts";
import { system } from "../../src/ffi/system.ts";
import { Fd, TempDir } from "../support/descriptors.ts";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { libc, openLibc } from "../support/libc.ts";
import { WaitingPipe } from "../support/operations.ts";
import { Random } from "../support/random.ts";
import {
  assertQuiet,
  block,
  blockOf,
  entry,
  eventually,
  forEachKind,
  iovecs,
  makeRing,
  once,
  path,
  reap,
  text,
} from "../support/rings.ts";

checkLeaks();

const ENXIO = -6;
const EBADF = -9;
const EINVAL = -22;
const ENFILE = -23;

/** 4 GiB: what 32 bits cannot say. */
const LARGE = 2 ** 32;
const READ_WRITE = O_RDWR | O_CREAT | O_LARGEFILE;

/** Whether a descriptor of this process is open. */
const isOpen = (fd: number): boolean => existsSync(`/proc/self/fdinfo/${fd}`);

const MESSAGE_QUEUES = {
  // mqd_t mq_open(const char *name, int oflag, mode_t mode, struct mq_attr *attr)
  mq_open: { result: "i32", args: ["bytes", "i32", "u32", "bytes"] },
  // int mq_unlink(const char *name)
  mq_unlink: { result: "i32", args: ["bytes"] },
} as const;

/** The descriptor of a new message queue: one of the few things that are flushed when they are closed. */
function messageQueue(): number {
  const { mq_open, mq_unlink } = openLibc(MESSAGE_QUEUES);
  const name = new TextEncoder().encode(`/uring-${process.pid}\0`);
  const fd = check(mq_open(name, O_RDWR | O_CREAT, 0o600, null), "mq_open");
  check(mq_unlink(name), "mq_unlink");
  return fd;
}

function missingMessageQueues(): string | false {
  try {
    check(system().close(messageQueue()), "close");
    return false;
  } catch (error) {
    return `no message queues: ${(error as Error).message}`;
  }
}

const noQueues = missingMessageQueues();

/** Closes slot `fileIndex - 1`, and says it of descriptor `fd`, too. */
function closeSlot(ring: Ring, fd: number, fileIndex: number): number {
  return once(ring, (sqe) => {
    sqe.prepClose(fd);
    sqe.fileIndex = fileIndex;
  }).res;
}

forEachKind(({ name, options, skip }) => {
  const noFd = firstReason(skip, /REGISTERED_FD_ONLY/.test(name) && "the ring has no descriptor");

  test(`liburing open-close: ${name}: paths of both kinds`, { skip }, () => {
    using dir = new TempDir();
    writeFileSync(dir.of("file"), new Uint8Array(4096));
    using ring = makeRing(8, options);
    const [absolute, relative] = [path(dir.of("file")), path("deno.json")];
    for (const [dfd, place] of [[-1, absolute], [AT_FDCWD, relative]] as const) {
      const opened = once(ring, (sqe) => sqe.prepOpenat(dfd, place, O_RDONLY | O_CLOEXEC, 0));
      const fd = check(opened.res, "openat");
      assert.ok(isOpen(fd));
      assert.equal(once(ring, (sqe) => sqe.prepClose(fd)).res, 0);
      assert.ok(!isOpen(fd));
    }
  });

  test(`liburing open-close: ${name}: the ring's own descriptor is not closed`, { skip: noFd }, () => {
    using ring = makeRing(8, options);
    assert.equal(once(ring, (sqe) => sqe.prepClose(ring.fd)).res, EBADF);
    assert.ok(isOpen(ring.fd));
  });

  test(
    `liburing open-close: ${name}: slots are closed, once, and only those that are there`,
    { skip },
    () => {
      using ring = makeRing(8, options);
      using pipe = new WaitingPipe();
      const buffer = block(1);
      assert.equal(closeSlot(ring, 0, 1), ENXIO, "there is no table");
      assert.equal(closeSlot(ring, 1, 1), EINVAL, "a descriptor and a slot");
      ring.registerFiles([pipe.reader.fd, pipe.writer.fd]);
      assert.equal(closeSlot(ring, 0, 3), EINVAL, "there is no such slot");
      assert.equal(closeSlot(ring, 0, 1), 0);
      const read = once(ring, (sqe) => {
        sqe.prepRead(0, buffer.address, 1, 0);
        sqe.flags = IOSQE_FIXED_FILE;
      });
      assert.equal(read.res, EBADF);
      assert.equal(closeSlot(ring, 0, 2), 0);
      assert.equal(closeSlot(ring, 0, 1), EBADF);
      // The process's own descriptors stand.
      pipe.write("x");
      assert.equal(once(ring, (sqe) => sqe.prepRead(pipe.reader.fd, buffer.address, 1, 0)).res, 1);
    },
  );

  test(`liburing open-close: ${name}: a file that is flushed when it is closed`, {
    skip: firstReason(skip, noQueues),
  }, () => {
    using ring = makeRing(8, options);
    const fd = messageQueue();
    assert.ok(isOpen(fd));
    assert.equal(once(ring, (sqe) => sqe.prepClose(fd)).res, 0);
    assert.ok(!isOpen(fd));
  });

  test(`liburing open-close: ${name}: a slot is not closed by exec`, { skip }, () => {
    using ring = makeRing(8, options);
    ring.registerFilesSparse(1);
    const place = path("/dev/null");
    const { res } = once(ring, (sqe) => sqe.prepOpenatDirect(-1, place, O_RDONLY | O_CLOEXEC, 0, 0));
    assert.equal(res, EINVAL);
  });

  test(`liburing close-opath: ${name}: a directory, and a place that is only pointed at`, { skip }, () => {
    using ring = makeRing(2, options);
    for (const flags of [O_RDONLY | O_DIRECTORY, O_PATH]) {
      const { fd } = Fd.open(".", flags);
      assert.equal(once(ring, (sqe) => sqe.prepClose(fd)).res, 0);
      assert.ok(!isOpen(fd));
    }
  });

  for (const skipSuccess of [false, true]) {
    for (const drain of [false, true]) {
      // Drain and skipped successes exclude each other.
      if (skipSuccess && drain) continue;
      for (const async of [false, true]) {
        const how = `${drain ? "drained" : "linked"}${async ? ", in worker threads" : ""}${
          skipSuccess ? ", told of the read alone" : ""
        }`;
        test(`liburing open-direct-link: ${name}: ${how}: open, read and close a slot`, { skip }, () => {
          using dir = new TempDir();
          writeFileSync(dir.of("file"), "x".repeat(4096));
          using ring = makeRing(8, options);
          ring.registerFiles(new Array(8).fill(-1));
          const place = path(dir.of("file"));
          const buffer = block(4096);
          const common = async ? IOSQE_ASYNC : 0;
          const quiet = skipSuccess ? IOSQE_CQE_SKIP_SUCCESS : 0;
          entry(ring, 1, (sqe) => {
            sqe.prepOpenatDirect(AT_FDCWD, place, O_RDONLY, 0, 3);
            sqe.flags = common | quiet | (drain ? 0 : IOSQE_IO_LINK);
          });
          entry(ring, 2, (sqe) => {
            sqe.prepRead(3, buffer.address, 4096, 0);
            sqe.flags = common | IOSQE_FIXED_FILE | (drain ? IOSQE_IO_DRAIN : IOSQE_IO_LINK);
          });
          entry(ring, 3, (sqe) => {
            sqe.prepCloseDirect(3);
            sqe.flags = common | quiet | (drain ? IOSQE_IO_DRAIN : 0);
          });
          const found = reap(ring, skipSuccess ? 1 : 3).map(({ userData, res }) => [userData, res]);
          assert.deepEqual(found, skipSuccess ? [[2, 4096]] : [[1, 0], [2, 4096], [3, 0]]);
          assert.equal(text(buffer), "x".repeat(4096));
          const read = (): number => {
            ring.getEvents();
            return once(ring, (sqe) => {
              sqe.prepRead(3, buffer.address, 1, 0);
              sqe.flags = IOSQE_FIXED_FILE;
            }).res;
          };
          eventually(() => read() === EBADF, "the slot is closed");
          assertQuiet(ring);
        });
      }
    }
  }

  test(`liburing open-direct-pick: ${name}: the kernel picks slots, closed ones again`, { skip }, () => {
    const SLOTS = 800;
    using ring = makeRing(64, options);
    ring.registerFilesSparse(SLOTS);
    const place = path("/dev/null");
    const used = new Set<number>();
    const open = (count: number): void => {
      for (let left = count; left > 0;) {
        const batch = Math.min(left, ring.sqSpaceLeft());
        for (let i = 0; i < batch; i++) {
          entry(ring, 0, (sqe) => sqe.prepOpenatDirect(-1, place, O_RDONLY, 0, IORING_FILE_INDEX_ALLOC));
        }
        for (const { res } of reap(ring, batch)) {
          assert.ok(res >= 0 && res < SLOTS && !used.has(res), `${res}`);
          used.add(res);
        }
        left -= batch;
      }
    };
    open(SLOTS);
    const random = new Random(11);
    for (let closed = 0; closed < 100; closed++) {
      const slot = random.pick([...used]);
      assert.equal(once(ring, (sqe) => sqe.prepCloseDirect(slot)).res, 0);
      assert.equal(once(ring, (sqe) => sqe.prepCloseDirect(slot)).res, EBADF);
      used.delete(slot);
    }
    open(100);
    const full = once(ring, (sqe) => {
      sqe.prepOpenatDirect(-1, place, O_RDONLY, 0, IORING_FILE_INDEX_ALLOC);
    });
    assert.equal(full.res, ENFILE);
  });

  test(`liburing lfs-openat-write: ${name}: a write beyond 4 GiB`, { skip }, () => {
    using dir = new TempDir();
    using directory = Fd.open(dir.path, O_RDONLY | O_DIRECTORY);
    using ring = makeRing(2, options);
    const file = path("file");
    const opened = once(ring, (sqe) => sqe.prepOpenat(directory.fd, file, READ_WRITE | O_CLOEXEC, 0o600));
    using fd = new Fd(check(opened.res, "openat"));
    const data = blockOf("some test write buf\0");
    const { res } = once(ring, (sqe) => sqe.prepWrite(fd.fd, data.address, data.bytes.length, LARGE));
    assert.equal(res, data.bytes.length);
    assert.equal(statSync(dir.of("file")).size, LARGE + data.bytes.length);
  });

  test(
    `liburing lfs-openat: ${name}: a file beyond 4 GiB, and chains that end with the ring`,
    { skip: noFd },
    () => {
      using dir = new TempDir();
      using directory = Fd.open(dir.path, O_PATH);
      writeFileSync(dir.of("file"), "");
      truncateSync(dir.of("file"), LARGE + 4);
      const file = path("file");
      {
        using ring = makeRing(2, options);
        const { res } = once(
          ring,
          (sqe) => sqe.prepOpenat(directory.fd, file, READ_WRITE | O_CLOEXEC, 0o600),
        );
        new Fd(check(res, "openat")).close();
      }
      const vectors = iovecs([block(128)]);
      /** An openat that waits for a read that never ends, when the ring goes. */
      const abandon = (prepare: (ring: Ring, pipe: WaitingPipe) => void): void => {
        using pipe = new WaitingPipe();
        using ring = makeRing(10, options);
        prepare(ring, pipe);
        ring.submit();
        assertQuiet(ring);
        // Closing any descriptor of the ring flushes it.
        const { dup } = libc();
        new Fd(check(dup(ring.fd), "dup")).close();
      };
      const open = (ring: Ring, flags: number): void => {
        entry(ring, 3, (sqe) => {
          sqe.prepOpenat(directory.fd, file, READ_WRITE | O_CLOEXEC, 0o600);
          sqe.flags = flags;
        });
      };
      for (const flags of [0, IOSQE_ASYNC]) {
        abandon((ring, pipe) => {
          entry(ring, 1, (sqe) => {
            sqe.prepReadv(pipe.reader.fd, vectors.address, 1, 0);
            sqe.flags = IOSQE_IO_LINK | flags;
          });
          open(ring, 0);
        });
      }
      for (const before of [null, IOSQE_IO_DRAIN, IOSQE_IO_DRAIN | IOSQE_IO_LINK]) {
        abandon((ring, pipe) => {
          entry(ring, 1, (sqe) => sqe.prepReadv(pipe.reader.fd, vectors.address, 1, 0));
          if (before !== null) {
            entry(ring, 2, (sqe) => {
              sqe.prepNop();
              sqe.flags = before;
            });
          }
          open(ring, IOSQE_IO_DRAIN);
        });
      }
    },
  );
});
