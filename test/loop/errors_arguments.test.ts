/** Wrong arguments: refused at once, before anything reaches the kernel. */
import assert from "node:assert/strict";
import { type Fd, type FlagString, type Path, Uring, UringError } from "../../src/mod.ts";
import { IORING_SETUP_R_DISABLED } from "../../src/ffi/abi.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { makeUring, SocketPair, within } from "../support/loop.ts";
import {
  type ArgumentError,
  bytes,
  failure,
  put,
  refuses,
  text,
  WaitingPipe,
} from "../support/operations.ts";

checkLeaks();

const BUFFER = new Uint8Array(16);

test("offsets", async () => {
  await using uring = makeUring();
  const wrong = [-2, -1.5, 0.5, NaN, Infinity, 2 ** 53, 2 ** 64, -2n, 2n ** 63n, 2n ** 64n, "0", null];
  for (const value of wrong) {
    const options = { offset: value as number };
    await refuses(uring, RangeError, () => uring.read(0, BUFFER, options));
    await refuses(uring, RangeError, () => uring.write(0, BUFFER, options));
    await refuses(uring, RangeError, () => uring.readv(0, [BUFFER], options));
    await refuses(uring, RangeError, () => uring.writev(0, [BUFFER], options));
  }
  for (const value of [...wrong, -1, -1n]) {
    await refuses(uring, RangeError, () => uring.ftruncate(0, value as number));
    await refuses(uring, RangeError, () => uring.fallocate(0, 0, value as number, 1));
    await refuses(uring, RangeError, () => uring.fallocate(0, 0, 0, value as number));
  }
});

test("lengths", async () => {
  await using uring = makeUring();
  for (const length of [-1, 17, 0.5, NaN, Infinity, 2 ** 32, "1", null, 1n]) {
    const options = { length: length as number };
    await refuses(uring, RangeError, () => uring.read(0, BUFFER, options));
    await refuses(uring, RangeError, () => uring.write(0, BUFFER, options));
    await refuses(uring, RangeError, () => uring.send(0, BUFFER, options));
    await refuses(uring, RangeError, () => uring.recv(0, BUFFER, options));
  }
  // A view is as long as itself, and not as its buffer.
  await refuses(uring, RangeError, () => uring.read(0, BUFFER.subarray(4, 8), { length: 5 }));
  await refuses(uring, RangeError, () => uring.read(0, new Float64Array(2), { length: 17 }));
});

/** A buffer that is detached: its memory has gone elsewhere. */
function detached(): Uint8Array {
  const buffer = new Uint8Array(8);
  structuredClone(buffer, { transfer: [buffer.buffer] });
  return buffer;
}

test("buffers: detached, resizable, and what is no view", async () => {
  await using uring = makeUring();
  const resizable = new ArrayBuffer(8, { maxByteLength: 64 });
  const wrong: [unknown, ArgumentError][] = [
    [detached(), TypeError],
    [new Uint8Array(resizable), TypeError],
    [new Uint8Array(resizable, 0, 4), TypeError],
    [new DataView(resizable), TypeError],
    ...[new ArrayBuffer(8), "text", 5, null, undefined, {}, [1, 2, 3]].map((value) =>
      [value, TypeError] as [unknown, ArgumentError]
    ),
  ];
  for (const [value, kind] of wrong) {
    const buffer = value as Uint8Array;
    await refuses(uring, kind, () => uring.read(0, buffer));
    await refuses(uring, kind, () => uring.write(0, buffer));
    await refuses(uring, kind, () => uring.send(0, buffer));
    await refuses(uring, kind, () => uring.recv(0, buffer));
    await refuses(uring, kind, () => uring.readv(0, [BUFFER, buffer]));
    await refuses(uring, kind, () => uring.writev(0, [buffer, BUFFER]));
  }
  await refuses(uring, RangeError, () => uring.read(0, detached(), { length: 4 }));
  await refuses(uring, RangeError, () => uring.readv(0, Array(1025).fill(BUFFER)));
  await refuses(uring, RangeError, () => uring.writev(0, Array(1025).fill(BUFFER)));
});

