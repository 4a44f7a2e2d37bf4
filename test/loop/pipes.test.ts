/** Pipes, splices, tees. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import {
  IORING_OP_PIPE,
  O_CLOEXEC,
  O_NONBLOCK,
  SPLICE_F_FD_IN_FIXED,
  SPLICE_F_NONBLOCK,
} from "../../src/ffi/abi.ts";
import { DirectDescriptor, type PipeEnds } from "../../src/mod.ts";
import { assertContent, content } from "../support/content.ts";
import { fdFlags, TempDir } from "../support/descriptors.ts";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import {
  collect,
  DEFERRED,
  makeUring,
  noDeferred,
  SocketPair,
  URING_KINDS,
  within,
} from "../support/loop.ts";
import {
  abortLate,
  assertAllFree,
  bytes,
  countDescriptors,
  failure,
  failures,
  flushed,
  put,
  Reason,
  refuses,
  rejectsWith,
  text,
  WaitingPipe,
} from "../support/operations.ts";
import { missingOp, missingRing } from "../support/rings.ts";

checkLeaks();

const noPipe = missingOp(IORING_OP_PIPE);

test(
  "pipe: what goes in comes out; close-on-exec, blocking unless asked otherwise",
  { skip: noPipe },
  async () => {
    await using uring = makeUring();
    const { reader, writer } = await uring.pipe();
    assert.equal(fdFlags(reader), O_CLOEXEC);
    assert.equal(fdFlags(writer), O_CLOEXEC | 1);
    const buffer = new Uint8Array(16);
    const reading = uring.read(reader, buffer);
    await uring.write(writer, bytes("through"));
    assert.equal(text(buffer, await reading), "through");
    await uring.close(writer);
    assert.equal(await uring.read(reader, buffer), 0);
    await uring.close(reader);
    const other = await uring.pipe({ flags: O_NONBLOCK });
    assert.equal(fdFlags(other.reader) & O_NONBLOCK, O_NONBLOCK);
    await uring.close(other.reader);
    await rejectsWith(uring.write(other.writer, bytes("x")), "EPIPE", "write");
    await uring.close(other.writer);
    await rejectsWith(uring.pipe({ flags: 1 }), "EINVAL", "pipe");
    await refuses(uring, RangeError, () => uring.pipe({ flags: -1 }));
  },
);

test("pipe: of direct descriptors, side by side in the table", { skip: noPipe }, async () => {
  await using uring = makeUring({ directDescriptors: 8 });
  const before = countDescriptors(/^pipe:/);
  const pipes = [await uring.pipe({ direct: true }), await uring.pipe({ direct: true, flags: O_CLOEXEC })];
  assert.deepEqual(pipes.map(({ reader, writer }) => [reader.slot, writer.slot]), [[6, 7], [4, 5]]);
  assert.equal(countDescriptors(/^pipe:/), before);
  await rejectsWith(direct(uring), "ENFILE", "direct descriptor");
  const [{ reader, writer }] = pipes as [PipeEnds<DirectDescriptor>];
  assert.ok(reader instanceof DirectDescriptor);
  const buffer = new Uint8Array(16);
  const reading = uring.read(reader, buffer);
  assert.equal(await uring.write(writer, bytes("hidden")), 6);
  assert.equal(text(buffer, await reading), "hidden");
  for (const { reader, writer } of pipes) {
    await uring.close(writer);
    assert.equal(await uring.read(reader, buffer), 0);
    await uring.close(reader);
  }
  // Slots that were given back in any order make pairs again.
  const again = await uring.pipe({ direct: true });
  assert.equal(again.writer.slot, again.reader.slot + 1);
  await uring.close(again.reader);
  await uring.close(again.writer);
  await assertAllFree(uring, 4);
});

/** As a promise that rejects: what is wrong with the table is thrown at once. */
async function direct(uring: ReturnType<typeof makeUring>): Promise<unknown> {
  return await uring.pipe({ direct: true });
}

