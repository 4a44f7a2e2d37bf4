/** Making a descriptor of the process out of a direct one. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { IORING_FIXED_FD_NO_CLOEXEC, IORING_OP_FIXED_FD_INSTALL, O_CLOEXEC } from "../../src/ffi/abi.ts";
import type { DirectDescriptor } from "../../src/mod.ts";
import { fdFlags, TempDir } from "../support/descriptors.ts";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { DEFERRED, makeUring, noDeferred, URING_KINDS } from "../support/loop.ts";
import {
  abortLate,
  assertAllFree,
  countDescriptors,
  failure,
  Reason,
  refuses,
  rejectsWith,
  text,
} from "../support/operations.ts";
import { missingOp, missingRing } from "../support/rings.ts";

checkLeaks();

const noInstall = missingOp(IORING_OP_FIXED_FD_INSTALL);

for (const [name, options] of Object.entries(URING_KINDS)) {
  const noRing = options.flags === undefined ? false : missingRing({ flags: options.flags });
  test(
    `${name}: both name the same file, each to be closed`,
    { skip: firstReason(noRing, noInstall) },
    async () => {
      await using uring = makeUring(options);
      using dir = new TempDir();
      writeFileSync(dir.of("file"), "content");
      const file = await uring.openat(dir.of("file"), { direct: true });
      const fd = await uring.fixedFdInstall(file);
      assert.equal(fdFlags(fd) & O_CLOEXEC, O_CLOEXEC);
      const buffer = new Uint8Array(8);
      assert.equal(text(buffer, await uring.read(file, buffer, { length: 3 })), "con");
      assert.equal(text(buffer, await uring.read(fd, buffer)), "tent");
      await uring.close(file);
      assert.equal(text(buffer, await uring.read(fd, buffer, { offset: 0 })), "content");
      await uring.close(fd);
    },
  );
}

test("with a flag programs inherit it; what is wrong is refused", { skip: noInstall }, async () => {
  await using uring = makeUring();
  await using other = makeUring();
  const file = await uring.openat("/proc/self/comm", { direct: true });
  const fd = await uring.fixedFdInstall(file, { flags: IORING_FIXED_FD_NO_CLOEXEC });
  assert.equal(fdFlags(fd) & O_CLOEXEC, 0);
  await rejectsWith(uring.fixedFdInstall(file, { flags: 1 << 17 }), "EINVAL", "fixed_fd_install");
  await refuses(uring, RangeError, () => uring.fixedFdInstall(file, { flags: -1 }));
  await refuses(other, TypeError, () => other.fixedFdInstall(file));
  for (const wrong of [fd, null, undefined, "3"] as unknown as DirectDescriptor[]) {
    await refuses(uring, TypeError, () => uring.fixedFdInstall(wrong));
  }
  await uring.close(fd);
  await uring.close(file);
  await refuses(uring, TypeError, () => uring.fixedFdInstall(file));
});

test("in a chain; aborted before, and too late", { skip: firstReason(noInstall, noDeferred) }, async () => {
  await using uring = makeUring({ ...DEFERRED, directDescriptors: 4 });
  const [, fd] = await uring.link((l) => {
    const file = l.direct();
    return [l.openat("/proc/self/comm", { direct: file }), l.fixedFdInstall(file), l.close(file)];
  });
  const buffer = new Uint8Array(64);
  assert.ok(await uring.read(fd, buffer) > 0);
  await uring.close(fd);
  const settled = await uring.linkSettled((l) => {
    const file = l.direct();
    return [l.openat("/nonexistent", { direct: file }), l.fixedFdInstall(file)];
  });
  assert.deepEqual(
    settled.map((step) => step.status === "rejected" && step.reason.code),
    ["ENOENT", "ECANCELED"],
  );
  const file = await uring.openat("/proc/self/comm", { direct: true });
  const before = countDescriptors(/./);
  const reason = new Reason();
  assert.equal(await failure(uring.fixedFdInstall(file, { signal: AbortSignal.abort(reason) })), reason);
  for (let i = 0; i < 3; i++) {
    await abortLate(uring, (signal) => uring.fixedFdInstall(file, { async: true, signal }));
  }
  assert.equal(countDescriptors(/./), before);
  await uring.close(file);
  await assertAllFree(uring, 2);
});
