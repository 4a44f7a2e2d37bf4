/** Twins of liburing's programs about links, and about completions that are skipped. */
import assert from "node:assert/strict";
import {
  IORING_SETUP_IOPOLL,
  IORING_SETUP_SQPOLL,
  IOSQE_ASYNC,
  IOSQE_CQE_SKIP_SUCCESS,
  IOSQE_IO_DRAIN,
  IOSQE_IO_HARDLINK,
  IOSQE_IO_LINK,
  type Ring,
  type RingOptions,
  type Sqe,
} from "../../src/ring/mod.ts";
import { Pipe } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import {
  assertQuiet,
  block,
  entry,
  forEachKind,
  iovecs,
  makeRing,
  missingRing,
  reap,
  timespec,
} from "../support/rings.ts";

checkLeaks();

const ENOENT = -2;
const EINTR = -4;
const EBADF = -9;
const EFAULT = -14;
const EINVAL = -22;
const ETIME = -62;
const ECANCELED = -125;
const NO_FD = 1_000_000;

const pairs = (ring: Ring, count: number): number[][] =>
  reap(ring, count).map(({ userData, res }) => [userData, res]);

function queue(ring: Ring, userData: number, flags: number, prep: (sqe: Sqe) => void): void {
  entry(ring, userData, (sqe) => {
    prep(sqe);
    sqe.flags = flags;
  });
}

const nop = (sqe: Sqe): void => sqe.prepNop();

forEachKind(({ name, options, skip }) => {
  test(`liburing link: ${name}: one link, two links, two chains`, { skip }, () => {
    using ring = makeRing(8, options);
    for (const links of [[1, 0], [1, 1, 0], [1, 0, 1, 0]]) {
      links.forEach((linked, i) => queue(ring, i, linked === 1 ? IOSQE_IO_LINK : 0, nop));
      const found = pairs(ring, links.length);
      assert.deepEqual([...found].sort(), links.map((_, i) => [i, 0]));
      // A chain runs in order; between two there is none.
      const place = (i: number): number => found.findIndex(([userData]) => userData === i);
      links.forEach((linked, i) => linked === 0 || assert.ok(place(i) < place(i + 1)));
    }
  });

  test(`liburing link: ${name}: hard links go on after timeouts that end as timeouts do`, { skip }, () => {
    using ring = makeRing(8, options);
    const hard = IOSQE_IO_LINK | IOSQE_IO_HARDLINK;
    const [short, longer] = [timespec(5), timespec(8)];
    queue(ring, 1, hard, (sqe) => sqe.prepTimeout(short, 0, 0));
    queue(ring, 2, 0, nop);
    assert.deepEqual(pairs(ring, 2), [[1, ETIME], [2, 0]]);
    queue(ring, 1, hard, (sqe) => sqe.prepTimeout(short, 0, 0));
    queue(ring, 2, hard, (sqe) => sqe.prepTimeout(longer, 0, 0));
    queue(ring, 3, 0, nop);
    assert.deepEqual(pairs(ring, 3), [[1, ETIME], [2, ETIME], [3, 0]]);
  });

  test(`liburing link: ${name}: a head that fails at once does not keep a wait from ending`, { skip }, () => {
    using ring = makeRing(8, options);
    const { address } = iovecs([{ ...block(1), address: 0, bytes: new Uint8Array(0) }]);
    queue(ring, 1, IOSQE_IO_LINK, (sqe) => sqe.prepReadv(NO_FD, address, 1, 0));
    queue(ring, 2, 0, nop);
    const submitted = ring.submitAndWait(2);
    if (((options.flags ?? 0) & IORING_SETUP_SQPOLL) === 0) assert.equal(submitted, 2);
    assert.deepEqual(pairs(ring, 2), [[1, EBADF], [2, ECANCELED]]);
  });
});

const iopoll = { flags: IORING_SETUP_IOPOLL };

test(
  "liburing link: IOPOLL: a failing head cancels what is linked to it",
  { skip: missingRing(iopoll) },
  () => {
    using ring = makeRing(8, iopoll);
    queue(ring, 1, IOSQE_IO_LINK, (sqe) => sqe.prepRemoveBuffers(10, 1));
    queue(ring, 2, 0, nop);
    assert.equal(ring.submit(), 2);
    for (const expected of [[1, ENOENT], [2, ECANCELED]]) {
      const cqe = ring.peekCqe()!;
      assert.deepEqual([cqe.userData, cqe.res], expected);
      ring.cqeSeen(cqe);
    }
    assert.equal(ring.peekCqe(), null);
  },
);