test("pipe: no two neighbours are free", { skip: noPipe }, async () => {
  await using uring = makeUring({ directDescriptors: 8 });
  const files = await Promise.all(
    Array.from({ length: 4 }, () => uring.openat("/proc/self/comm", { direct: true })),
  );
  files.sort((a, b) => a.slot - b.slot);
  for (const i of [0, 2]) await uring.close(files[i]!);
  const error = await failure(direct(uring));
  assert.match(error.message, /ENFILE.*no two adjacent/);
  await uring.close(files[1]!);
  const { reader, writer } = await uring.pipe({ direct: true });
  assert.equal(writer.slot, reader.slot + 1);
  for (const fd of [reader, writer, files[3]!]) await uring.close(fd);
  await assertAllFree(uring, 4);
});

test(
  "pipe: what arrives after its abort is closed, of both kinds",
  { skip: firstReason(noPipe, noDeferred) },
  async () => {
    await using uring = makeUring({ ...DEFERRED, directDescriptors: 4 });
    await uring.timeout(1);
    const before = countDescriptors(/./);
    for (let i = 0; i < 3; i++) {
      await abortLate(uring, (signal) => uring.pipe({ async: true, signal }));
      await abortLate(uring, (signal) => uring.pipe({ direct: true, async: true, signal }));
      await uring.nop();
    }
    assert.equal(countDescriptors(/./), before);
    await assertAllFree(uring, 2);
  },
);

test("splice: between files, pipes and sockets, with offsets and without", async () => {
  await using uring = makeUring();
  using dir = new TempDir();
  using pipe = new WaitingPipe();
  using pair = new SocketPair();
  writeFileSync(dir.of("in"), "0123456789");
  const input = await uring.openat(dir.of("in"));
  const output = await uring.openat(dir.of("out"), { flags: "w+" });
  assert.equal(await uring.splice(input, pipe.writer.fd, 4, { offsetIn: 2 }), 4);
  assert.equal(await uring.splice(input, pipe.writer.fd, 3), 3, "the file's own position has not moved");
  assert.equal(await uring.splice(pipe.reader.fd, output, 100, { offsetOut: 1n }), 7);
  assert.equal(readFileSync(dir.of("out"), "latin1"), "\x002345012");
  assert.equal(await uring.splice(input, pipe.writer.fd, 100, { offsetIn: 10 }), 0, "the end of the file");
  assert.equal(await uring.splice(input, pipe.writer.fd, 100, { offsetIn: 0 }), 10);
  assert.equal(await uring.splice(pipe.reader.fd, pair.a.fd, 10), 10);
  const buffer = new Uint8Array(16);
  assert.equal(text(buffer, await uring.recv(pair.b.fd, buffer)), "0123456789");
  put(pair.b.fd, "back");
  assert.equal(await uring.splice(pair.a.fd, pipe.writer.fd, 16), 4);
  assert.equal(text(buffer, await uring.read(pipe.reader.fd, buffer)), "back");
  await uring.close(input);
  await uring.close(output);
});

test("tee: copies and consumes nothing", async () => {
  await using uring = makeUring();
  using one = new WaitingPipe();
  using two = new WaitingPipe();
  one.write("both ways");
  assert.equal(await uring.tee(one.reader.fd, two.writer.fd, 4), 4);
  assert.equal(await uring.tee(one.reader.fd, two.writer.fd, 100), 9);
  const buffer = new Uint8Array(32);
  assert.equal(text(buffer, await uring.read(two.reader.fd, buffer)), "bothboth ways");
  assert.equal(text(buffer, await uring.read(one.reader.fd, buffer)), "both ways");
});

