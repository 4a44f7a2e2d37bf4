/** Registered files and buffers, worker limits, the probe. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import {
  IORING_FILE_INDEX_ALLOC,
  IORING_OP_READ_FIXED,
  IORING_OP_WRITE_FIXED,
  IORING_REGISTER_FILES_SKIP,
  IOSQE_FIXED_FILE,
  Mapping,
  O_CREAT,
  O_RDONLY,
  O_RDWR,
  UringError,
} from "../../src/ring/mod.ts";
import { collect } from "../support/collect.ts";
import { Fd, Pipe, TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import {
  assertEntry,
  block,
  entry,
  forEachKind,
  makeRing,
  once,
  path,
  reap,
  text,
} from "../support/rings.ts";

checkLeaks();

const EBADF = -9;
const EFAULT = -14;
const ENFILE = -23;

forEachKind(({ name, options, skip }) => {
  test(`${name}: registered files are named by index`, { skip }, () => {
    using dir = new TempDir();
    writeFileSync(dir.of("a"), "aaaa");
    writeFileSync(dir.of("b"), "bbbb");
    using a = Fd.open(dir.of("a"), O_RDONLY);
    using b = Fd.open(dir.of("b"), O_RDONLY);
    using ring = makeRing(8, options);
    const buffer = block(4);
    const read = (slot: number): number =>
      once(ring, (sqe) => {
        sqe.prepRead(slot, buffer.address, 4, 0);
        sqe.flags = IOSQE_FIXED_FILE;
      }).res;
    ring.registerFiles([a.fd, -1, b.fd]);
    assert.equal(read(0), 4);
    assert.equal(text(buffer), "aaaa");
    assert.equal(read(1), EBADF);
    assert.equal(read(2), 4);
    assert.equal(text(buffer), "bbbb");
    assert.equal(read(3), EBADF);
    // The ring holds the file: its descriptor may go.
    b.close();
    assert.equal(read(2), 4);
    assert.throws(() => ring.registerFiles([a.fd]), { code: "EBUSY", syscall: "io_uring_register" });
    ring.unregisterFiles();
    assert.equal(read(0), EBADF);
    assert.throws(() => ring.unregisterFiles(), { code: "ENXIO" });
  });

  test(`${name}: slots are filled, left as they are, and emptied`, { skip }, () => {
    using dir = new TempDir();
    writeFileSync(dir.of("a"), "aaaa");
    using a = Fd.open(dir.of("a"), O_RDONLY);
    using ring = makeRing(8, options);
    const buffer = block(4);
    const read = (slot: number): number =>
      once(ring, (sqe) => {
        sqe.prepRead(slot, buffer.address, 4, 0);
        sqe.flags = IOSQE_FIXED_FILE;
      }).res;
    ring.registerFilesSparse(8);
    assert.equal(read(0), EBADF);
    assert.equal(ring.registerFilesUpdate(2, [a.fd, a.fd]), 2);
    assert.deepEqual([1, 2, 3, 4].map(read), [EBADF, 4, 4, EBADF]);
    assert.equal(ring.registerFilesUpdate(2, [IORING_REGISTER_FILES_SKIP, -1]), 2);
    assert.deepEqual([2, 3].map(read), [4, EBADF]);
    assert.throws(() => ring.registerFilesUpdate(7, [a.fd, a.fd]), { code: "EINVAL" });
    // The same as an operation.
    const list = block(8);
    list.view.setInt32(0, a.fd, true);
    list.view.setInt32(4, -1, true);
    assert.equal(once(ring, (sqe) => sqe.prepFilesUpdate(list.address, 2, 5)).res, 2);
    assert.deepEqual([5, 6].map(read), [4, EBADF]);
  });

  test(`${name}: the kernel picks slots out of a range`, { skip }, () => {
    using ring = makeRing(8, options);
    const name = path("/dev/null");
    ring.registerFilesSparse(8);
    ring.registerFileAllocRange(3, 2);
    const open = (): number =>
      once(ring, (sqe) => sqe.prepOpenDirect(name, O_RDONLY, 0, IORING_FILE_INDEX_ALLOC)).res;
    assert.deepEqual([open(), open(), open()], [3, 4, ENFILE]);
    assert.equal(once(ring, (sqe) => sqe.prepCloseDirect(3)).res, 0);
    assert.equal(open(), 3);
    assert.throws(() => ring.registerFileAllocRange(7, 5), { code: "EINVAL" });
  });

  test(`${name}: registered buffers are read into and written from`, { skip }, () => {
    using dir = new TempDir();
    using file = Fd.open(dir.of("file"), O_RDWR | O_CREAT);
    using ring = makeRing(8, options);
    using memory = Mapping.anonymous(8192);
    const bytes = new Uint8Array(memory.buffer);
    const small = block(16);
    ring.registerBuffers([{ address: memory.address, length: 8192 }, small.bytes]);
    assert.equal(ring.registeredBuffers, 2);
    bytes.set(new TextEncoder().encode("registered"), 4090);
    const { address } = memory;
    const write = entry(ring, 1, (sqe) => sqe.prepWriteFixed(file.fd, address + 4090, 10, 0, 0));
    assertEntry(write, {
      opcode: IORING_OP_WRITE_FIXED,
      fd: file.fd,
      addr: BigInt(address + 4090),
      len: 10,
    });
    assert.equal(reap(ring, 1)[0]!.res, 10);
    assert.equal(readFileSync(dir.of("file"), "utf8"), "registered");
    const read = entry(ring, 2, (sqe) => sqe.prepReadFixed(file.fd, small.address + 4, 8, 2, 1));
    assertEntry(read, {
      opcode: IORING_OP_READ_FIXED,
      fd: file.fd,
      addr: BigInt(small.address + 4),
      len: 8,
      off: 2n,
      bufIndex: 1,
    });
    assert.equal(reap(ring, 1)[0]!.res, 8);
    assert.equal(text(small), "\0\0\0\0gistered\0\0\0\0");
    // Outside the buffer, across its end, no such buffer.
    const at = (addr: number, length: number, index: number): number =>
      once(ring, (sqe) => sqe.prepReadFixed(file.fd, addr, length, 0, index)).res;
    assert.equal(at(small.address - 1, 4, 1), EFAULT);
    assert.equal(at(small.address + 14, 4, 1), EFAULT);
    assert.equal(at(address, 4, 1), EFAULT);
    assert.equal(at(address, 4, 2), EFAULT);
    assert.throws(() => ring.registerBuffers([small.bytes]), { code: "EBUSY" });
    ring.unregisterBuffers();
    assert.equal(ring.registeredBuffers, 0);
    assert.equal(at(small.address, 4, 1), EFAULT);
    assert.throws(() => ring.unregisterBuffers(), { code: "ENXIO" });
  });
});

test("registered views stay alive", async () => {
  using pipe = new Pipe();
  using ring = makeRing(4);
  const place = ((): { address: number; ref: WeakRef<Uint8Array> } => {
    const view = new Uint8Array(new ArrayBuffer(5000));
    ring.registerBuffers([view]);
    return { address: 0, ref: new WeakRef(view) };
  })();
  await collect();
  assert.ok(place.ref.deref() !== undefined);
  ring.unregisterBuffers();
  pipe.write("x");
});

test("what cannot be registered is refused", () => {
  using pipe = new Pipe();
  using ring = makeRing(4);
  assert.throws(() => ring.registerBuffers([]), UringError);
  assert.throws(() => ring.registerBuffers([{ address: 4096, length: 4096 }]), { code: "EFAULT" });
  assert.throws(() => ring.registerBuffers([{ address: 0, length: 4096 }]), { code: "EFAULT" });
  assert.throws(() => ring.registerBuffers(Array(20_000).fill({ address: 4096, length: 1 })), {
    code: "EINVAL",
  });
  assert.equal(ring.registeredBuffers, 0);
  const detached = new Uint8Array(8);
  detached.buffer.transfer();
  assert.throws(() => ring.registerBuffers([detached]), TypeError);
  assert.throws(() => ring.registerFiles([]), UringError);
  assert.throws(() => ring.registerFiles([1_000_000]), { code: "EBADF" });
  assert.throws(() => ring.registerFilesSparse(0), { code: "EINVAL" });
  assert.throws(() => ring.registerFilesUpdate(0, [pipe.reader.fd]), { code: "ENXIO" });
  using other = makeRing(4);
  assert.throws(() => ring.registerFiles([other.fd]), { code: "EBADF" }, "a ring holds no ring");
});

test("worker limits come back as they were", () => {
  using ring = makeRing(4);
  const [bounded, unbounded] = ring.registerIowqMaxWorkers(0, 0);
  assert.ok(bounded > 0 && unbounded > 0);
  assert.deepEqual(ring.registerIowqMaxWorkers(2, 3), [bounded, unbounded]);
  assert.deepEqual(ring.registerIowqMaxWorkers(0, 0), [2, 3]);
  ring.registerIowqMaxWorkers(bounded, unbounded);
});

test("the probe lists operations", () => {
  using ring = makeRing(1);
  const probe = ring.getProbe();
  assert.ok(probe.lastOp >= IORING_OP_WRITE_FIXED);
  assert.equal(probe.opcodeSupported(IORING_OP_READ_FIXED), true);
  assert.equal(probe.opcodeSupported(probe.lastOp), true);
  assert.equal(probe.opcodeSupported(probe.lastOp + 1), false);
  for (const op of [-1, 255, 256, NaN]) assert.equal(probe.opcodeSupported(op), false);
});
