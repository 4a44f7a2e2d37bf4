/** Reading and writing: what liburing's `read-write` and its like check. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import {
  IORING_CQE_F_BUFFER,
  IORING_SETUP_SQPOLL,
  IOSQE_ASYNC,
  IOSQE_BUFFER_SELECT,
  IOSQE_FIXED_FILE,
  IOSQE_IO_LINK,
  Mapping,
  O_DIRECT,
  O_RDONLY,
  O_RDWR,
  O_WRONLY,
  POLLIN,
  type Ring,
  type RingOptions,
  type Sqe,
} from "../../src/ring/mod.ts";
import { kernelHas } from "../../src/ffi/kernel.ts";
import { Fd, Pipe, TempDir } from "../support/descriptors.ts";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { WaitingPipe } from "../support/operations.ts";
import { fixture, output } from "../support/program.ts";
import { Random } from "../support/random.ts";
import {
  assertQuiet,
  type Block,
  block,
  entry,
  forEachKind,
  iovecs,
  makeRing,
  missingDirect,
  missingRing,
  once,
  reap,
  reapResults,
  timespec,
} from "../support/rings.ts";

checkLeaks();

const ETIME = -62;
const ECANCELED = -125;

const BS = 8192;
const BUFFERS = 16;
const FILE = BUFFERS * BS;

const noDirect = missingDirect();
const noSqpoll = missingRing({ flags: IORING_SETUP_SQPOLL });
const noClone = kernelHas("6.12") ? false : "clones of buffers need Linux 6.12";

interface Way {
  readonly write: boolean;
  readonly direct: boolean;
  readonly fixed: boolean;
  readonly async: boolean;
  readonly vectored: boolean;
}

/** All combinations. */
const WAYS: readonly Way[] = Array.from({ length: 32 }, (_, i) => ({
  write: (i & 1) !== 0,
  direct: (i & 2) !== 0,
  fixed: (i & 4) !== 0,
  async: (i & 8) !== 0,
  vectored: (i & 16) !== 0,
})).filter(({ direct }) => !direct || noDirect === false);

/** Memory that begins at a page, in blocks. */
class Buffers implements Disposable {
  readonly #memory: Mapping;
  readonly blocks: readonly Block[];

  constructor(count = BUFFERS, size = BS) {
    this.#memory = Mapping.anonymous(count * size);
    this.blocks = Array.from({ length: count }, (_, i) => this.part(i * size, size));
  }

  /** A part of it. */
  part(at: number, size: number): Block {
    const { buffer, address } = this.#memory;
    return {
      bytes: new Uint8Array(buffer, at, size),
      address: address + at,
      view: new DataView(buffer, at, size),
    };
  }

  fill(value: (i: number) => number): void {
    this.blocks.forEach(({ bytes }, i) => bytes.fill(value(i)));
  }

  [Symbol.dispose](): void {
    this.#memory.unmap();
  }
}

function register(ring: Ring, blocks: readonly Block[]): void {
  ring.registerBuffers(blocks.map(({ address, bytes }) => ({ address, length: bytes.length })));
}