test("paths", async () => {
  await using uring = makeUring();
  const wrong = [
    "/tmp/a\0b",
    "\0",
    bytes("a\0"),
    5,
    null,
    undefined,
    {},
    new ArrayBuffer(2),
    new URL("file:///tmp"),
  ];
  for (const value of wrong) {
    const path = value as Path;
    await refuses(uring, TypeError, () => uring.openat(path));
    await refuses(uring, TypeError, () => uring.openat(path, { direct: true }));
    await refuses(uring, TypeError, () => uring.statx(path));
    await refuses(uring, TypeError, () => uring.unlinkat(path));
    await refuses(uring, TypeError, () => uring.mkdirat(path));
    await refuses(uring, TypeError, () => uring.renameat(path, "/tmp/x"));
    await refuses(uring, TypeError, () => uring.renameat("/tmp/x", path));
  }
  for (const dirfd of [1.5, "3", null, 2 ** 31, NaN]) {
    const options = { dirfd: dirfd as number };
    await refuses(uring, TypeError, () => uring.openat("x", options));
    await refuses(uring, TypeError, () => uring.statx("x", options));
    await refuses(uring, TypeError, () => uring.unlinkat("x", options));
    await refuses(uring, TypeError, () => uring.mkdirat("x", options));
    await refuses(uring, TypeError, () => uring.renameat("x", "y", options));
    await refuses(uring, TypeError, () => uring.renameat("x", "y", { newDirfd: dirfd as number }));
  }
});

test("flags, modes, masks and the like", async () => {
  await using uring = makeUring();
  for (const flags of ["", "x", "rw", "R", "toString", "__proto__", "r "]) {
    await refuses(uring, TypeError, () => uring.openat("/tmp", { flags: flags as FlagString }));
  }
  for (const value of [-1, 1.5, 2 ** 32, NaN, "1", 1n]) {
    const flags = value as number;
    await refuses(
      uring,
      typeof value === "number" ? RangeError : TypeError,
      () => uring.openat("/tmp", { flags }),
    );
    await refuses(uring, RangeError, () => uring.openat("/tmp", { mode: flags }));
    await refuses(uring, RangeError, () => uring.mkdirat("/tmp", { mode: flags }));
    await refuses(uring, RangeError, () => uring.statx("/tmp", { flags }));
    await refuses(uring, RangeError, () => uring.statx("/tmp", { mask: flags }));
    await refuses(uring, RangeError, () => uring.renameat("/tmp", "/tmp", { flags }));
    await refuses(uring, RangeError, () => uring.write(0, BUFFER, { flags }));
    await refuses(uring, RangeError, () => uring.readv(0, [BUFFER], { flags }));
    await refuses(uring, RangeError, () => uring.fallocate(0, flags, 0, 1));
    await refuses(uring, RangeError, () => uring.socket(flags, 1));
    await refuses(uring, RangeError, () => uring.socket(1, flags));
    await refuses(uring, RangeError, () => uring.socket(1, 1, flags));
    await refuses(uring, RangeError, () => uring.socket(1, 1, 0, { flags }));
    await refuses(uring, RangeError, () => uring.listen(0, flags));
    await refuses(uring, RangeError, () => uring.accept(0, { flags }));
    await refuses(uring, RangeError, () => uring.acceptFrom(0, { flags }));
    await refuses(uring, RangeError, () => uring.acceptMultishot(0, { flags }));
    await refuses(uring, RangeError, () => uring.send(0, BUFFER, { flags }));
    await refuses(uring, RangeError, () => uring.recv(0, BUFFER, { flags }));
    await refuses(uring, RangeError, () => uring.shutdown(0, flags));
  }
});

test("a failed check leaves the table of direct descriptors as it was", async () => {
  await using uring = makeUring({ directDescriptors: 2 });
  for (let i = 0; i < 5; i++) {
    await refuses(uring, TypeError, () => uring.openat("\0", { direct: true }));
    await refuses(uring, RangeError, () => uring.socket(-1, 1, 0, { direct: true }));
    await refuses(uring, TypeError, () => uring.accept("x" as unknown as Fd, { direct: true }));
  }
  await uring.close(await uring.openat("/", { direct: true }));
});

