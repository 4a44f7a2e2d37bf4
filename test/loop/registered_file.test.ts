/** Ordinary descriptors in the ring's table, and direct descriptors as disposable objects. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { IORING_OP_FILES_UPDATE, O_CREAT, O_RDONLY, O_RDWR } from "../../src/ffi/abi.ts";
import { kernelHas } from "../../src/ffi/kernel.ts";
import { DirectDescriptor } from "../../src/mod.ts";
import { TempDir } from "../support/descriptors.ts";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { FLAGS, makeUring, openFile, SocketPair, within } from "../support/loop.ts";
import {
  bytes,
  countDescriptors,
  failure,
  refuses,
  rejectsWith,
  text,
  WaitingPipe,
} from "../support/operations.ts";
import { missingOp } from "../support/rings.ts";

checkLeaks();

const skip = firstReason(
  kernelHas("5.19") ? false : "needs Linux 5.19",
  missingOp(IORING_OP_FILES_UPDATE),
);

for (const kind of FLAGS) {
  test(`${kind.name}: a descriptor in the table`, { skip: kind.skip || skip }, async () => {
    await using uring = makeUring({ flags: kind.flags, entries: 8 });
    using dir = new TempDir();
    const path = dir.of("file");
    using plain = openFile(path, O_RDWR | O_CREAT);
    const file = await uring.registerFile(plain.fd);
    assert.ok(file instanceof DirectDescriptor);
    assert.equal(await uring.write(file, bytes("through the table"), { offset: 0 }), 17);
    assert.equal(readFileSync(path, "utf8"), "through the table");
    // The table's file stays when the descriptor is closed, and the other way round.
    const buffer = new Uint8Array(100);
    using second = openFile(path, O_RDONLY);
    const other = await uring.registerFile(second.fd);
    await uring.close(other);
    assert.equal(text(buffer, await uring.read(second.fd, buffer)), "through the table");
    plain.close();
    assert.equal(text(buffer, await uring.read(file, buffer, { offset: 8 })), "the table");
    await uring.close(file);
    assert.throws(() => uring.read(file, buffer), TypeError);
  });

  test(`${kind.name}: in a chain`, { skip: kind.skip || skip }, async () => {
    await using uring = makeUring({ flags: kind.flags, entries: 8 });
    using dir = new TempDir();
    writeFileSync(dir.of("file"), "content");
    using plain = openFile(dir.of("file"), O_RDONLY);
    const buffer = new Uint8Array(7);
    const [, length] = await uring.link((l) => {
      const file = l.direct();
      return [l.registerFile(plain.fd, { direct: file }), l.read(file, buffer), l.close(file)];
    });
    assert.equal(text(buffer, length), "content");
  });
}

test("await using closes it; using closes it a little later", { skip }, async () => {
  await using uring = makeUring({ directDescriptors: 4 });
  using pair = new SocketPair();
  const before = countDescriptors(/^socket:/);
  for (let i = 0; i < 20; i++) {
    await using file = await uring.registerFile(pair.a.fd);
    assert.equal(file.closed, false);
    assert.equal(await uring.send(file, bytes("x")), 1);
  }
  let late: DirectDescriptor;
  {
    using file = await uring.registerFile(pair.a.fd);
    late = file;
  }
  assert.equal(late.closed, true);
  await late[Symbol.asyncDispose]();
  // Both slots are there again.
  await using one = await uring.registerFile(pair.a.fd);
  await using two = await uring.registerFile(pair.a.fd);
  assert.throws(() => uring.registerFile(pair.a.fd), { code: "ENFILE" });
  assert.notEqual(one.slot, two.slot);
  assert.equal(countDescriptors(/^socket:/), before);
});

test("closing one in use lets what is in flight end on the same file", { skip }, async () => {
  await using uring = makeUring({ directDescriptors: 2 });
  using pipe = new WaitingPipe();
  using other = new WaitingPipe();
  other.write("wrong");
  const file = await uring.registerFile(pipe.reader.fd);
  const buffer = new Uint8Array(5);
  const reading = uring.read(file, buffer);
  const disposed = file[Symbol.asyncDispose]();
  assert.throws(() => uring.read(file, buffer), TypeError);
  assert.throws(() => uring.close(file), TypeError);
  await within(disposed, "the disposal");
  await using next = await uring.registerFile(other.reader.fd);
  assert.equal(next.slot, file.slot);
  pipe.write("right");
  assert.equal(await within(reading, "the read"), 5);
  assert.equal(text(buffer), "right");
});

test("twice, and after the ring is closed", { skip }, async () => {
  const uring = makeUring();
  using pipe = new WaitingPipe();
  const file = await uring.registerFile(pipe.reader.fd);
  const left = await uring.registerFile(pipe.reader.fd);
  const closing = uring.close(file);
  await within(Promise.all([closing, file[Symbol.asyncDispose](), file[Symbol.asyncDispose]()]), "closing");
  file[Symbol.dispose]();
  await uring.disposeAsync();
  left[Symbol.dispose]();
  await within(left[Symbol.asyncDispose](), "the disposal");
  assert.equal(left.closed, true);
});

/** The descriptor of a ring of this process. */
function ringDescriptor(): number {
  for (const name of readdirSync("/proc/self/fd")) {
    try {
      if (readlinkSync(`/proc/self/fd/${name}`) === "anon_inode:[io_uring]") return Number(name);
    } catch {
      // The directory's own descriptor.
    }
  }
  assert.fail("there is no ring");
}