/** Reads or writes one block for each buffer, and checks that the file and the buffers agree. */
function transfer(ring: Ring, path: string, blocks: readonly Block[], way: Way, random: Random): void {
  const { write, direct, fixed, async, vectored } = way;
  if (write) {
    const value = 1 + random.below(100);
    blocks.forEach(({ bytes }, i) => bytes.fill(value + i));
  } else blocks.forEach(({ bytes }) => bytes.fill(0));
  using file = Fd.open(path, (write ? O_WRONLY : O_RDONLY) | (direct ? O_DIRECT : 0));
  const registered = (ring.flags & IORING_SETUP_SQPOLL) !== 0;
  if (registered) ring.registerFiles([file.fd]);
  const fd = registered ? 0 : file.fd;
  const offsets = blocks.map((_, i) => BS * (write ? i : random.below(BUFFERS)));
  blocks.forEach((buffer, i) => {
    const { address, bytes: { length } } = buffer;
    const vectors = iovecs([buffer]).address;
    const offset = offsets[i]!;
    entry(ring, i, (sqe) => {
      // Every other one names no registered buffer.
      if (fixed && i % 2 === 0) {
        if (write) sqe.prepWriteFixed(fd, address, length, offset, i);
        else sqe.prepReadFixed(fd, address, length, offset, i);
      } else if (vectored) {
        if (write) sqe.prepWritev(fd, vectors, 1, offset);
        else sqe.prepReadv(fd, vectors, 1, offset);
      } else if (write) sqe.prepWrite(fd, address, length, offset);
      else sqe.prepRead(fd, address, length, offset);
      sqe.flags = (async ? IOSQE_ASYNC : 0) | (registered ? IOSQE_FIXED_FILE : 0);
    });
  });
  const results = reapResults(ring, blocks.length);
  if (registered) ring.unregisterFiles();
  const content = readFileSync(path);
  blocks.forEach(({ bytes }, i) => {
    assert.equal(results.get(i), bytes.length, JSON.stringify(way));
    const there = content.subarray(offsets[i]!, offsets[i]! + bytes.length);
    assert.ok(there.equals(bytes), `block ${i}: ${JSON.stringify(way)}`);
  });
}

/** The same through the ring's registered buffers and through a clone of them. */
function transferFixed(
  options: RingOptions,
  ring: Ring,
  path: string,
  blocks: readonly Block[],
  way: Way,
): void {
  register(ring, blocks);
  const random = new Random(2);
  transfer(ring, path, blocks, way, random);
  if (noClone === false) {
    using other = makeRing(64, options);
    other.cloneBuffers(ring);
    transfer(other, path, blocks, way, random);
    ring.unregisterBuffers();
    transfer(other, path, blocks, way, random);
    other.unregisterBuffers();
  } else ring.unregisterBuffers();
}

/** Gives the ring these buffers, one after the other, by the old way. */
function provide(ring: Ring, blocks: readonly Block[], group: number, length?: number): void {
  blocks.forEach(({ address, bytes }, i) => {
    entry(ring, i, (sqe) => sqe.prepProvideBuffers(address, length ?? bytes.length, 1, group, i));
  });
  for (const { res } of reap(ring, blocks.length)) assert.equal(res, 0);
}

function knownFile(dir: TempDir, name = "file"): string {
  const path = dir.of(name);
  const content = new Uint8Array(FILE);
  for (let i = 0; i < BUFFERS; i++) content.fill(i, i * BS, (i + 1) * BS);
  writeFileSync(path, content);
  return path;
}