/** A chain of which one entry is refused before it runs. */
interface Chain {
  readonly size: number;
  readonly bad: number;
  readonly hard: boolean;
  /** Whether it waits behind a read that a drain holds back. */
  readonly drain: boolean;
  /** Whether the last entry ends the chain, and not the submit. */
  readonly ended: boolean;
}

function* chains(): Generator<Chain> {
  for (let size = 1; size <= 3; size++) {
    for (let bad = 0; bad < size; bad++) {
      for (let i = 0; i < 8; i++) {
        yield { size, bad, hard: (i & 1) !== 0, drain: (i & 2) !== 0, ended: (i & 4) !== 0 };
      }
    }
  }
}

const DRAINED = 42;

function refuseOne(options: RingOptions, { size, bad, hard, drain, ended }: Chain): void {
  using ring = makeRing(8, options);
  using pipe = new Pipe();
  const buffer = block(1);
  if (drain) {
    queue(ring, DRAINED, IOSQE_IO_DRAIN, (sqe) => sqe.prepRead(pipe.reader.fd, buffer.address, 1, 0));
  }
  const link = IOSQE_IO_LINK | (drain ? IOSQE_IO_DRAIN : 0) | (hard ? IOSQE_IO_HARDLINK : 0);
  for (let i = 0; i < size; i++) {
    queue(ring, i, i === size - 1 && ended ? 0 : link, (sqe) => {
      if (i !== bad) return sqe.prepNop();
      sqe.prepRead(NO_FD, buffer.address, 1, 0);
      sqe.ioprio = 0xffff;
    });
  }
  const total = size + (drain ? 1 : 0);
  const submitted = ring.submit();
  if (((options.flags ?? 0) & IORING_SETUP_SQPOLL) === 0) assert.equal(submitted, total);
  if (drain) pipe.write("x");
  const found = new Map(reap(ring, total).map(({ userData, res }) => [userData, res]));
  if (drain) assert.equal(found.get(DRAINED), 1);
  for (let i = 0; i < size; i++) {
    // The descriptor is looked up before the priority or after it, depending on the kernel.
    const expected = i === bad ? [EINVAL, EBADF] : [ECANCELED];
    assert.ok(expected.includes(found.get(i)!), `${i}: ${found.get(i)}`);
  }
}

forEachKind(({ name, options, skip }) => {
  test(
    `liburing submit-link-fail: ${name}: an entry that is refused takes its whole chain along`,
    { skip },
    () => {
      for (const chain of chains()) {
        try {
          refuseOne(options, chain);
        } catch (error) {
          throw new Error(`with ${JSON.stringify(chain)}`, { cause: error });
        }
      }
    },
  );
});

const SKIP = IOSQE_CQE_SKIP_SUCCESS;
const LENGTH = 6;
const MIDDLE = LENGTH / 2;
const LAST = LENGTH - 1;
const TIMEOUT = 99;

/** Taken by the kernel, and fails when it runs. */
const fails = (pipe: Pipe) => (sqe: Sqe): void => sqe.prepWrite(pipe.writer.fd, 0, 100, 0);

/** The chains of `skip-cqe`, on one ring. */
class Skipping {
  readonly #ring: Ring;
  readonly #pipe: Pipe;

  constructor(ring: Ring, pipe: Pipe) {
    this.#ring = ring;
    this.#pipe = pipe;
  }