test("splice and tee: direct descriptors on either side", { skip: noPipe }, async () => {
  await using uring = makeUring();
  using dir = new TempDir();
  using plain = new WaitingPipe();
  writeFileSync(dir.of("file"), "direct");
  const file = await uring.openat(dir.of("file"), { direct: true });
  const { reader, writer } = await uring.pipe({ direct: true });
  const buffer = new Uint8Array(16);
  // The bit that says so is the library's to set.
  for (const flags of [0, SPLICE_F_FD_IN_FIXED]) {
    assert.equal(await uring.splice(file, writer, 6, { offsetIn: 0, flags }), 6);
    assert.equal(await uring.tee(reader, plain.writer.fd, 6, { flags }), 6);
    assert.equal(await uring.splice(plain.reader.fd, writer, 6, { flags }), 6);
    assert.equal(text(buffer, await uring.read(reader, buffer)), "directdirect");
  }
  for (const fd of [file, reader, writer]) await uring.close(fd);
  await refuses(uring, TypeError, () => uring.splice(file, writer, 1));
  await refuses(uring, TypeError, () => uring.tee(reader, plain.writer.fd, 1));
});

test("splice and tee: what goes wrong is told as the system call tells it", async () => {
  await using uring = makeUring();
  using dir = new TempDir();
  using pipe = new WaitingPipe();
  using other = new WaitingPipe();
  const file = await uring.openat(dir.of("file"), { flags: "w+" });
  const [r, w] = [pipe.reader.fd, pipe.writer.fd];
  await rejectsWith(uring.splice(file, file, 1), "EINVAL", "splice");
  await rejectsWith(uring.splice(file, w, 1, { offsetOut: 0 }), "ESPIPE", "splice");
  await rejectsWith(uring.splice(r, file, 1, { offsetIn: 0 }), "ESPIPE", "splice");
  await rejectsWith(uring.splice(w, file, 1), "EBADF", "splice");
  await rejectsWith(uring.splice(1_000_000, w, 1), "EBADF", "splice");
  await rejectsWith(uring.splice(file, -1, 1), "EBADF", "splice");
  await rejectsWith(uring.splice(r, w, 1), "EINVAL", "splice");
  await rejectsWith(uring.splice(file, w, 1, { flags: 0x100 }), "EINVAL", "splice");
  await rejectsWith(uring.splice(r, file, 1, { flags: SPLICE_F_NONBLOCK }), "EAGAIN", "splice");
  await rejectsWith(uring.tee(file, w, 1), "EINVAL", "tee");
  await rejectsWith(uring.tee(r, other.writer.fd, 1, { flags: SPLICE_F_NONBLOCK }), "EAGAIN", "tee");
  await rejectsWith(uring.tee(-1, w, 1), "EBADF", "tee");
  for (const length of [-1, 0.5, 2 ** 32, NaN, "1"] as number[]) {
    await refuses(uring, RangeError, () => uring.splice(r, w, length));
    await refuses(uring, RangeError, () => uring.tee(r, w, length));
    await refuses(uring, RangeError, () => uring.splice(r, w, 1, { flags: length }));
    await refuses(uring, RangeError, () => uring.tee(r, w, 1, { flags: length }));
  }
  for (const offset of [-2, 0.5, 2 ** 53, 2n ** 63n]) {
    await refuses(uring, RangeError, () => uring.splice(r, w, 1, { offsetIn: offset }));
    await refuses(uring, RangeError, () => uring.splice(r, w, 1, { offsetOut: offset }));
  }
  await uring.close(file);
});

test("splice and tee: waiting for data ends by a signal or a time limit, memory collected meanwhile", async () => {
  await using uring = makeUring();
  using one = new WaitingPipe();
  using two = new WaitingPipe();
  const [r, w] = [one.reader.fd, two.writer.fd];
  const controller = new AbortController();
  const { signal } = controller;
  const waiting = failures([uring.splice(r, w, 1, { signal }), uring.tee(r, w, 1, { signal })]);
  await flushed(uring);
  await uring.timeout(5);
  collect();
  const reason = new Reason();
  controller.abort(reason);
  assert.deepEqual(await within(waiting, "aborted"), [reason, reason]);
  const limited = [uring.splice(r, w, 1, { timeout: 5 }), uring.tee(r, w, 1, { timeout: 5 })];
  assert.deepEqual((await failures(limited)).map(({ code }) => code), ["ETIMEDOUT", "ETIMEDOUT"]);
  const data = uring.splice(r, w, 100, { timeout: 60_000 });
  await uring.timeout(1);
  one.write("here");
  assert.equal(await data, 4);
});

