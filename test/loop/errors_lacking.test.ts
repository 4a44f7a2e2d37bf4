/**
 * What a kernel does not know fails by name and with the version that brought it; what it knows works. On kernels that
 * pass for older ones, down to the oldest that can say which operations it has.
 */
import assert from "node:assert/strict";
import { O_TMPFILE } from "../../src/ffi/arch.ts";
import { OPCODE_KERNEL } from "../../src/ffi/versions.ts";
import { operationError } from "../../src/loop/failure.ts";
import { Uring, UringError } from "../../src/mod.ts";
import { OPERATION_CASES, type OperationCase, titleOf } from "../support/cases/mod.ts";
import { TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { makeUring, within } from "../support/loop.ts";
import { failure } from "../support/operations.ts";
import { compareKernels, kernelBefore, OldKernel } from "../support/old_kernel.ts";
import { missingOp } from "../support/rings.ts";

checkLeaks();

/** The oldest kernel that can be asked which operations it has. */
const OLDEST = "5.6";

/** Runs a case and gives back the error that it fails with, or undefined. */
async function errorOf(uring: Uring, one: OperationCase): Promise<UringError | undefined> {
  using dir = new TempDir();
  return await within(
    one.run(uring, dir).then(() => undefined, (error: UringError) => error),
    titleOf(one),
  );
}

/** What a method is called in errors. */
function nameOf(method: string): string {
  return method.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
    .replace(/^(\w+)_multishot$/, "multishot $1");
}

for (const one of OPERATION_CASES) {
  const kernel = OPCODE_KERNEL[one.op]!;
  if (compareKernels(kernel, OLDEST) <= 0) continue;
  const skip = one.skip || missingOp(one.op);
  test(`${titleOf(one)} before Linux ${kernel}`, { skip }, async () => {
    using _old = new OldKernel(kernelBefore(kernel));
    // What it asks for by itself, and does without where it has to.
    await using uring = new Uring();
    const error = await errorOf(uring, one);
    assert.ok(error instanceof UringError, `${String(error)}`);
    assert.equal(error.code, "EINVAL", error.message);
    const called = one.called ?? nameOf(one.method);
    assert.equal(error.syscall, called.replace("multishot ", ""));
    const says = `(this kernel lacks ${called}; it needs Linux ${kernel})`;
    assert.ok(error.message.endsWith(says), error.message);
    assert.equal(uring.stats.inFlight, 0);
  });
}

for (const version of ["5.6", "5.11", "5.15", "5.19", "6.1", "6.7", "6.13"]) {
  test(`Linux ${version}: every operation that it has works`, async () => {
    using _old = new OldKernel(version);
    await using uring = new Uring();
    let worked = 0;
    for (const one of OPERATION_CASES) {
      const needs = one.kernel ?? OPCODE_KERNEL[one.op]!;
      if (one.skip || compareKernels(needs, version) > 0) continue;
      const error = await errorOf(uring, one);
      assert.equal(error, undefined, `${titleOf(one)}: ${error?.message}`);
      worked++;
    }
    assert.ok(worked > 10, `only ${worked} operations`);
  });
}

/** What is younger than its operation, which a pretended kernel does not look at. */
const VARIANTS: Readonly<
  Record<string, readonly [name: string, variant: string | undefined, kernel: string]>
> = {
  "poll multishot": ["poll", "multishot", "5.13"],
  "timeout multishot": ["timeout", "multishot", "6.4"],
  "accept multishot": ["accept", "multishot", "5.19"],
  "recv multishot": ["recv", "multishot", "6.0"],
  "recvmsg multishot": ["recvmsg", "multishot", "6.0"],
  "openat into a direct descriptor": ["openat", "direct", "5.15"],
  "accept into a direct descriptor": ["accept", "direct", "5.15"],
  cancel: ["cancel", undefined, "5.19"],
  sendto: ["sendto", undefined, "6.1"],
  getsockopt: ["getsockopt", undefined, "6.7"],
  getsockname: ["getsockname", undefined, "6.19"],
};

for (const [what, [name, variant, kernel]] of Object.entries(VARIANTS)) {
  test(`${what} before Linux ${kernel}`, async () => {
    await using uring = makeUring();
    const about = { name, path: undefined, dest: undefined, ...(variant === undefined ? {} : { variant }) };
    using old = new OldKernel(kernelBefore(kernel));
    const full = variant === undefined ? name : `${variant} ${name}`;
    const says = `this kernel lacks ${full}; it needs Linux ${kernel}`;
    assert.equal(
      operationError(uring.ring, -22, about).message,
      `EINVAL: invalid argument, ${name} (${says})`,
    );
    old[Symbol.dispose]();
    using _young = new OldKernel(kernel);
    assert.equal(operationError(uring.ring, -22, about).message, `EINVAL: invalid argument, ${name}`);
  });
}

test("a direct descriptor that the kernel refuses is told apart from a file that it refuses", async () => {
  using _old = new OldKernel("5.14");
  await using uring = new Uring();
  // The real kernel finds something wrong with these flags, as an old one would with the descriptor.
  const flags = O_TMPFILE;
  const direct = await failure(uring.openat("/tmp", { flags, direct: true }));
  assert.match(direct.message, /EINVAL.*\(this kernel lacks direct openat; it needs Linux 5\.15\)$/);
  const plain = await failure(uring.openat("/tmp", { flags }));
  assert.match(plain.message, /EINVAL: invalid argument, openat '\/tmp'$/);
});

test("other errors do not speak of kernels", async () => {
  await using uring = makeUring();
  using _old = new OldKernel("5.6");
  for (const [name, res] of [["pipe", -24], ["accept", -95], ["getsockname", -107]] as const) {
    const { message } = operationError(uring.ring, res, { name, path: undefined, dest: undefined });
    assert.doesNotMatch(message, /Linux/);
  }
});
