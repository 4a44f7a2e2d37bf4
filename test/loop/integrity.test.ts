/** Reads and writes with protection information. */
import assert from "node:assert/strict";
import {
  IO_INTEGRITY_CHK_APPTAG,
  IO_INTEGRITY_CHK_REFTAG,
  IORING_FEAT_RW_ATTR,
  O_CREAT,
  O_RDWR,
} from "../../src/ffi/abi.ts";
import { O_DIRECT } from "../../src/ffi/arch.ts";
import { Mapping } from "../../src/ffi/memory.ts";
import { assertContent, content } from "../support/content.ts";
import { TempDir } from "../support/descriptors.ts";
import { labDisk, missingLabDisk } from "../support/devices.ts";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { FLAGS, makeUring, openFile } from "../support/loop.ts";
import { failure, refuses } from "../support/operations.ts";
import { makeRing } from "../support/rings.ts";

checkLeaks();

function lacking(): string | false {
  const ring = makeRing(1);
  const there = (ring.features & IORING_FEAT_RW_ATTR) !== 0;
  ring.close();
  return there ? false : "needs Linux 6.14";
}

const skip = lacking();
const noDevice = firstReason(skip, missingLabDisk("integrity"));

const BLOCK = 4096;
const TAG = 0x1234;
/** A tuple: checksum, application tag, reference tag, each in the network's order. */
const TUPLE = 8;

function tuples(first: number, count: number, tag: number): Uint8Array {
  const metadata = new Uint8Array(new ArrayBuffer(count * TUPLE));
  const view = new DataView(metadata.buffer);
  for (let i = 0; i < count; i++) {
    view.setUint16(i * TUPLE + 2, tag);
    view.setUint32(i * TUPLE + 4, first + i);
  }
  return metadata;
}

function tagsOf(metadata: Uint8Array): number[] {
  const view = new DataView(metadata.buffer, metadata.byteOffset);
  return Array.from({ length: metadata.length / TUPLE }, (_, i) => view.getUint16(i * TUPLE + 2));
}

for (const kind of FLAGS) {
  test(
    `${kind.name}: tags are written, read and checked`,
    { skip: firstReason(kind.skip, noDevice) },
    async () => {
      await using uring = makeUring({ flags: kind.flags });
      using disk = openFile(`/dev/${labDisk("integrity")}`, O_RDWR | O_DIRECT);
      using memory = Mapping.anonymous(2 * BLOCK);
      const buffer = new Uint8Array(memory.buffer);
      buffer.set(content(2 * BLOCK));
      const at = { offset: 8 * BLOCK };
      const flags = IO_INTEGRITY_CHK_APPTAG | IO_INTEGRITY_CHK_REFTAG;
      const written = { metadata: tuples(8, 2, TAG), flags, appTag: TAG, seed: 8 };
      assert.equal(await uring.writeIntegrity(disk.fd, buffer, written, at), 2 * BLOCK);
      buffer.fill(0);
      const metadata = new Uint8Array(new ArrayBuffer(2 * TUPLE));
      const read = { metadata, flags, appTag: TAG, seed: 8n };
      assert.equal(await uring.readIntegrity(disk.fd, buffer, read, at), 2 * BLOCK);
      assertContent(buffer, 2 * BLOCK, 0);
      assert.deepEqual(tagsOf(metadata), [TAG, TAG]);
      // Another tag than was written is found out.
      const wrong = { ...read, appTag: TAG + 1 };
      const error = await failure(uring.readIntegrity(disk.fd, buffer, wrong, at));
      assert.deepEqual({ code: error.code, syscall: error.syscall }, {
        code: "EILSEQ",
        syscall: "read_integrity",
      });
      assert.match(error.message, /protection information wrong/);
      // Nobody looks when nothing is checked.
      const unchecked = { metadata, appTag: TAG + 1 };
      assert.equal(await uring.readIntegrity(disk.fd, buffer, unchecked, at), 2 * BLOCK);
      await using direct = await uring.registerFile(disk.fd);
      const one = { ...read, metadata: metadata.subarray(0, TUPLE) };
      assert.equal(await uring.readIntegrity(direct, buffer, one, { ...at, length: BLOCK }), BLOCK);
      // A tuple too few.
      assert.equal((await failure(uring.readIntegrity(direct, buffer, one, at))).code, "EINVAL");
    },
  );
}

test("a file without it says so", { skip }, async () => {
  await using uring = makeUring();
  using dir = new TempDir();
  using file = openFile(dir.of("file"), O_RDWR | O_CREAT);
  const buffer = new Uint8Array(BLOCK);
  for (const name of ["read", "write"] as const) {
    const integrity = { metadata: new Uint8Array(TUPLE) };
    const error = await failure(uring[`${name}Integrity`](file.fd, buffer, integrity, { offset: 0 }));
    assert.deepEqual({ code: error.code, syscall: error.syscall }, {
      code: "EINVAL",
      syscall: `${name}_integrity`,
    });
    assert.match(error.message, /only a block device that keeps protection information/);
  }
});

test("wrong arguments throw", async () => {
  await using uring = makeUring();
  const buffer = new Uint8Array(BLOCK);
  const metadata = new Uint8Array(TUPLE);
  const bad = (integrity: unknown): () => unknown => () => uring.readIntegrity(0, buffer, integrity as never);
  await refuses(uring, TypeError, bad(undefined));
  await refuses(uring, TypeError, bad({}));
  await refuses(uring, TypeError, bad({ metadata: 1 }));
  for (const flags of [8, -1, 0.5, NaN]) await refuses(uring, RangeError, bad({ metadata, flags }));
  for (const appTag of [-1, 0x1_0000, 0.5]) await refuses(uring, RangeError, bad({ metadata, appTag }));
  for (const seed of [-1, -1n, 2n ** 64n, 0.5]) await refuses(uring, RangeError, bad({ metadata, seed }));
  await refuses(uring, TypeError, () => uring.writeIntegrity(0, 5 as never, { metadata }));
  await refuses(uring, RangeError, () => uring.writeIntegrity(0, buffer, { metadata }, { offset: -2 }));
  const detached = new Uint8Array(8);
  detached.buffer.transfer();
  await refuses(uring, TypeError, bad({ metadata: detached }));
});

const known = skip === false ? "this kernel has it" : false;

test("a kernel without it says so", { skip: known }, async () => {
  await using uring = makeUring();
  using dir = new TempDir();
  using file = openFile(dir.of("file"), O_RDWR | O_CREAT);
  const integrity = { metadata: new Uint8Array(TUPLE) };
  const error = await failure(uring.readIntegrity(file.fd, new Uint8Array(BLOCK), integrity));
  assert.match(error.message, /needs Linux 6\.14/);
});
