/** Operations that act with other credentials than the thread's. */
import assert from "node:assert/strict";
import { chmodSync, statSync, writeFileSync } from "node:fs";
import process from "node:process";
import { IORING_FEAT_CUR_PERSONALITY, IORING_UNREGISTER_PERSONALITY } from "../../src/ffi/abi.ts";
import { adapter, system } from "../../src/ffi/system.ts";
import type { Personality, Uring } from "../../src/mod.ts";
import { TempDir } from "../support/descriptors.ts";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { collect, FLAGS, makeUring, sleep, within } from "../support/loop.ts";
import { closeAll, failures, refuses, rejectsWith } from "../support/operations.ts";
import { makeRing } from "../support/rings.ts";

checkLeaks();

const NOBODY = 65534;

function missing(): string | false {
  const ring = makeRing(1);
  const there = (ring.features & IORING_FEAT_CUR_PERSONALITY) !== 0;
  ring.close();
  return there ? false : "needs Linux 5.6";
}

const skip = missing();
const notRoot = process.getuid?.() === 0 ? false : "only root can change its credentials";

/** Registers what the thread is allowed when its file system user is nobody. */
function registerNobody(uring: Uring): Personality {
  const { setfsuid } = adapter.open(system().libc, { setfsuid: { result: "i32", args: ["u32"] } });
  setfsuid(NOBODY);
  try {
    return uring.registerPersonality();
  } finally {
    setfsuid(0);
  }
}

for (const kind of FLAGS) {
  test(
    `${kind.name}: opening as somebody else`,
    { skip: firstReason(kind.skip, skip, notRoot) },
    async () => {
      await using uring = makeUring({ flags: kind.flags });
      using dir = new TempDir();
      const secret = dir.of("secret");
      writeFileSync(secret, "root's");
      chmodSync(secret, 0o600);
      chmodSync(dir.path, 0o777);
      await using personality = registerNobody(uring);
      await uring.close(await uring.openat(secret));
      await rejectsWith(uring.openat(secret, { personality }), "EACCES", "openat");
      await rejectsWith(uring.openat(secret, { personality, async: true }), "EACCES", "openat");
      const fd = await uring.openat(dir.of("theirs"), { flags: "w", personality });
      await uring.close(fd);
      assert.equal(statSync(dir.of("theirs")).uid, NOBODY);
      const results = await uring.linkSettled((
        l,
      ) => [l.nop({ personality }), l.openat(secret, { personality })]);
      assert.deepEqual(results.map(({ status }) => status), ["fulfilled", "rejected"]);
      // The thread itself is what it was.
      await uring.close(await uring.openat(secret));
    },
  );
}

test("disposing of it in the turn in which it was used", { skip: firstReason(skip, notRoot) }, async () => {
  await using uring = makeUring({ entries: 4 });
  using dir = new TempDir();
  writeFileSync(dir.of("secret"), "");
  chmodSync(dir.of("secret"), 0o600);
  chmodSync(dir.path, 0o755);
  const personality = registerNobody(uring);
  const opening = failures(Array.from({ length: 20 }, () => uring.openat(dir.of("secret"), { personality })));
  const disposed = personality[Symbol.asyncDispose]();
  assert.equal(personality.disposed, true);
  assert.throws(() => uring.nop({ personality }), TypeError);
  assert.ok((await opening).every(({ code }) => code === "EACCES"));
  await within(disposed, "the disposal");
  // Its number is unknown to the kernel now.
  const { ring } = uring;
  assert.throws(() => ring.register(IORING_UNREGISTER_PERSONALITY, null, personality.id), { code: "EINVAL" });
});

test("an ordinary program can register what it is", { skip }, async () => {
  await using uring = makeUring();
  await using other = makeUring();
  await using personality = uring.registerPersonality();
  assert.ok(personality.id > 0);
  await uring.nop({ personality });
  const fd = await uring.openat("/dev/null", { personality });
  closeAll(fd);
  await refuses(other, TypeError, () => other.nop({ personality }));
  await refuses(uring, TypeError, () => uring.nop({ personality: 1 as never }));
  await refuses(uring, TypeError, () => uring.nop({ personality: {} as never }));
  const twice = uring.registerPersonality();
  twice[Symbol.dispose]();
  twice[Symbol.dispose]();
  await within(twice[Symbol.asyncDispose](), "the disposal");
});

test("one that is dropped is taken back", { skip }, async () => {
  await using uring = makeUring();
  const ids = Array.from({ length: 50 }, () => uring.registerPersonality().id);
  for (let i = 0; i < 10; i++) {
    collect();
    await sleep(2);
  }
  let left = 0;
  for (const id of ids) {
    try {
      uring.ring.register(IORING_UNREGISTER_PERSONALITY, null, id);
      left++;
    } catch (error) {
      assert.equal((error as { code?: string }).code, "EINVAL");
    }
  }
  // A conservative collector keeps a few.
  assert.ok(left < 25, `${left} of 50 were still registered`);
});

test("closing the ring first", { skip }, async () => {
  const uring = makeUring();
  const personality = uring.registerPersonality();
  await uring.nop({ personality });
  await uring.disposeAsync();
  personality[Symbol.dispose]();
  await within(personality[Symbol.asyncDispose](), "the disposal");
  assert.throws(() => uring.nop({ personality }), TypeError);
  assert.throws(() => uring.registerPersonality(), TypeError);
});