test("a buffer that is detached in flight is reported when the operation ends", async () => {
  await using uring = makeUring();
  using pair = new SocketPair();
  using pipe = new WaitingPipe();
  const [a, b, c] = [new Uint8Array(2000), new Uint8Array(8), new Uint8Array(8)];
  const pending = [
    uring.recv(pair.a.fd, a),
    uring.read(pipe.reader.fd, b, { timeout: 60_000 }),
  ];
  const failed = pending.map((promise) => failure(promise));
  await uring.nop();
  // What was transferred is kept: the kernel will write into it.
  const kept = [a, b].map((view) => structuredClone(view, { transfer: [view.buffer] }));
  put(pair.b.fd, "x");
  pipe.write("y");
  for (const error of await Promise.all(failed)) {
    assert.ok(error instanceof TypeError, String(error));
    assert.match(error.message, /detached/);
  }
  const vectored = uring.readv(pipe.reader.fd, [BUFFER, c]);
  const vectoredFailed = failure(vectored);
  await uring.nop();
  kept.push(structuredClone(c, { transfer: [c.buffer] }));
  pipe.write("z");
  assert.ok(await vectoredFailed instanceof TypeError);
  assert.equal(kept.length, 3);
  assert.equal(uring.stats.inFlight, 0);
});

test("a closed ring refuses everything, and closing it again does nothing", async () => {
  const uring = makeUring();
  const file = await uring.openat("/", { direct: true });
  await Promise.all([uring.disposeAsync(), uring.disposeAsync()]);
  await uring.disposeAsync();
  await uring[Symbol.asyncDispose]();
  assert.equal(uring.closed, true);
  const calls: (() => unknown)[] = [
    () => uring.nop(),
    () => uring.read(0, BUFFER),
    () => uring.write(0, BUFFER),
    () => uring.readv(0, [BUFFER]),
    () => uring.writev(0, [BUFFER]),
    () => uring.openat("/"),
    () => uring.close(0),
    () => uring.close(file),
    () => uring.statx("/"),
    () => uring.fallocate(0, 0, 0, 1),
    () => uring.fsync(0),
    () => uring.fdatasync(0),
    () => uring.ftruncate(0, 0),
    () => uring.unlinkat("/nonexistent"),
    () => uring.renameat("/nonexistent", "/nonexistent"),
    () => uring.mkdirat("/nonexistent/x"),
    () => uring.socket(1, 1),
    () => uring.bind(0, { family: "unix", path: "" }),
    () => uring.listen(0),
    () => uring.accept(0),
    () => uring.acceptFrom(0),
    () => uring.connect(0, { family: "unix", path: "" }),
    () => uring.send(0, BUFFER),
    () => uring.recv(0, BUFFER),
    () => uring.shutdown(0, 1),
    () => uring.poll(0, 1),
    () => uring.timeout(1),
    () => uring.cancel({ any: true }),
    () => uring.acceptMultishot(0),
    () => uring.recvMultishot(0),
    () => uring.pollMultishot(0, 1),
    () => uring.timeoutMultishot(1),
    () => uring.bufferPool(),
  ];
  for (const call of calls) await refuses(uring, TypeError, call);
  await assert.rejects(uring.link((l) => [l.nop()]), TypeError);
  await assert.rejects(uring.linkSettled((l) => [l.nop()]), TypeError);
});

test("a ring that is closing refuses new work and settles the old", async () => {
  const uring = makeUring();
  using pair = new SocketPair();
  const waiting = failure(uring.recv(pair.a.fd, new Uint8Array(1)));
  const same = failure(uring.recv(pair.a.fd, new Uint8Array(1), { timeout: 60_000 }));
  const closing = uring.disposeAsync();
  assert.throws(() => uring.nop(), TypeError);
  await within(closing, "closing");
  for (const error of [await waiting, await same]) {
    assert.ok(error instanceof UringError);
    assert.equal(error.code, "ECANCELED");
  }
});

test("how a ring is made: what cannot be is refused", () => {
  for (const entries of [0, -1, 1.5, NaN, Infinity, 2 ** 33, 32769, "8"]) {
    assert.throws(() => new Uring({ entries: entries as number }), RangeError, String(entries));
  }
  for (const flags of [-1, 1.5, 2 ** 33, 1 << 30, IORING_SETUP_R_DISABLED]) {
    assert.throws(() => new Uring({ flags }), RangeError, String(flags));
  }
});

test("text that is no well-formed UTF-16 becomes replacement characters, as in the runtimes", async () => {
  await using uring = makeUring();
  const error = await failure(uring.openat("/nonexistent/\ud800"));
  assert.equal(error.code, "ENOENT");
  assert.equal(text(bytes("\ud800")), "\ufffd");
});
