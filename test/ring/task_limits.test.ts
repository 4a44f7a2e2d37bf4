/** Threads that are limited for good, and BPF filters on rings and threads. */
import assert from "node:assert/strict";
import process from "node:process";
import {
  AF_INET,
  AF_INET6,
  AF_UNIX,
  BPF_ABS,
  BPF_ALU,
  BPF_AND,
  BPF_JEQ,
  BPF_JMP,
  BPF_K,
  BPF_LD,
  BPF_RET,
  BPF_W,
  type BpfInstruction,
  bpfJump,
  bpfStmt,
  IO_URING_BPF_FILTER_DENY_REST,
  IO_URING_BPF_FILTER_SZ_STRICT,
  IORING_OP_CONNECT,
  IORING_OP_NOP,
  IORING_OP_OPENAT,
  IORING_OP_OPENAT2,
  IORING_OP_SOCKET,
  IORING_OP_WRITE,
  IORING_REGISTER_FILES,
  O_CREAT,
  O_RDWR,
  registerBpfFilterTask,
  registerRestrictionsTask,
  RESOLVE_IN_ROOT,
  type Ring,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_STREAM,
} from "../../src/ring/mod.ts";
import { kernelHas } from "../../src/ffi/kernel.ts";
import { io_uring_bpf_ctx, open_how } from "../../src/ffi/structs.ts";
import { system } from "../../src/ffi/system.ts";
import type { Outcome, Step } from "../fixtures/task_limits.ts";
import { TempDir } from "../support/descriptors.ts";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { fixture, output } from "../support/program.ts";
import { block, forEachKind, makeRing, once, path } from "../support/rings.ts";
import { loopback, tcp } from "../support/sockets.ts";

checkLeaks();

const EACCES = -13;
const EINVAL = -22;
const notThere = kernelHas("7.0") ? false : "needs Linux 7.0";
const there = kernelHas("7.0") ? "this kernel has it" : false;

const LOAD = BPF_LD | BPF_W | BPF_ABS;
const IF_EQUAL = BPF_JMP | BPF_JEQ | BPF_K;
const ALLOW = bpfStmt(BPF_RET | BPF_K, 1);
const DENY = bpfStmt(BPF_RET | BPF_K, 0);
const FAMILY = io_uring_bpf_ctx.socket;
const SOCKET_TYPE = FAMILY + 4;
const SOCKET_PDU = 12;
const OPEN_FLAGS = io_uring_bpf_ctx.open;
const OPEN_RESOLVE = OPEN_FLAGS + 16;
const OPEN_PDU = 24;
const PORT = 20;
const CONNECT_ADDRESS = 24;
const CONNECT_PDU = 24;

const ALL: readonly BpfInstruction[] = [ALLOW];
const NONE: readonly BpfInstruction[] = [DENY];

/** Allows when the word at an offset of the context, masked, has this value. */
function allowIf(offset: number, value: number, mask = 0xffff_ffff): readonly BpfInstruction[] {
  return [
    bpfStmt(LOAD, offset),
    bpfStmt(BPF_ALU | BPF_AND | BPF_K, mask),
    bpfJump(IF_EQUAL, value, 0, 1),
    ALLOW,
    DENY,
  ];
}

const INET_ONLY = { opcode: IORING_OP_SOCKET, pduSize: SOCKET_PDU, program: allowIf(FAMILY, AF_INET) };
const TCP_ONLY = {
  opcode: IORING_OP_SOCKET,
  pduSize: SOCKET_PDU,
  program: allowIf(SOCKET_TYPE, SOCK_STREAM, 0xf),
};

/** Runs steps in a process of their own, which they limit for good. */
async function perform(...steps: readonly Step[]): Promise<readonly Outcome[]> {
  const permissions = ["--allow-ffi", "--allow-run", "--allow-read", "--allow-env"];
  return JSON.parse(await output(fixture("task_limits.ts"), [JSON.stringify(steps)], { permissions }));
}

function socket(ring: Ring, domain: number, type: number): number {
  const { res } = once(ring, (sqe) => sqe.prepSocket(domain, type, 0, 0));
  if (res >= 0) system().close(res);
  return Math.min(res, 0);
}

