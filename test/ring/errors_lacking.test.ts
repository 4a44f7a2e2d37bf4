/**
 * What a kernel does not know fails by name and with the version that brought it: what the running kernel lacks for real,
 * and everything else on kernels that pass for older ones.
 */
import assert from "node:assert/strict";
import { kernelHas, kernelVersion } from "../../src/ffi/kernel.ts";
import {
  type Flag,
  OPCODE_KERNEL,
  OPCODE_NAME,
  REGISTER_KERNEL,
  REGISTER_NAME,
  SETUP_FLAGS,
} from "../../src/ffi/versions.ts";
import {
  IORING_OP_NOP,
  IORING_SETUP_COOP_TASKRUN,
  IORING_SETUP_IOPOLL,
  IORING_SETUP_NO_MMAP,
  IORING_SETUP_SINGLE_ISSUER,
  IORING_SETUP_SQPOLL,
  registerQuery,
  Ring,
  type RingOptions,
  UringError,
} from "../../src/ring/mod.ts";
import { openRings } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { compareKernels, kernelBefore, OldKernel } from "../support/old_kernel.ts";
import { makeRing, once } from "../support/rings.ts";

checkLeaks();

/** The error of a call, which must be `EINVAL` and say this. */
function refuses(call: () => unknown, syscall: string, says: string): void {
  const before = openRings();
  assert.throws(call, (error: unknown) => {
    assert.ok(error instanceof UringError, String(error));
    assert.deepEqual([error.code, error.syscall], ["EINVAL", syscall]);
    assert.ok(error.message.includes(says), `${error.message} does not say: ${says}`);
    return true;
  });
  assert.equal(openRings(), before);
}

/** What the options must have beside a flag. */
const COMPANY: Readonly<Record<string, RingOptions>> = {
  IORING_SETUP_SQPOLL: { sqThreadIdle: 5 },
  IORING_SETUP_SQ_AFF: { flags: IORING_SETUP_SQPOLL, sqThreadCpu: 0 },
  IORING_SETUP_CQSIZE: { cqEntries: 16 },
  IORING_SETUP_TASKRUN_FLAG: { flags: IORING_SETUP_COOP_TASKRUN },
  IORING_SETUP_DEFER_TASKRUN: { flags: IORING_SETUP_SINGLE_ISSUER },
  IORING_SETUP_REGISTERED_FD_ONLY: { flags: IORING_SETUP_NO_MMAP },
  IORING_SETUP_HYBRID_IOPOLL: { flags: IORING_SETUP_IOPOLL },
};

function optionsFor([bit, name]: Flag, wqFd: number): RingOptions {
  const { flags = 0, ...others } = COMPANY[name] ?? {};
  // These three are set by options of their own.
  const implied = ["IORING_SETUP_CQSIZE", "IORING_SETUP_SQ_AFF", "IORING_SETUP_ATTACH_WQ"].includes(name);
  const attached = name === "IORING_SETUP_ATTACH_WQ" ? { wqFd } : {};
  return { ...others, ...attached, flags: implied ? flags : (flags | bit) >>> 0 };
}

for (const flag of SETUP_FLAGS.filter(([, , kernel]) => compareKernels(kernel, "5.1") > 0)) {
  const [, name, kernel] = flag;
  test(`${name} before Linux ${kernel}`, () => {
    using other = makeRing(1);
    const options = optionsFor(flag, other.fd);
    using _old = new OldKernel(kernelBefore(kernel));
    refuses(() => new Ring(4, options), "io_uring_setup", `${name} needs Linux ${kernel}`);
  });
}

test("several flags at once are all named", () => {
  const flags = SETUP_FLAGS.filter(([, name]) => /SUBMIT_ALL|R_DISABLED|CLAMP/.test(name));
  using _old = new OldKernel("5.4");
  const all = flags.reduce((bits, [bit]) => bits | bit, 0);
  const says = flags.map(([, name, kernel]) => `${name} needs Linux ${kernel}`).join(", ");
  refuses(() => new Ring(4, { flags: all }), "io_uring_setup", says);
});

test("a flag that the kernel has is not among those that it lacks", () => {
  using _old = new OldKernel("5.17");
  const [clamp, all] = ["CLAMP", "SUBMIT_ALL"].map((end) =>
    SETUP_FLAGS.find(([, name]) => name.endsWith(end))!
  );
  assert.throws(() => new Ring(4, { flags: clamp![0] | all![0] }), (error: Error) => {
    assert.match(error.message, /IORING_SETUP_SUBMIT_ALL needs Linux 5\.18/);
    assert.doesNotMatch(error.message, /CLAMP/);
    return true;
  });
});

REGISTER_NAME.forEach((name, opcode) => {
  const kernel = REGISTER_KERNEL[opcode]!;
  if (compareKernels(kernel, "5.1") === 0) return;
  test(`${name} before Linux ${kernel}`, () => {
    using ring = makeRing(1);
    using _old = new OldKernel(kernelBefore(kernel));
    refuses(() => ring.register(opcode, null, 0), "io_uring_register", `${name} needs Linux ${kernel}`);
  });
});

test("a register operation that the kernel has is named all the same, but not as lacking", () => {
  using ring = makeRing(1);
  assert.throws(() => ring.register(REGISTER_NAME.indexOf("IORING_REGISTER_BUFFERS"), null, 0), {
    message: /IORING_REGISTER_BUFFERS\)$/,
  });
});