test("what is no descriptor is refused", { skip }, async () => {
  await using uring = makeUring({ directDescriptors: 2 });
  using pipe = new WaitingPipe();
  for (const fd of [-1, -2, -3]) await refuses(uring, RangeError, () => uring.registerFile(fd));
  for (const fd of [1.5, NaN, 2 ** 31]) await refuses(uring, TypeError, () => uring.registerFile(fd));
  await rejectsWith(uring.registerFile(999_999), "EBADF", "files_update");
  // The kernel takes no ring into a ring.
  await rejectsWith(uring.registerFile(ringDescriptor()), "EBADF", "files_update");
  const file = await uring.registerFile(pipe.reader.fd);
  await refuses(uring, TypeError, () => uring.registerFile(file as never));
  await refuses(uring, TypeError, () => uring.registerFile(pipe.reader.fd, { direct: file }));
  await uring.close(file);
  const controller = new AbortController();
  controller.abort("reason");
  assert.equal(await failure(uring.registerFile(pipe.reader.fd, { signal: controller.signal })), "reason");
  // The only slot came back each time.
  await uring.close(await uring.registerFile(pipe.reader.fd));
});

test("what a worker thread or a chain gets to late never works on another file", { skip }, async () => {
  await using uring = makeUring({ directDescriptors: 4 });
  using dir = new TempDir();
  writeFileSync(dir.of("mine"), "mine");
  writeFileSync(dir.of("other"), "other");
  using mine = openFile(dir.of("mine"), O_RDONLY);
  using other = openFile(dir.of("other"), O_RDONLY);
  for (let i = 0; i < 200; i++) {
    const file = await uring.registerFile(mine.fd);
    const buffer = new Uint8Array(4);
    const reading = uring.read(file, buffer, { async: true, offset: 0 }).catch((error) => error.code);
    const closing = file[Symbol.asyncDispose]();
    // In the same turn, and as soon as the slot is free.
    const next = await closing.then(() => uring.registerFile(other.fd));
    const outcome = await within(reading, "the read");
    if (outcome !== "EBADF") assert.deepEqual([outcome, text(buffer)], [4, "mine"]);
    await uring.close(next);
  }
  // A step of a chain whose turn comes when its file is closed already, and the slot would be free for another.
  using pipe = new WaitingPipe();
  const file = await uring.registerFile(mine.fd);
  const buffer = new Uint8Array(5);
  const chain = uring.linkSettled((
    l,
  ) => [l.read(pipe.reader.fd, new Uint8Array(1)), l.read(file, buffer, { offset: 0 })]);
  await uring.nop();
  await file[Symbol.asyncDispose]();
  await using one = await uring.registerFile(other.fd);
  assert.notEqual(one.slot, file.slot);
  assert.throws(() => uring.registerFile(other.fd), { code: "ENFILE" });
  pipe.write("x");
  const [, read] = await within(chain, "the chain");
  assert.equal((read as PromiseRejectedResult).reason.code, "EBADF");
  assert.equal(buffer[0], 0);
  // Now it can be used.
  await using two = await uring.registerFile(other.fd);
  assert.equal(two.slot, file.slot);
});
