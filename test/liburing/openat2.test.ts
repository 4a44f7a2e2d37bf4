/** Opening with a `struct open_how`: what liburing's program of this name checks. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { open_how } from "../../src/ffi/structs.ts";
import {
  AT_FDCWD,
  IORING_OP_OPENAT2,
  IOSQE_FIXED_FILE,
  IOSQE_IO_LINK,
  O_RDWR,
  O_WRONLY,
  type Ring,
} from "../../src/ring/mod.ts";
import { Fd, Pipe, TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import {
  assertEntry,
  block,
  blockOf,
  entry,
  forEachKind,
  makeRing,
  once,
  path,
  reapResults,
} from "../support/rings.ts";

checkLeaks();

const ENXIO = -6;
const EFAULT = -14;
const EINVAL = -22;

/** An address that nothing is mapped at. */
const NOWHERE = 0x1234;

/** The address of a `struct open_how`. */
function how(flags: number, mode = 0, resolve = 0): number {
  const { address, view } = block(open_how.size);
  view.setBigUint64(open_how.flags, BigInt(flags), true);
  view.setBigUint64(open_how.mode, BigInt(mode), true);
  view.setBigUint64(open_how.resolve, BigInt(resolve), true);
  return address;
}

function openDirect(ring: Ring, name: string, slot: number): number {
  const address = path(name);
  return once(ring, (sqe) => sqe.prepOpenat2Direct(-1, address, how(O_RDWR), slot)).res;
}

forEachKind(({ name, options, skip }) => {
  test(`liburing openat2: ${name}: absolute and relative names, bad addresses`, { skip }, () => {
    using dir = new TempDir();
    using ring = makeRing(8, options);
    writeFileSync(dir.of("file"), new Uint8Array(4096));
    const absolute = path(dir.of("file"));
    const rw = how(O_RDWR);
    const sqe = entry(ring, 1, (sqe) => sqe.prepOpenat2(-1, absolute, rw));
    assertEntry(sqe, {
      opcode: IORING_OP_OPENAT2,
      fd: -1,
      addr: BigInt(absolute),
      len: 24,
      off: BigInt(rw),
    });
    using file = new Fd(reapResults(ring, 1).get(1)!);
    assert.ok(file.fd >= 0, `${file.fd}`);
    using directory = Fd.open(dir.path, 0);
    const relative = path("file");
    using again = new Fd(once(ring, (sqe) => sqe.prepOpenat2(directory.fd, relative, rw)).res);
    assert.ok(again.fd >= 0, `${again.fd}`);
    assert.equal(once(ring, (sqe) => sqe.prepOpenat2(AT_FDCWD, NOWHERE, rw)).res, EFAULT);
    assert.equal(once(ring, (sqe) => sqe.prepOpenat2(AT_FDCWD, absolute, NOWHERE)).res, EFAULT);
    const unknown = how(O_WRONLY, 0, 0x1000);
    assert.equal(once(ring, (sqe) => sqe.prepOpenat2(AT_FDCWD, absolute, unknown)).res, EINVAL);
  });

  test(`liburing openat2: ${name}: into a slot, and used from there`, { skip }, () => {
    using dir = new TempDir();
    using ring = makeRing(8, options);
    writeFileSync(dir.of("file"), new Uint8Array(16));
    assert.equal(openDirect(ring, dir.of("file"), 0), ENXIO, "there is no table");
    ring.registerFiles([-1]);
    assert.equal(openDirect(ring, dir.of("file"), 0), 0);
    const [pattern, buffer] = [blockOf(new Uint8Array([0xac])), block(1)];
    entry(ring, 1, (sqe) => {
      sqe.prepWrite(0, pattern.address, 1, 0);
      sqe.flags = IOSQE_FIXED_FILE | IOSQE_IO_LINK;
    });
    entry(ring, 2, (sqe) => {
      sqe.prepRead(0, buffer.address, 1, 0);
      sqe.flags = IOSQE_FIXED_FILE;
    });
    assert.deepEqual([...reapResults(ring, 2)].sort(), [[1, 1], [2, 1]]);
    assert.equal(buffer.bytes[0], 0xac);
    for (const slot of [1, 1 << 16, 1 << 24]) {
      assert.equal(openDirect(ring, dir.of("file"), slot), EINVAL, `slot ${slot}`);
    }
  });

  test(`liburing openat2: ${name}: into a slot that is taken`, { skip }, () => {
    using dir = new TempDir();
    using ring = makeRing(8, options);
    using pipe = new Pipe();
    writeFileSync(dir.of("file"), new Uint8Array(16));
    ring.registerFiles([pipe.reader.fd, pipe.writer.fd]);
    assert.equal(openDirect(ring, dir.of("file"), 1), 0);
    const byte = blockOf(new Uint8Array([0xfa]));
    const written = once(ring, (sqe) => {
      sqe.prepWrite(1, byte.address, 1, 0);
      sqe.flags = IOSQE_FIXED_FILE;
    });
    assert.equal(written.res, 1);
    assert.equal(pipe.read(), "", "nothing has come through the pipe");
    assert.equal(readFileSync(dir.of("file"))[0], 0xfa);
  });
});