  expect(completions: readonly (readonly number[])[]): void {
    assert.deepEqual(pairs(this.#ring, completions.length), completions);
    assertQuiet(this.#ring);
  }

  success(length: number, skipLast: boolean): void {
    for (let i = 0; i < length; i++) {
      queue(this.#ring, i, i < length - 1 || skipLast ? IOSQE_IO_LINK | SKIP : 0, nop);
    }
    this.#ring.submit();
    this.expect(skipLast ? [] : [[length - 1, 0]]);
  }

  failure(failing: number): void {
    for (let i = 0; i < LENGTH; i++) {
      const flags = i < LAST ? IOSQE_IO_LINK | SKIP : 0;
      queue(this.#ring, i, flags, i === failing ? fails(this.#pipe) : nop);
    }
    this.expect([[failing, EFAULT]]);
  }

  /** Every entry but the last is skipped, and so is the time limit of one of them, which is not reached. */
  limited(length: number, limited: number, async: boolean, failing = -1): void {
    const ts = timespec(60_000);
    for (let i = 0; i < length; i++) {
      const flags = IOSQE_IO_LINK | (async ? IOSQE_ASYNC : 0) | (i < length - 1 ? SKIP : 0);
      queue(this.#ring, i, flags, i === failing ? fails(this.#pipe) : nop);
      if (i === limited) {
        queue(this.#ring, TIMEOUT, IOSQE_IO_LINK | SKIP, (sqe) => sqe.prepLinkTimeout(ts, 0));
      }
    }
    this.expect([failing < 0 ? [length - 1, 0] : [failing, EFAULT]]);
  }

  /** A time limit that is reached: the read has failed and is told; the limit has not, though it says `ETIME`. */
  expired(async: boolean, skipRead: boolean, skipLimit: boolean): void {
    // A limit that is reached while a worker thread is just handing the read over would miss it.
    const ts = timespec(async ? 20 : 1);
    const { address } = block(1);
    const flags = IOSQE_IO_LINK | (async ? IOSQE_ASYNC : 0) | (skipRead ? SKIP : 0);
    queue(this.#ring, 0, flags, (sqe) => sqe.prepRead(this.#pipe.reader.fd, address, 1, 0));
    queue(this.#ring, 1, skipLimit ? SKIP : 0, (sqe) => sqe.prepLinkTimeout(ts, 0));
    const found = new Map(reap(this.#ring, skipLimit ? 1 : 2).map(({ userData, res }) => [userData, res]));
    assert.ok([ECANCELED, EINTR].includes(found.get(0)!), `${found.get(0)}`);
    assert.equal(found.get(1), skipLimit ? undefined : ETIME);
    assertQuiet(this.#ring);
  }

  hard(failing: number, skipped: number, linkLast: boolean): void {
    const length = 7;
    for (let i = 0; i < length; i++) {
      const flags = (i < length - 1 || linkLast ? IOSQE_IO_HARDLINK : 0) | (i === skipped ? SKIP : 0);
      queue(this.#ring, i, flags, i === failing ? fails(this.#pipe) : nop);
    }
    this.#ring.submit();
    const told = Array.from({ length }, (_, i) => i).filter((i) => i !== skipped || i === failing);
    this.expect(told.map((i) => [i, i === failing ? EFAULT : 0]));
  }
}

forEachKind(({ name, options, skip }) => {
  test(`liburing skip-cqe: ${name}: links whose success is not told`, { skip }, () => {
    using ring = makeRing(16, options);
    using pipe = new Pipe();
    const skipping = new Skipping(ring, pipe);
    for (const length of [1, LENGTH]) {
      for (const skipLast of [false, true]) skipping.success(length, skipLast);
    }
    for (const failing of [MIDDLE, LAST]) skipping.failure(failing);
  });

  test(`liburing skip-cqe: ${name}: with a time limit that is not reached`, { skip }, () => {
    using ring = makeRing(16, options);
    using pipe = new Pipe();
    const skipping = new Skipping(ring, pipe);
    for (const async of [false, true]) {
      skipping.limited(1, 0, async);
      skipping.limited(LENGTH, MIDDLE, async);
      skipping.limited(LENGTH, LAST, async);
      for (const failing of [MIDDLE, MIDDLE - 1, MIDDLE + 1]) {
        skipping.limited(LENGTH, MIDDLE, async, failing);
      }
    }
  });

  test(`liburing skip-cqe: ${name}: with a time limit that is reached`, { skip }, () => {
    using ring = makeRing(16, options);
    using pipe = new Pipe();
    const skipping = new Skipping(ring, pipe);
    for (let i = 0; i < 8; i++) skipping.expired((i & 1) !== 0, (i & 2) !== 0, (i & 4) !== 0);
  });

  test(`liburing skip-cqe: ${name}: hard links`, { skip }, () => {
    using ring = makeRing(16, options);
    using pipe = new Pipe();
    const skipping = new Skipping(ring, pipe);
    for (const failing of [0, 3, 6]) {
      for (const skipped of [0, 3, 6]) {
        for (const linkLast of [false, true]) skipping.hard(failing, skipped, linkLast);
      }
    }
  });
});