test("liburing task-restrict, cbpf_filter: what Linux 7.0 has brought is named where it is not", {
  skip: there,
}, async () => {
  using ring = makeRing(1);
  const lacking = { code: "EINVAL", syscall: "io_uring_register", message: /needs? Linux 7\.0/ };
  const filter = { opcode: IORING_OP_NOP, program: NONE };
  assert.throws(() => ring.registerBpfFilter(filter), {
    ...lacking,
    message: /IORING_REGISTER_BPF_FILTER needs Linux 7\.0/,
  });
  assert.throws(() => registerBpfFilterTask(filter), lacking);
  assert.throws(() => registerRestrictionsTask([]), lacking);
  assert.equal(once(ring, (sqe) => sqe.prepNop()).res, 0);
  assert.deepEqual(
    await perform("no new privileges", { restrict: [{ sqeOp: IORING_OP_NOP }] }, { filter }, "ring", "nop"),
    [0, "EINVAL", "EINVAL", 0, 0],
  );
});

test("liburing task-restrict: rings of a restricted thread do what it may", { skip: notThere }, async () => {
  const restrict = [{ sqeOp: IORING_OP_NOP }];
  assert.deepEqual(await perform("no new privileges", { restrict }, "ring", "nop", "read", { restrict }), [
    0,
    0,
    0,
    0,
    EACCES,
    "EPERM",
  ]);
});

test("liburing task-restrict: a child process inherits it", { skip: notThere }, async () => {
  const restrict = [{ sqeOp: IORING_OP_NOP }, { sqeOp: IORING_OP_WRITE }];
  assert.deepEqual(
    await perform("no new privileges", { restrict }, { child: ["ring", "nop", "read", { restrict }] }),
    [0, 0, [0, 0, EACCES, "EPERM"]],
  );
});

test("liburing task-restrict: register operations, and nothing at all", { skip: notThere }, async () => {
  assert.deepEqual(
    await perform(
      "no new privileges",
      { restrict: [{ registerOp: IORING_REGISTER_FILES }] },
      "ring",
      "register files",
      "register buffers",
      "nop",
    ),
    [0, 0, 0, 0, "EACCES", 0],
  );
  assert.deepEqual(
    await perform("no new privileges", { restrict: [] }, "ring", "register files", "nop"),
    [0, 0, 0, "EACCES", EACCES],
  );
});

test(
  "liburing cbpf_filter: without privileges a thread must give up getting any",
  { skip: notThere },
  async () => {
    const filter = { opcode: IORING_OP_NOP, program: ALL };
    const expected = process.getuid?.() === 0 ? 0 : "EACCES";
    assert.deepEqual(await perform({ filter }, { restrict: [{ sqeOp: IORING_OP_NOP }] }), [
      expected,
      // With a filter a thread is limited already.
      expected === 0 ? "EPERM" : "EACCES",
    ]);
    assert.deepEqual(await perform("no new privileges", { filter }), [0, 0]);
  },
);

test("liburing cbpf_filter: a thread's filter is on each of its rings", { skip: notThere }, async () => {
  const deny = { opcode: IORING_OP_NOP, program: NONE };
  assert.deepEqual(
    await perform("no new privileges", "ring", { filter: deny }, "nop", "ring", "nop", "socket"),
    [
      0,
      0,
      0,
      // A ring that was made before is as it was.
      0,
      0,
      EACCES,
      0,
    ],
  );
  assert.deepEqual(
    await perform("no new privileges", { filter: INET_ONLY }, "ring", "socket", "socket6", "nop"),
    [0, 0, 0, 0, EACCES, 0],
  );
  const rest = { opcode: IORING_OP_NOP, program: ALL, flags: IO_URING_BPF_FILTER_DENY_REST };
  assert.deepEqual(await perform("no new privileges", { filter: rest }, "ring", "nop", "socket", "read"), [
    0,
    0,
    0,
    0,
    EACCES,
    EACCES,
  ]);
});

test(
  "liburing cbpf_filter: filters are inherited, pile up, and never allow more",
  { skip: notThere },
  async () => {
    const deny = { opcode: IORING_OP_NOP, program: NONE };
    const allow = { opcode: IORING_OP_NOP, program: ALL };
    assert.deepEqual(
      await perform(
        "no new privileges",
        { filter: INET_ONLY },
        {
          child: [
            "ring",
            "socket",
            "socket6",
            "nop",
            { filter: deny },
            "ring",
            "nop",
            { child: [{ filter: allow }, "ring", "nop", "socket", "socket6"] },
          ],
        },
        "ring",
        "nop",
      ),
      [0, 0, [0, 0, EACCES, 0, 0, 0, EACCES, [0, 0, EACCES, 0, EACCES]], 0, 0],
    );
    // On a ring of a thread that has filters, both judge.
    assert.deepEqual(
      await perform(
        "no new privileges",
        { filter: INET_ONLY },
        "ring",
        { ringFilter: deny },
        "nop",
        "socket6",
      ),
      [0, 0, 0, 0, EACCES, EACCES],
    );
  },
);

