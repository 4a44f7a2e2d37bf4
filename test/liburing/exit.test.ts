/** Twins of liburing's programs that end, or close rings, in the middle of work. */
import assert from "node:assert/strict";
import {
  AF_UNIX,
  IORING_SETUP_DEFER_TASKRUN,
  IORING_SETUP_IOPOLL,
  IORING_SETUP_SINGLE_ISSUER,
  IORING_SETUP_SQPOLL,
  IOSQE_ASYNC,
  IOSQE_FIXED_FILE,
  O_NOCTTY,
  O_RDWR,
  POLLIN,
  SCM_RIGHTS,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOL_SOCKET,
} from "../../src/ring/mod.ts";
import { kernelHas } from "../../src/ffi/kernel.ts";
import { cmsghdr, msghdr } from "../../src/ffi/structs.ts";
import { system } from "../../src/ffi/system.ts";
import { Fd, Pipe } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { fixture, output, run } from "../support/program.ts";
import {
  block,
  blockOf,
  entry,
  eventually,
  forEachKind,
  iovecs,
  makeRing,
  missingRing,
  once,
  reapResults,
} from "../support/rings.ts";

checkLeaks();

const EINVAL = -22;
const ECANCELED = -125;
const PROGRAM = fixture("exit_process.ts");
const ALL = { permissions: ["-A"] };

const FLAGS = ([
  ["default", 0],
  ["SQPOLL", IORING_SETUP_SQPOLL],
  ["DEFER_TASKRUN", IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN],
] as const).map(([name, flags]) => ({ name, flags: String(flags), skip: missingRing({ flags }) }));

for (const { name, flags, skip } of FLAGS) {
  test(
    `liburing files-exit-hang-poll, files-exit-hang-timeout: ${name}: a process ends before a connection`,
    {
      skip,
    },
    async () => {
      await Promise.all(["poll", "timeout"].map(async (before) => {
        await output(PROGRAM, [`exits before a ${before} and a connection`, flags], ALL);
        const { signal, stdout } = await run(PROGRAM, [`waits for a ${before} and a connection`, flags], {
          ...ALL,
          onLine: (_, kill) => kill("SIGTERM"),
        });
        assert.deepEqual([signal, stdout], ["SIGTERM", "waits\n"]);
      }));
    },
  );
}

test("liburing exit-no-cleanup: a process ends while its threads sleep in their rings", async () => {
  assert.equal(await output(PROGRAM, ["threads that read"], ALL), "all have read\n");
});

test("liburing ring-leak2: a process ends while its threads' rings use each other's descriptors", async () => {
  assert.equal(await output(PROGRAM, ["threads of a server and a client"], ALL), "both wait\n");
});

test("liburing teardowns: several processes make and close a hundred rings each", async () => {
  const outputs = await Promise.all([1, 2, 3].map(() => output(PROGRAM, ["makes rings"], ALL)));
  assert.deepEqual(outputs, ["made\n", "made\n", "made\n"]);
});

const noSqpoll = missingRing({ flags: IORING_SETUP_SQPOLL });

test("liburing 917257daa0fe: a process ends that leaves a ring with a bound thread as it was made", {
  skip: noSqpoll,
}, async () => {
  assert.equal(await output(PROGRAM, ["leaves a bound kernel thread"], ALL), "made\n");
});

test("liburing a4c0b3decb33: processes end that leave a polled ring with a kernel thread", {
  skip: missingRing({ flags: IORING_SETUP_IOPOLL | IORING_SETUP_SQPOLL }),
}, async () => {
  for (let i = 0; i < 3; i++) {
    assert.equal(await output(PROGRAM, ["leaves a polling kernel thread"], ALL), "made\n");
  }
});

test("liburing timeout: a process that becomes another program leaves a chain undone", async () => {
  assert.equal(await output(PROGRAM, ["becomes another program"], ALL), "another\n");
});

/** Why there are no terminals here, or `false`. */
function missingTerminal(): string | false {
  try {
    Fd.open("/dev/ptmx", O_RDWR | O_NOCTTY).close();
    return false;
  } catch (error) {
    return `/dev/ptmx: ${error instanceof Error ? error.message : error}`;
  }
}