forEachKind(({ name, options, skip }) => {
  test(`liburing read-write: ${name}: every way to read and write`, { skip }, () => {
    using dir = new TempDir();
    const path = knownFile(dir);
    using buffers = new Buffers();
    using ring = makeRing(64, options);
    const random = new Random(1);
    for (const way of WAYS) {
      if (way.fixed) transferFixed(options, ring, path, buffers.blocks, way);
      else transfer(ring, path, buffers.blocks, way, random);
    }
  });

  test(`liburing read-write: ${name}: registered buffers that begin and end anywhere`, { skip }, () => {
    using dir = new TempDir();
    const path = knownFile(dir);
    using buffers = new Buffers(BUFFERS, 3 * BS);
    using ring = makeRing(64, options);
    const random = new Random(3);
    const blocks = buffers.blocks.map((_, i) => {
      return buffers.part(i * 3 * BS + random.below(BS), 1 + random.below(BS));
    });
    for (const way of WAYS) {
      if (way.direct || !way.fixed || way.vectored) continue;
      transferFixed(options, ring, path, blocks, way);
    }
  });

  for (const vectored of [false, true]) {
    const how = vectored ? "readv" : "read";
    /** Reads the whole file in order, with buffers that the kernel picks. */
    const readInto = (ring: Ring, fd: number): { userData: number; res: number; bid: number }[] => {
      // Only the length of the vector matters.
      const vectors = iovecs([block(BS)]).address;
      for (let i = 0; i < BUFFERS; i++) {
        entry(ring, i, (sqe: Sqe) => {
          if (vectored) sqe.prepReadv(fd, vectors, 1, i * BS);
          else sqe.prepRead(fd, 0, BS, i * BS);
          sqe.flags = IOSQE_BUFFER_SELECT;
          sqe.bufGroup = 1;
        });
      }
      return reap(ring, BUFFERS).map(({ userData, res, flags }) => {
        assert.equal(flags & IORING_CQE_F_BUFFER, IORING_CQE_F_BUFFER);
        return { userData, res, bid: flags >>> 16 };
      });
    };

    for (const length of [BS, BS / 2]) {
      const kind = length < BS ? " that are too short" : "";
      test(`liburing read-write: ${name}: ${how} into provided buffers${kind}`, { skip }, () => {
        using dir = new TempDir();
        using file = Fd.open(knownFile(dir), O_RDONLY);
        using buffers = new Buffers();
        buffers.fill(() => 0x55);
        using ring = makeRing(64, options);
        provide(ring, buffers.blocks, 1, length);
        const found = readInto(ring, file.fd);
        assert.equal(new Set(found.map(({ bid }) => bid)).size, BUFFERS, "each buffer is used once");
        for (const { userData, res, bid } of found) {
          assert.equal(res, length);
          const { bytes } = buffers.blocks[bid]!;
          assert.ok(bytes.every((byte, i) => byte === (i < length ? userData : 0x55)));
        }
      });
    }
  }

  test(`liburing read-write: ${name}: reads of a pipe take provided buffers in order`, { skip }, () => {
    using buffers = new Buffers();
    using pipe = new WaitingPipe();
    using ring = makeRing(64, options);
    provide(ring, buffers.blocks, 0);
    for (let i = 0; i < 5; i++) {
      entry(ring, i, (sqe) => {
        sqe.prepRead(pipe.reader.fd, 0, 1, -1);
        sqe.flags = IOSQE_BUFFER_SELECT;
      });
    }
    ring.submit();
    assertQuiet(ring);
    pipe.write("01234");
    const found = reap(ring, 5);
    assert.ok(found.every(({ res, flags }) => res === 1 && (flags & IORING_CQE_F_BUFFER) !== 0));
    const digits = found.map(({ flags }) => buffers.blocks[flags >>> 16]!.bytes[0]! - 48);
    assert.deepEqual(digits, [0, 1, 2, 3, 4]);
  });

  test(`liburing read-write: ${name}: a write, then a poll that its time limit ends`, { skip }, () => {
    using dir = new TempDir();
    using file = Fd.open(knownFile(dir), O_WRONLY);
    using pipe = new Pipe();
    using ring = makeRing(8, options);
    const vectors = iovecs([block(BS)]);
    const limit = timespec(20);
    entry(ring, 1, (sqe) => {
      sqe.prepWritev(file.fd, vectors.address, 1, 0);
      sqe.flags = IOSQE_IO_LINK;
    });
    entry(ring, 2, (sqe) => {
      sqe.prepPollAdd(pipe.reader.fd, POLLIN);
      sqe.flags = IOSQE_IO_LINK;
    });
    entry(ring, 3, (sqe) => sqe.prepLinkTimeout(limit, 0));
    assert.deepEqual([...reapResults(ring, 3)].sort(), [[1, BS], [2, ECANCELED], [3, ETIME]]);
  });

  test(`liburing read-write: ${name}: chains of writes in worker threads`, { skip }, () => {
    const [CHAINS, LENGTH] = [20, 25] as const;
    using dir = new TempDir();
    using file = Fd.open(knownFile(dir), O_WRONLY);
    using ring = makeRing(CHAINS * LENGTH, options);
    const vectors = iovecs([block(BS)]);
    for (let i = 0; i < CHAINS * LENGTH; i++) {
      entry(ring, i, (sqe) => {
        sqe.prepWritev(file.fd, vectors.address, 1, 0);
        sqe.flags = IOSQE_ASYNC | (i % LENGTH === LENGTH - 1 ? 0 : IOSQE_IO_LINK);
      });
    }
    const found = reap(ring, CHAINS * LENGTH);
    assert.ok(found.every(({ res }) => res === BS));
    const order = new Array<number>(CHAINS).fill(0);
    for (const { userData } of found) {
      assert.equal(userData % LENGTH, order[Math.floor(userData / LENGTH)]!++, "a chain keeps its order");
    }
  });

  test(`liburing read-write: ${name}: provided buffers are taken back`, { skip }, () => {
    using buffers = new Buffers();
    using ring = makeRing(64, options);
    for (const [batch, flags] of [[1, 0], [10, 0], [2, IOSQE_IO_LINK], [2, IOSQE_ASYNC]] as const) {
      provide(ring, buffers.blocks, 1);
      let count = 0;
      for (let left = BUFFERS; left > 0; left -= batch, count++) {
        const nr = Math.min(left, batch);
        entry(ring, nr, (sqe) => {
          sqe.prepRemoveBuffers(nr, 1);
          sqe.flags = flags;
        });
      }
      for (const { userData, res } of reap(ring, count)) assert.equal(res, userData);
    }
    provide(ring, buffers.blocks, 1);
    assert.equal(once(ring, (sqe) => sqe.prepRemoveBuffers(BUFFERS + 1, 1)).res, BUFFERS);
  });

  test(`liburing short-read: ${name}: a file that is shorter than asked for`, { skip }, () => {
    using dir = new TempDir();
    writeFileSync(dir.of("file"), new Uint8Array(1024).fill(7));
    using file = Fd.open(dir.of("file"), O_RDONLY);
    using ring = makeRing(32, options);
    const buffer = block(4096);
    const vectors = iovecs([buffer]);
    assert.equal(once(ring, (sqe) => sqe.prepReadv(file.fd, vectors.address, 1, 0)).res, 1024);
    assert.ok(buffer.bytes.every((byte, i) => byte === (i < 1024 ? 7 : 0)));
  });

  test(`liburing rw_merge_test: ${name}: reads side by side do not wait for another file`, { skip }, () => {
    using dir = new TempDir();
    writeFileSync(dir.of("file"), new Uint8Array(4096));
    using file = Fd.open(dir.of("file"), O_RDWR);
    using pipe = new WaitingPipe();
    using ring = makeRing(4, options);
    const vectors = iovecs([block(4096)]).address;
    entry(ring, 1, (sqe) => sqe.prepReadv(pipe.reader.fd, vectors, 1, 0));
    entry(ring, 2, (sqe) => sqe.prepReadv(file.fd, vectors, 1, 4096));
    assert.deepEqual(reap(ring, 1), [{ userData: 2, res: 0, flags: 0 }]);
    entry(ring, 3, (sqe) => sqe.prepReadv(file.fd, vectors, 1, 2048));
    assert.deepEqual(reap(ring, 1), [{ userData: 3, res: 2048, flags: 0 }]);
    assertQuiet(ring);
  });
});