forEachKind(({ name, options, skip }) => {
  test(`liburing cbpf_filter: ${name}: filters on a ring`, { skip: firstReason(skip, notThere) }, () => {
    using free = makeRing(2, options);
    {
      using ring = makeRing(4, options);
      assert.equal(once(ring, (sqe) => sqe.prepNop()).res, 0);
      ring.registerBpfFilter({ opcode: IORING_OP_NOP, program: NONE });
      assert.equal(once(ring, (sqe) => sqe.prepNop()).res, EACCES);
      assert.equal(once(free, (sqe) => sqe.prepNop()).res, 0);
    }
    {
      using ring = makeRing(4, options);
      ring.registerBpfFilter(INET_ONLY);
      assert.deepEqual([socket(ring, AF_INET, SOCK_STREAM), socket(ring, AF_UNIX, SOCK_STREAM)], [0, EACCES]);
      // One that denies is enough.
      ring.registerBpfFilter(TCP_ONLY);
      assert.equal(socket(ring, AF_INET, SOCK_STREAM | SOCK_CLOEXEC), 0);
      assert.deepEqual([socket(ring, AF_INET, SOCK_DGRAM), socket(ring, AF_UNIX, SOCK_STREAM)], [
        EACCES,
        EACCES,
      ]);
    }
    {
      using ring = makeRing(4, options);
      const flags = IO_URING_BPF_FILTER_DENY_REST;
      ring.registerBpfFilter({ opcode: IORING_OP_NOP, program: ALL, flags });
      assert.equal(once(ring, (sqe) => sqe.prepNop()).res, 0);
      assert.equal(socket(ring, AF_INET, SOCK_STREAM), EACCES);
    }
  });
});

test("liburing cbpf_filter: how files are opened", { skip: notThere }, () => {
  using dir = new TempDir();
  const name = path(dir.of("file"));
  using ring = makeRing(4);
  const close = (res: number): number => res < 0 ? res : system().close(res);
  const open = (flags: number): number =>
    close(once(ring, (sqe) => sqe.prepOpenat(-100, name, flags, 0o600)).res);
  const how = block(open_how.size);
  const open2 = (flags: number, resolve: number): number => {
    how.view.setBigUint64(open_how.flags, BigInt(flags), true);
    how.view.setBigUint64(open_how.mode, flags === 0 ? 0n : 0o600n, true);
    how.view.setBigUint64(open_how.resolve, BigInt(resolve), true);
    return close(once(ring, (sqe) => sqe.prepOpenat2(-100, name, how.address)).res);
  };
  ring.registerBpfFilter({
    opcode: IORING_OP_OPENAT,
    pduSize: OPEN_PDU,
    program: allowIf(OPEN_FLAGS, 0, O_CREAT),
  });
  ring.registerBpfFilter({
    opcode: IORING_OP_OPENAT2,
    pduSize: OPEN_PDU,
    program: allowIf(OPEN_RESOLVE, 0, RESOLVE_IN_ROOT),
  });
  assert.equal(open(O_CREAT | O_RDWR), EACCES);
  assert.equal(open2(0, RESOLVE_IN_ROOT), EACCES);
  assert.equal(open(O_RDWR), -2);
  assert.equal(open2(O_CREAT | O_RDWR, 0), 0);
  assert.equal(open(O_RDWR), 0);
  assert.equal(open2(0, 0), 0);
});

/** Why filters cannot see where a connection goes, or `false`. */
function missingConnect(): string | false {
  if (notThere !== false) return notThere;
  using ring = makeRing(1);
  try {
    ring.registerBpfFilter({ opcode: IORING_OP_CONNECT, pduSize: CONNECT_PDU, program: ALL });
    return false;
  } catch (error) {
    return String(error);
  }
}

