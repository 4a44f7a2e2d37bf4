/** Moving and copying through pipes: what liburing's program of this name checks. */
import assert from "node:assert/strict";
import {
  IORING_OP_SPLICE,
  IORING_OP_TEE,
  IOSQE_FIXED_FILE,
  O_CREAT,
  O_RDWR,
  type Ring,
  SEEK_SET,
  SPLICE_F_FD_IN_FIXED,
} from "../../src/ring/mod.ts";
import { check } from "../../src/ffi/errors.ts";
import { system } from "../../src/ffi/system.ts";
import { content } from "../support/content.ts";
import { Fd, TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { libc } from "../support/libc.ts";
import { put, WaitingPipe } from "../support/operations.ts";
import { assertEntry, entry, forEachKind, makeRing, once, reap } from "../support/rings.ts";

checkLeaks();

const EBADF = -9;
const EINVAL = -22;
const ESPIPE = -29;

const SIZE = 16 * 4096;
const DATA = content(SIZE);

/** Two files and two pipes: as descriptors of the process, and as the ring knows them. */
class Setting implements Disposable {
  readonly #dir = new TempDir();
  readonly input: Fd = Fd.open(this.#dir.of("in"), O_RDWR | O_CREAT);
  readonly output: Fd = Fd.open(this.#dir.of("out"), O_RDWR | O_CREAT);
  readonly one: WaitingPipe = new WaitingPipe();
  readonly two: WaitingPipe = new WaitingPipe();
  /** By the names of the fields: what to put into an entry. */
  readonly names: Readonly<Record<"input" | "output" | "oneIn" | "oneOut" | "twoIn" | "twoOut", number>>;
  readonly #ring: Ring;
  readonly #fixed: boolean;

  constructor(ring: Ring, fixed: boolean) {
    this.#ring = ring;
    this.#fixed = fixed;
    put(this.input.fd, DATA);
    const { one, two, input, output } = this;
    const fds = [input, output, one.reader, one.writer, two.reader, two.writer].map(({ fd }) => fd);
    const [a, b, c, d, e, f] = (fixed ? fds.map((_, i) => i) : fds) as [
      number,
      number,
      number,
      number,
      number,
      number,
    ];
    this.names = { input: a, output: b, oneOut: c, oneIn: d, twoOut: e, twoIn: f };
    if (fixed) ring.registerFiles(fds);
  }

  /** Moves so much, in as many steps as it takes; returns 0 or the first failure. */
  splice(from: number, offIn: number, to: number, offOut: number, length: number): number {
    return this.#steps(length, (done, left) => {
      const entered = once(this.#ring, (sqe) => {
        const [a, b] = [offIn === -1 ? -1 : offIn + done, offOut === -1 ? -1 : offOut + done];
        sqe.prepSplice(from, a, to, b, left, this.#fixed ? SPLICE_F_FD_IN_FIXED : 0);
        if (this.#fixed) sqe.flags |= IOSQE_FIXED_FILE;
      });
      return entered.res;
    });
  }

  /** Copies so much. */
  tee(from: number, to: number, length: number): number {
    return this.#steps(length, (_, left) => {
      const entered = once(this.#ring, (sqe) => {
        sqe.prepTee(from, to, left, this.#fixed ? SPLICE_F_FD_IN_FIXED : 0);
        if (this.#fixed) sqe.flags |= IOSQE_FIXED_FILE;
      });
      return entered.res;
    });
  }

  #steps(length: number, step: (done: number, left: number) => number): number {
    let done = 0;
    do {
      const res = step(done, length - done);
      if (res <= 0) return res;
      done += res;
    } while (done < length);
    return 0;
  }

  [Symbol.dispose](): void {
    for (const thing of [this.#dir, this.input, this.output, this.one, this.two]) thing[Symbol.dispose]();
  }
}

function assertContent({ fd }: Fd): void {
  const bytes = new Uint8Array(new ArrayBuffer(SIZE));
  for (let at = 0; at < SIZE;) {
    at += check(system().read(fd, bytes.subarray(at), SIZE - at), "read") || assert.fail("too little");
  }
  assert.deepEqual(bytes, DATA);
}

function rewind({ fd }: Fd): void {
  assert.equal(libc().lseek(fd, 0, SEEK_SET), 0);
}

for (const fixed of [false, true]) {
  const how = fixed ? "registered files" : "descriptors";
  forEachKind(({ name, options, skip }) => {
    test(`liburing splice: ${name}: ${how}: files and pipes, moved`, { skip }, () => {
      using ring = makeRing(8, options);
      using all = new Setting(ring, fixed);
      const { input, output, oneIn, oneOut, twoIn, twoOut } = all.names;
      assert.equal(all.splice(input, -1, oneIn, -1, 0), 0);
      assert.equal(all.splice(twoOut, -1, oneIn, -1, 0), 0);
      rewind(all.input);
      assert.equal(all.splice(input, -1, oneIn, -1, SIZE), 0);
      assertContent(all.one.reader);
      assert.equal(all.splice(input, 0, oneIn, -1, SIZE), 0);
      assertContent(all.one.reader);
      all.one.write(DATA);
      assert.equal(all.splice(oneOut, -1, output, 0, SIZE), 0);
      assertContent(all.output);
      assert.equal(all.splice(input, 0, oneIn, -1, SIZE), 0);
      assert.equal(all.splice(oneOut, -1, twoIn, -1, SIZE), 0);
      assertContent(all.two.reader);
      assert.equal(all.splice(input, 0, oneIn, 0, SIZE), ESPIPE, "a pipe has no offsets");
      assert.equal(all.splice(oneOut, 0, output, 0, SIZE), ESPIPE);
      assert.equal(all.splice(input, 0, output, 0, SIZE), EINVAL, "neither is a pipe");
    });

    test(`liburing splice: ${name}: ${how}: pipes, copied by tee`, { skip }, () => {
      using ring = makeRing(8, options);
      using all = new Setting(ring, fixed);
      const { input, oneIn, oneOut, twoIn, twoOut } = all.names;
      assert.equal(all.tee(twoOut, oneIn, 0), 0);
      assert.equal(all.tee(input, oneIn, SIZE), EINVAL, "a file is no pipe");
      for (const [offIn, offOut] of [[-1, 0], [0, -1]] as const) {
        const { res } = once(ring, (sqe) => {
          sqe.prepSplice(twoOut, offIn, oneIn, offOut, SIZE, fixed ? SPLICE_F_FD_IN_FIXED : 0);
          if (fixed) sqe.flags |= IOSQE_FIXED_FILE;
          sqe.bytes[0] = IORING_OP_TEE;
        });
        assert.equal(res, EINVAL, "tee knows no offsets");
      }
      all.one.write(DATA);
      assert.equal(all.tee(oneOut, twoIn, SIZE), 0);
      assertContent(all.one.reader);
      assertContent(all.two.reader);
    });
  });
}

test("liburing splice: the entries, and descriptors that are none", () => {
  using ring = makeRing(8);
  const spliced = entry(ring, 1, (sqe) => sqe.prepSplice(7, 11, -1, 13, 17, 2));
  assertEntry(spliced, {
    opcode: IORING_OP_SPLICE,
    fd: -1,
    off: 13n,
    addr: 11n,
    len: 17,
    opFlags: 2,
    fileIndex: 7,
  });
  assert.equal(reap(ring, 1)[0]!.res, EBADF);
  const teed = entry(ring, 2, (sqe) => sqe.prepTee(-1, -1, 17, 0));
  assertEntry(teed, { opcode: IORING_OP_TEE, fd: -1, len: 17, fileIndex: 0xffff_ffff });
  assert.equal(reap(ring, 1)[0]!.res, EBADF);
});