test("liburing d4ae271dfaae: SQPOLL reads with O_DIRECT, submitted one by one", {
  skip: firstReason(noSqpoll, noDirect),
}, () => {
  using dir = new TempDir();
  using file = Fd.open(knownFile(dir), O_RDONLY | O_DIRECT);
  using buffers = new Buffers(10, 4096);
  using ring = makeRing(16, { flags: IORING_SETUP_SQPOLL, sqThreadIdle: 5 });
  ring.registerFiles([file.fd]);
  for (const [i, buffer] of buffers.blocks.entries()) {
    const vectors = iovecs([buffer]);
    entry(ring, i, (sqe) => {
      sqe.prepReadv(0, vectors.address, 1, BS);
      sqe.flags = IOSQE_FIXED_FILE;
    });
    ring.submit();
  }
  for (const { res } of reap(ring, 10)) assert.equal(res, 4096);
  assert.ok(buffers.blocks.every(({ bytes }) => bytes.every((byte) => byte === 1)));
});

test("liburing read-write: a write beyond the limit of a file's size", async () => {
  // 128 KiB in blocks of 512 bytes; the signal that comes with it is ignored.
  const shell = ["sh", "-c", 'trap "" XFSZ; ulimit -f 256; exec "$@"', "sh"];
  using dir = new TempDir();
  const said = await output(fixture("file_limit_raw.ts"), [dir.of("file")], { prefix: shell });
  const half = new Array(16).fill("8192").join(" ");
  assert.equal(said, `${half} ${new Array(16).fill("-27").join(" ")}\n`);
});