test("what waiting needs", () => {
  using old = new OldKernel("5.10");
  using ring = makeRing(4);
  const soon = { sec: 0, nsec: 1 };
  const extended = "IORING_ENTER_EXT_ARG needs Linux 5.11";
  refuses(() => ring.submitAndWaitTimeout(1, soon), "io_uring_enter", extended);
  refuses(() => ring.waitCqeTimeout(soon), "io_uring_enter", extended);
  old[Symbol.dispose]();
  using _older = new OldKernel("6.11");
  using another = makeRing(4);
  const says = "IORING_ENTER_ABS_TIMER needs Linux 6.12";
  refuses(() => another.submitAndWaitTimeout(1, soon, { absolute: true }), "io_uring_enter", says);
  refuses(
    () => another.submitAndWaitTimeout(1, soon, { minWaitUsec: 1 }),
    "io_uring_enter",
    "a minimum wait needs Linux 6.12",
  );
  refuses(
    () => another.submitAndWaitReg(1, 0),
    "io_uring_enter",
    "IORING_ENTER_EXT_ARG_REG needs Linux 6.13",
  );
});

test("a probe tells which operations are lacking, and since when there are", () => {
  for (const version of ["5.6", "5.12", "5.19", "6.7", "6.16"]) {
    using _old = new OldKernel(version);
    using ring = makeRing(1);
    const found = ring.getProbe();
    OPCODE_NAME.forEach((name, op) => {
      const kernel = OPCODE_KERNEL[op]!;
      const lacks = compareKernels(kernel, version) > 0;
      assert.equal(found.opcodeSupported(op), !lacks, `${name} on ${version}`);
      assert.equal(found.lacking(op), lacks ? `${name} needs Linux ${kernel}` : undefined);
    });
  }
});

test("a probe knows its limits", () => {
  using ring = makeRing(1);
  assert.equal(ring.getProbe().lacking(IORING_OP_NOP), undefined);
  assert.equal(ring.getProbe().lacking(200), "no kernel has operation 200");
});

/** What methods ask for beyond the register operation, or instead of it: the last kernel without it, and what is said. */
const METHODS: readonly [method: string, before: string, says: string, call: (ring: Ring) => unknown][] = [
  [
    "registerFilesSparse",
    "5.18",
    "IORING_RSRC_REGISTER_SPARSE needs Linux 5.19",
    (ring) => ring.registerFilesSparse(4),
  ],
  [
    "registerBuffersSparse",
    "5.18",
    "IORING_RSRC_REGISTER_SPARSE needs Linux 5.19",
    (ring) => ring.registerBuffersSparse(4),
  ],
  [
    "registerFilesTags",
    "5.12",
    "IORING_REGISTER_FILES2 needs Linux 5.13",
    (ring) => ring.registerFilesTags([0], [1]),
  ],
  ["setupBufRing", "5.18", "IORING_REGISTER_PBUF_RING needs Linux 5.19", (ring) => ring.setupBufRing(4, 1)],
  ["registerRingFd", "5.17", "IORING_REGISTER_RING_FDS needs Linux 5.18", (ring) => ring.registerRingFd()],
  ["enableRings", "5.9", "IORING_REGISTER_ENABLE_RINGS needs Linux 5.10", (ring) => ring.enableRings()],
  ["getProbe", "5.5", "IORING_REGISTER_PROBE needs Linux 5.6", (ring) => ring.getProbe()],
  [
    "registerSyncCancel",
    "5.19",
    "IORING_REGISTER_SYNC_CANCEL needs Linux 6.0",
    (ring) => ring.registerSyncCancel({}),
  ],
  [
    "registerQuery",
    "6.17",
    "IORING_REGISTER_QUERY needs Linux 6.18",
    () => registerQuery([{ op: 0, data: new Uint8Array(8) }]),
  ],
];

for (const [method, before, says, call] of METHODS) {
  test(`${method} on Linux ${before}`, () => {
    using _old = new OldKernel(before);
    using ring = makeRing(4);
    refuses(() => call(ring), "io_uring_register", says);
  });
}

test("setIowait and closeRingFd go by features, and say the same", () => {
  using _old = new OldKernel("6.2");
  using ring = makeRing(4);
  assert.throws(() => ring.setIowait(false), { message: /IORING_ENTER_NO_IOWAIT needs Linux 6\.15/ });
  ring.registerRingFd();
  assert.throws(() => ring.closeRingFd(), { message: /needs Linux 6\.3/ });
});

// From here on nothing is pretended.
const running = kernelVersion().join(".");

for (const [bit, name, kernel] of SETUP_FLAGS.filter(([, , kernel]) => !kernelHas(kernel))) {
  test(`${name}, which Linux ${running} lacks`, () => {
    refuses(() => new Ring(4, { flags: bit }), "io_uring_setup", `${name} needs Linux ${kernel}`);
  });
}

REGISTER_NAME.forEach((name, opcode) => {
  const kernel = REGISTER_KERNEL[opcode]!;
  if (kernelHas(kernel)) return;
  test(`${name}, which Linux ${running} lacks`, () => {
    using ring = makeRing(1);
    refuses(() => ring.register(opcode, null, 0), "io_uring_register", `${name} needs Linux ${kernel}`);
  });
});

OPCODE_NAME.forEach((name, op) => {
  const kernel = OPCODE_KERNEL[op]!;
  if (kernelHas(kernel)) return;
  test(`${name}, which Linux ${running} lacks`, () => {
    using ring = makeRing(1);
    assert.equal(once(ring, (sqe) => sqe.prepRw(op, -1, 0, 0, 0)).res, -22);
    assert.equal(ring.getProbe().lacking(op), `${name} needs Linux ${kernel}`);
  });
});
