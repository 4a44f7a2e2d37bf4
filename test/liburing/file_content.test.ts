/** What is read is what the file holds, and where its position is: what `file-verify` and `fpos` of liburing check. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { readFileSync, writeFileSync } from "node:fs";
import {
  IORING_CQE_F_BUFFER,
  IOSQE_ASYNC,
  IOSQE_BUFFER_SELECT,
  IOSQE_IO_LINK,
  Mapping,
  O_CREAT,
  O_DIRECT,
  O_RDONLY,
  O_RDWR,
  POSIX_FADV_DONTNEED,
  type Ring,
} from "../../src/ring/mod.ts";
import { check } from "../../src/ffi/errors.ts";
import { system } from "../../src/ffi/system.ts";
import { Fd, TempDir } from "../support/descriptors.ts";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { libc } from "../support/libc.ts";
import { Random } from "../support/random.ts";
import {
  type Block,
  block,
  entry,
  forEachKind,
  iovecs,
  makeRing,
  missingDirect,
  once,
  reap,
} from "../support/rings.ts";

checkLeaks();

const ECANCELED = -125;
const SEEK_SET = 0;
const SEEK_CUR = 1;

const CHUNK = 128 << 10;
const PUNCH = 32 << 10;
const BATCH = 16;
const FILE = BATCH * CHUNK;

const noDirect = missingDirect();

/** Each word of the file holds its number. */
const pattern = Uint32Array.from({ length: FILE / 4 }, (_, i) => i);

/** How a file is read. */
const HOWS = ["plain", "registered", "provided", "16 vectors", "8 vectors"] as const;
type How = (typeof HOWS)[number];

/** Memory that begins at a page. */
function partsOf(memory: Mapping, size: number): Block[] {
  const { buffer, address, byteLength } = memory;
  return Array.from({ length: byteLength / size }, (_, i) => ({
    bytes: new Uint8Array(buffer, i * size, size),
    address: address + i * size,
    view: new DataView(buffer, i * size, size),
  }));
}

function assertPattern(bytes: Uint8Array, first: number, what: string): void {
  const found = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  const known = Buffer.from(pattern.buffer, 4 * first, bytes.length);
  assert.ok(found.equals(known), what);
}

/** Drops the beginning, the middle or the end of each chunk from the page cache, or nothing of it. */
function punch(fd: number, random: Random): void {
  for (let at = 0; at < FILE; at += CHUNK) {
    const start = random.pick([-1, 0, PUNCH, CHUNK - PUNCH]);
    if (start < 0) continue;
    const { posix_fadvise } = system().rare;
    check(posix_fadvise(fd, at + start, PUNCH, POSIX_FADV_DONTNEED), "posix_fadvise");
  }
}

/** The vectors of a chunk, the last piece of memory first: that the pieces are told apart shows. */
function vectorsOf(buffer: Block, memory: Mapping, count: number): Block[] {
  const size = CHUNK / count;
  return Array.from({ length: count }, (_, i) => {
    const at = (count - 1 - i) * size;
    return {
      bytes: buffer.bytes.subarray(at, at + size),
      address: buffer.address + at,
      view: new DataView(memory.buffer),
    };
  });
}

/** Reads all chunks at once and checks them. */
function readAll(ring: Ring, fd: number, memory: Mapping, how: How): void {
  const buffers = partsOf(memory, CHUNK);
  const count = how === "16 vectors" ? 16 : how === "8 vectors" ? 8 : 1;
  if (how === "registered") {
    ring.registerBuffers(buffers.map(({ address }) => ({ address, length: CHUNK })));
  }
  if (how === "provided") {
    for (const [i, { address }] of buffers.entries()) {
      entry(ring, i, (sqe) => sqe.prepProvideBuffers(address, CHUNK, 1, 0, i));
    }
    for (const { res } of reap(ring, BATCH)) assert.equal(res, 0);
  }
  const vectors = buffers.map((buffer) => vectorsOf(buffer, memory, count));
  const addresses = vectors.map((parts) => iovecs(parts).address);
  for (const [i, { address }] of buffers.entries()) {
    const offset = i * CHUNK;
    entry(ring, i, (sqe) => {
      if (count > 1) sqe.prepReadv(fd, addresses[i]!, count, offset);
      else if (how === "registered") sqe.prepReadFixed(fd, address, CHUNK, offset, i);
      else if (how === "provided") {
        sqe.prepRead(fd, 0, CHUNK, offset);
        sqe.flags = IOSQE_BUFFER_SELECT;
      } else sqe.prepRead(fd, address, CHUNK, offset);
    });
  }
  for (const { userData, res, flags } of reap(ring, BATCH)) {
    assert.equal(res, CHUNK);
    assert.equal((flags & IORING_CQE_F_BUFFER) !== 0, how === "provided");
    const index = how === "provided" ? flags >>> 16 : userData;
    const first = userData * CHUNK / 4;
    for (const [i, { bytes }] of vectors[index]!.entries()) {
      assertPattern(bytes, first + i * CHUNK / count / 4, `chunk ${userData}, piece ${i}, ${how}`);
    }
  }
  if (how === "registered") ring.unregisterBuffers();
}