test("liburing cbpf_filter: where connections go", { skip: missingConnect() }, () => {
  const swap = (port: number): number => (port & 0xff) << 8 | port >> 8;
  const LOCALHOST = 0x0100_007f;
  const attempt = (program: readonly BpfInstruction[], port: number, domain: number = AF_INET): number => {
    using ring = makeRing(2);
    ring.registerBpfFilter({ opcode: IORING_OP_CONNECT, pduSize: CONNECT_PDU, program });
    using client = tcp();
    const address = loopback(port);
    address.view.setUint16(0, domain, true);
    return once(ring, (sqe) => sqe.prepConnect(client.fd, address.address, 16)).res;
  };
  // Nobody listens on port 1.
  const REFUSED = -111;
  assert.equal(attempt(allowIf(FAMILY, AF_INET), 1), REFUSED);
  assert.equal(attempt(allowIf(FAMILY, AF_INET6), 1), EACCES);
  assert.equal(attempt(allowIf(PORT, swap(1)), 1), REFUSED);
  assert.equal(attempt(allowIf(PORT, swap(1)), 2), EACCES);
  assert.equal(attempt(allowIf(CONNECT_ADDRESS, LOCALHOST), 1), REFUSED);
  assert.equal(attempt(allowIf(CONNECT_ADDRESS, LOCALHOST + 0x0100_0000), 1), EACCES);
  // 127.0.0.0/8
  assert.equal(attempt(allowIf(CONNECT_ADDRESS, 127, 0xff), 1), REFUSED);
  assert.equal(attempt(allowIf(CONNECT_ADDRESS, 10, 0xff), 1), EACCES);
  // An address too short to have a family leaves nothing of the one before.
  using ring = makeRing(2);
  const denyInet = [bpfStmt(LOAD, FAMILY), bpfJump(IF_EQUAL, AF_INET, 1, 0), ALLOW, DENY];
  ring.registerBpfFilter({ opcode: IORING_OP_CONNECT, pduSize: CONNECT_PDU, program: denyInet });
  using client = tcp();
  const address = loopback(1);
  assert.equal(once(ring, (sqe) => sqe.prepConnect(client.fd, address.address, 16)).res, EACCES);
  assert.equal(once(ring, (sqe) => sqe.prepConnect(client.fd, address.address, 1)).res, EINVAL);
});

test("liburing cbpf_filter: how much a program may expect to see", { skip: notThere }, () => {
  using ring = makeRing(2);
  const filter = { opcode: IORING_OP_SOCKET, program: ALL };
  const says = { code: "EMSGSIZE", message: /pduSize for the operation is 12/ };
  assert.throws(() => ring.registerBpfFilter({ ...filter, pduSize: 24 }), says);
  ring.registerBpfFilter({ ...filter, pduSize: 8 });
  assert.throws(
    () => ring.registerBpfFilter({ ...filter, pduSize: 8, flags: IO_URING_BPF_FILTER_SZ_STRICT }),
    says,
  );
  ring.registerBpfFilter({ ...filter, pduSize: 12, flags: IO_URING_BPF_FILTER_SZ_STRICT });
  assert.equal(socket(ring, AF_INET, SOCK_STREAM), 0);
});

test("programs that the kernel does not take", { skip: notThere }, () => {
  using ring = makeRing(2);
  const refused = (program: readonly BpfInstruction[], opcode: number = IORING_OP_NOP): void => {
    assert.throws(() => ring.registerBpfFilter({ opcode, program }), {
      code: "EINVAL",
      message: /aligned words/,
    });
  };
  refused([bpfStmt(LOAD, 2), ALLOW]);
  refused([bpfStmt(LOAD, 400), ALLOW]);
  refused([bpfStmt(BPF_LD | 0x10 | BPF_ABS, 0), ALLOW]);
  refused(ALL, 250);
  assert.equal(once(ring, (sqe) => sqe.prepNop()).res, 0);
});

test("programs that cannot be are refused before the kernel is asked", () => {
  using ring = makeRing(2);
  for (const program of [[], [bpfStmt(LOAD, 0)], [bpfJump(IF_EQUAL, 0, 0, 1), ALLOW]]) {
    assert.throws(() => ring.registerBpfFilter({ opcode: IORING_OP_NOP, program }), RangeError);
    assert.throws(() => registerBpfFilterTask({ opcode: IORING_OP_NOP, program }), RangeError);
  }
});