test("liburing double-poll-crash: a process polls a terminal, changes its settings, and ends", {
  skip: missingTerminal(),
}, async () => {
  assert.equal(await output(PROGRAM, ["polls a terminal"], ALL), "set\n");
});

forEachKind(({ name, options, skip }) => {
  test(`liburing double-poll-crash: ${name}: a poll of what has two queues is cancelled`, {
    skip: skip || missingTerminal(),
  }, () => {
    using terminal = Fd.open("/dev/ptmx", O_RDWR | O_NOCTTY);
    using ring = makeRing(8, options);
    for (const [i, events] of [0, POLLIN].entries()) {
      entry(ring, i, (sqe) => sqe.prepPollAdd(terminal.fd, events));
    }
    ring.submit();
    entry(ring, 2, (sqe) => sqe.prepCancel64(0, 0));
    entry(ring, 3, (sqe) => sqe.prepCancel64(1, 0));
    const results = reapResults(ring, 4);
    assert.deepEqual([0, 1, 2, 3].map((i) => results.get(i)), [ECANCELED, ECANCELED, 0, 0]);
  });

  test(
    `liburing ring-leak: ${name}: closing ends reads of registered files, and lets go of them`,
    { skip },
    () => {
      using pipe = new Pipe();
      const { address } = block(16);
      {
        using ring = makeRing(8, options);
        ring.registerFiles([pipe.reader.fd, pipe.writer.fd]);
        pipe.writer.close();
        for (const flags of [0, IOSQE_ASYNC]) {
          entry(ring, 1, (sqe) => {
            sqe.prepRead(0, address, 10, 0);
            sqe.flags = IOSQE_FIXED_FILE | flags;
          });
        }
        ring.submit();
        if ((ring.flags & IORING_SETUP_SQPOLL) !== 0) {
          eventually(() => ring.sqReady() === 0, "both are taken");
        }
        assert.equal(ring.cqReady(), 0);
      }
      endsOf(pipe);
    },
  );
});

/** Waits for the end of what comes out of a pipe: nothing holds its other end any more. */
function endsOf(pipe: Pipe): void {
  const byte = new Uint8Array(new ArrayBuffer(1));
  eventually(() => system().read(pipe.reader.fd, byte, 1) === 0, "nothing holds the pipe");
}

/** A `struct msghdr` that passes a descriptor on. */
function passing(fd: number): number {
  const control = block(24);
  control.view.setBigUint64(cmsghdr.cmsg_len, 20n, true);
  control.view.setInt32(cmsghdr.cmsg_level, SOL_SOCKET, true);
  control.view.setInt32(cmsghdr.cmsg_type, SCM_RIGHTS, true);
  control.view.setInt32(cmsghdr.size, fd, true);
  const message = block(msghdr.size);
  message.view.setBigUint64(msghdr.msg_iov, BigInt(iovecs([blockOf("x")]).address), true);
  message.view.setBigUint64(msghdr.msg_iovlen, 1n, true);
  message.view.setBigUint64(msghdr.msg_control, BigInt(control.address), true);
  message.view.setBigUint64(msghdr.msg_controllen, 24n, true);
  return message.address;
}

const noRefusal = kernelHas("6.8") ? false : "needs Linux 6.8";

test("liburing ring-leak: a ring cannot be sent through a socket, so that none holds itself", {
  skip: noRefusal,
}, () => {
  for (const update of [false, true]) {
    using pipe = new Pipe();
    {
      using ring = makeRing(8);
      const sockets = new Int32Array(new ArrayBuffer(8));
      assert.equal(system().socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, sockets), 0);
      using first = new Fd(sockets[0]!);
      using second = new Fd(sockets[1]!);
      const message = passing(ring.fd);
      assert.equal(once(ring, (sqe) => sqe.prepSendmsg(first.fd, message, 0)).res, EINVAL);
      // What is no ring can be.
      const other = passing(pipe.reader.fd);
      assert.equal(once(ring, (sqe) => sqe.prepSendmsg(first.fd, other, 0)).res, 1);
      const fds = [pipe.reader.fd, pipe.writer.fd, first.fd, second.fd];
      if (update) {
        ring.registerFiles([-1, -1, -1, -1]);
        assert.equal(ring.registerFilesUpdate(0, fds), 4);
      } else ring.registerFiles(fds);
      pipe.writer.close();
    }
    endsOf(pipe);
  }
});