/** Reads over the end of a file of which a part is not cached: gets what is there, whole. */
function readTail(ring: Ring, fd: number, buffer: Block, how: How): void {
  const HALF = CHUNK / 2;
  const tail = FILE - HALF;
  const words = pattern.subarray(0, HALF / 4);
  assert.equal(libc().lseek(fd, tail, SEEK_SET), tail);
  buffer.bytes.set(new Uint8Array(words.buffer, 0, HALF));
  assert.equal(system().write(fd, buffer.bytes, HALF), HALF);
  for (const dropped of [tail + CHUNK / 4, FILE - CHUNK / 4]) {
    assert.equal(libc().lseek(fd, tail, SEEK_SET), tail);
    assert.equal(system().read(fd, buffer.bytes, HALF), HALF);
    check(system().rare.posix_fadvise(fd, dropped, CHUNK / 4, POSIX_FADV_DONTNEED), "posix_fadvise");
    if (how === "provided") {
      assert.equal(once(ring, (sqe) => sqe.prepProvideBuffers(buffer.address, CHUNK, 1, 0, 0)).res, 0);
    }
    buffer.bytes.fill(0);
    const vectors = iovecs([buffer]).address;
    const { res } = once(ring, (sqe) => {
      if (how === "provided") {
        sqe.prepRead(fd, 0, CHUNK, tail);
        sqe.flags = IOSQE_BUFFER_SELECT;
      } else if (how === "plain") sqe.prepRead(fd, buffer.address, CHUNK, tail);
      else sqe.prepReadv(fd, vectors, 1, tail);
    });
    assert.equal(res, HALF);
    assertPattern(buffer.bytes.subarray(0, HALF), 0, how);
  }
}

forEachKind(({ name, options, skip: noRing }) => {
  for (const direct of [false, true]) {
    const skip = firstReason(noRing, direct && noDirect);
    const way = direct ? "O_DIRECT" : "buffered";
    test(`liburing file-verify: ${name}: ${way}: what is read is what is there`, { skip }, () => {
      using dir = new TempDir();
      writeFileSync(dir.of("file"), pattern, { flush: true });
      using file = Fd.open(dir.of("file"), O_RDONLY | (direct ? O_DIRECT : 0));
      using memory = Mapping.anonymous(FILE);
      using ring = makeRing(BATCH, options);
      const random = new Random(5);
      for (const how of HOWS) {
        punch(file.fd, random);
        readAll(ring, file.fd, memory, how);
      }
    });

    test(`liburing file-verify: ${name}: ${way}: a file that ends within the read`, { skip }, () => {
      using dir = new TempDir();
      using memory = Mapping.anonymous(CHUNK);
      using ring = makeRing(BATCH, options);
      for (const how of ["plain", "provided", "8 vectors"] as const) {
        writeFileSync(dir.of("file"), pattern, { flush: true });
        using file = Fd.open(dir.of("file"), O_RDWR | (direct ? O_DIRECT : 0));
        readTail(ring, file.fd, partsOf(memory, CHUNK)[0]!, how);
      }
    });
  }

  const QUEUE = 128;
  for (const async of [false, true]) {
    for (const size of [1, 7]) {
      const where = `${size} at a time${async ? ", in worker threads" : ""}`;
      test(`liburing fpos: ${name}: reads move the file's position, ${where}`, { skip: noRing }, () => {
        using dir = new TempDir();
        const content = Uint8Array.from({ length: 1000 }, (_, i) => i % 251);
        writeFileSync(dir.of("file"), content);
        using file = Fd.open(dir.of("file"), O_RDONLY);
        using ring = makeRing(QUEUE, options);
        const buffer = block(QUEUE * size);
        let position = 0;
        for (let done = false; !done;) {
          for (let i = 0; i < QUEUE; i++) {
            entry(ring, i, (sqe) => {
              sqe.prepRead(file.fd, buffer.address + i * size, size, -1);
              sqe.flags = (async ? IOSQE_ASYNC : 0) | (i < QUEUE - 1 ? IOSQE_IO_LINK : 0);
            });
          }
          let ended = false;
          for (const { userData, res } of reap(ring, QUEUE)) {
            if (ended) assert.equal(res, ECANCELED);
            else {
              assert.ok(res >= 0 && res <= size, `${res}`);
              const bytes = buffer.bytes.subarray(userData * size, userData * size + res);
              assert.deepEqual(bytes, content.subarray(position, position + res));
              position += res;
              ended = res < size;
              done ||= res === 0;
            }
          }
          assert.equal(libc().lseek(file.fd, 0, SEEK_CUR), position);
        }
        assert.equal(position, content.length);
      });

      test(`liburing fpos: ${name}: writes move the file's position, ${where}`, { skip: noRing }, () => {
        using dir = new TempDir();
        using file = Fd.open(dir.of("file"), O_RDWR | O_CREAT);
        using ring = makeRing(QUEUE, options);
        const data = block(size);
        data.bytes.set(Array.from({ length: size }, (_, i) => 65 + i));
        for (let i = 0; i < QUEUE; i++) {
          entry(ring, i, (sqe) => {
            sqe.prepWrite(file.fd, data.address + i % size, 1, -1);
            sqe.flags = (async ? IOSQE_ASYNC : 0) | (i < QUEUE - 1 ? IOSQE_IO_LINK : 0);
          });
        }
        const found = reap(ring, QUEUE);
        assert.deepEqual(found.map(({ userData, res }) => [userData, res]), found.map((_, i) => [i, 1]));
        assert.equal(libc().lseek(file.fd, 0, SEEK_CUR), QUEUE);
        const expected = Uint8Array.from({ length: QUEUE }, (_, i) => 65 + i % size);
        assert.deepEqual(new Uint8Array(readFileSync(dir.of("file"))), expected);
      });
    }
  }
});
