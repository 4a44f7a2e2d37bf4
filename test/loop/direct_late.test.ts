/** What a worker thread of the kernel's looks up late never works on another file that has come into the slot. */
import assert from "node:assert/strict";
import { statSync, writeFileSync } from "node:fs";
import { IORING_OP_FTRUNCATE, O_RDWR, SHUT_RDWR } from "../../src/ffi/abi.ts";
import { DirectDescriptor, type Uring, type UringError } from "../../src/mod.ts";
import { TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { makeUring, openFile, within } from "../support/loop.ts";
import { assertAllFree, flushed, WaitingPipe } from "../support/operations.ts";
import { missingOp } from "../support/rings.ts";

checkLeaks();

const noFtruncate = missingOp(IORING_OP_FTRUNCATE);

const WAITS: Readonly<
  Record<string, (uring: Uring, direct: DirectDescriptor, plain: number) => Promise<number>>
> = {
  "splice out of it": (uring, direct, plain) => uring.splice(direct, plain, 10),
  "tee out of it": (uring, direct, plain) => uring.tee(direct, plain, 10),
};

for (const [name, wait] of Object.entries(WAITS)) {
  test(`${name}: its slot is not used again while that lasts`, async () => {
    // A kernel's thread that starts only after the disposal finds nothing in the slot: then it is to have more time.
    for (const patience of [5, 100, 1000, 5000]) if (await attempt(wait, name, patience)) return;
    assert.fail("the operation never began in time");
  });
}

/** Whether the operation had begun before its descriptor was disposed of. */
async function attempt(wait: (typeof WAITS)[string], name: string, patience: number): Promise<boolean> {
  await using uring = makeUring({ directDescriptors: 4 });
  using from = new WaitingPipe();
  using to = new WaitingPipe();
  const source = await uring.registerFile(from.reader.fd);
  let late = false;
  const waiting = wait(uring, source, to.writer.fd).catch((error: UringError) => {
    assert.equal(error.code, "EBADF");
    late = true;
    return 0;
  });
  await flushed(uring);
  await uring.timeout(patience);
  await within(source[Symbol.asyncDispose](), "the disposal");
  await using other = await uring.registerFile(to.reader.fd);
  const second = await (async () => await uring.registerFile(to.reader.fd))().catch((error: UringError) =>
    error
  );
  if (late || second instanceof DirectDescriptor) {
    assert.equal(await within(waiting, name), 0);
    return false;
  }
  assert.notEqual(other.slot, source.slot);
  assert.equal(second.code, "ENFILE");
  from.write("data");
  const count = await within(waiting, name);
  if (late) return false;
  assert.equal(count, 4);
  await using again = await uring.registerFile(to.reader.fd);
  assert.equal(again.slot, source.slot);
  return true;
}

const CHANGES: Readonly<Record<string, (uring: Uring, direct: DirectDescriptor) => Promise<unknown>>> = {
  ftruncate: (uring, direct) => uring.ftruncate(direct, 1),
  fallocate: (uring, direct) => uring.fallocate(direct, 0, 0, 100),
  "splice into it": async (uring, direct) => {
    using pipe = new WaitingPipe();
    pipe.write("0123456789abcdef");
    return await uring.splice(pipe.reader.fd, direct, 16, { offsetOut: 0 });
  },
  fsetxattr: (uring, direct) => uring.fsetxattr(direct, "user.late", "x"),
  fsync: (uring, direct) => uring.fsync(direct),
  syncFileRange: (uring, direct) => uring.syncFileRange(direct, 0, 0, 7),
  fadvise: (uring, direct) => uring.fadvise(direct, 0, 0, 4),
  shutdown: (uring, direct) => uring.shutdown(direct, SHUT_RDWR),
};

for (const [name, change] of Object.entries(CHANGES)) {
  test(
    `${name}: closed in the same turn, it changes what it was, or nothing`,
    { skip: noFtruncate },
    async () => {
      await using uring = makeUring({ directDescriptors: 4 });
      using dir = new TempDir();
      writeFileSync(dir.of("mine"), "mine: 10 b");
      writeFileSync(dir.of("other"), "other");
      using mine = openFile(dir.of("mine"), O_RDWR);
      using other = openFile(dir.of("other"), O_RDWR);
      const before = statSync(dir.of("other"));
      for (let i = 0; i < 40; i++) {
        const file = await uring.registerFile(mine.fd);
        let ended = false;
        const changing = change(uring, file).then(() => "done", (error) => error.code as string).finally(() =>
          ended = true
        );
        await file[Symbol.asyncDispose]();
        const next = await uring.registerFile(other.fd);
        // What has ended with it is told a few microtasks later.
        for (let turn = 0; turn < 10; turn++) await Promise.resolve();
        if (!ended) assert.notEqual(next.slot, file.slot);
        assert.ok(
          ["done", "EBADF", "ENOTSOCK", "ENOTSUP"].includes(await within(changing, name)),
          await changing,
        );
        await uring.close(next);
      }
      const after = statSync(dir.of("other"));
      assert.deepEqual([after.size, after.ctimeMs], [before.size, before.ctimeMs]);
      await assertAllFree(uring, 2);
    },
  );
}