test(
  "in a chain: a file sent over a socket without a descriptor of it or of the pipe",
  { skip: noPipe },
  async () => {
    await using uring = makeUring({ directDescriptors: 16 });
    using dir = new TempDir();
    using pair = new SocketPair();
    const data = content(10_000);
    writeFileSync(dir.of("file"), data);
    let ends: PipeEnds<DirectDescriptor> | undefined;
    const results = await uring.link((l) => {
      const file = l.direct();
      ends = l.directPair();
      return [
        l.openat(dir.of("file"), { direct: file }),
        l.pipe({ direct: ends }),
        l.splice(file, ends.writer, data.length),
        l.splice(ends.reader, pair.a.fd, data.length),
        l.close(file),
        l.close(ends.reader),
        l.close(ends.writer),
      ];
    });
    assert.equal(results[1], ends);
    assert.deepEqual([results[2], results[3]], [10_000, 10_000]);
    const got = new Uint8Array(10_000);
    assert.equal(await uring.recv(pair.b.fd, got, { flags: 0x100 }), 10_000);
    assertContent(got, got.length, 0);
    // A short one ends the chain, and what was reserved is given back whether it was opened or not.
    const settled = await uring.linkSettled((l) => {
      const file = l.direct();
      const pipe = l.directPair();
      return [
        l.openat(dir.of("file"), { direct: file }),
        l.pipe({ direct: pipe }),
        l.splice(file, pipe.writer, 2 * data.length),
        l.nop(),
        l.close(file),
        l.close(pipe.reader),
        l.close(pipe.writer),
      ];
    });
    assert.deepEqual(settled.map(({ status }) => status), [
      "fulfilled",
      "fulfilled",
      "fulfilled",
      ...Array(4).fill("rejected"),
    ]);
    const never = await uring.linkSettled((l) => [l.read(-1, got), l.pipe({ direct: l.directPair() })]);
    assert.deepEqual(never.map(({ status }) => status), ["rejected", "rejected"]);
    await uring.nop();
    await assertAllFree(uring, 8);
  },
);

test("in a chain: what is no pair out of it is refused", { skip: noPipe }, async () => {
  await using uring = makeUring({ directDescriptors: 16 });
  await using other = makeUring();
  await assert.rejects(
    uring.link((l) => {
      const [reader, , writer] = [l.direct(), l.direct(), l.direct()];
      return [l.pipe({ direct: { reader: reader!, writer: writer! } })];
    }),
    TypeError,
  );
  const foreign = await other.pipe({ direct: true });
  await refuses(uring, TypeError, () => uring.pipe({ direct: foreign }));
  await refuses(other, TypeError, () => other.pipe({ direct: foreign }));
  await other.close(foreign.reader);
  await other.close(foreign.writer);
  await assertAllFree(uring, 8);
});

for (const [name, options] of Object.entries(URING_KINDS)) {
  const noRing = options.flags === undefined ? false : missingRing({ flags: options.flags });
  const skip = firstReason(noRing, noPipe);
  test(`${name}: a file through pipes of both kinds, piece by piece`, { skip }, async () => {
    await using uring = makeUring(options);
    using dir = new TempDir();
    const data = content(200_000);
    writeFileSync(dir.of("in"), data);
    const input = await uring.openat(dir.of("in"));
    const output = await uring.openat(dir.of("out"), { flags: "w" });
    const pipe = await uring.pipe({ direct: true });
    for (let at = 0; at < data.length;) {
      const [length] = await Promise.all([
        uring.splice(input, pipe.writer, 30_000),
        uring.splice(pipe.reader, output, 30_000),
      ]);
      at += length;
    }
    await uring.close(pipe.writer);
    while (await uring.splice(pipe.reader, output, 30_000) > 0);
    assert.deepEqual(new Uint8Array(readFileSync(dir.of("out"))), data);
    for (const fd of [input, output, pipe.reader]) await uring.close(fd);
    assert.equal(uring.stats.inFlight, 0);
  });
}
