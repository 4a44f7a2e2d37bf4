/** Twins of liburing's programs about drains: entries that wait for all that came before them. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { io_sqring_offsets, io_uring_params } from "../../src/ffi/structs.ts";
import { system } from "../../src/ffi/system.ts";
import {
  IORING_CQE_F_MORE,
  IORING_SETUP_IOPOLL,
  IORING_SETUP_SQPOLL,
  IOSQE_IO_DRAIN,
  IOSQE_IO_LINK,
  O_WRONLY,
  POLLIN,
  type Ring,
  type RingOptions,
  type Sqe,
} from "../../src/ring/mod.ts";
import { RingWaits } from "../../src/ring/waits.ts";
import { type RingParts, setupRing } from "../../src/ring/setup.ts";
import { Fd, Pipe, TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { Random } from "../support/random.ts";
import {
  block,
  entry,
  eventually,
  forEachKind,
  iovecs,
  makeRing,
  missingRing,
  reap,
  sleep,
  timespec,
} from "../support/rings.ts";

checkLeaks();

const ENOENT = -2;
const ETIME = -62;
const ECANCELED = -125;

function queue(ring: Ring, userData: number, flags: number, prep: (sqe: Sqe) => void): void {
  entry(ring, userData, (sqe) => {
    prep(sqe);
    sqe.flags = flags;
  });
}

const nop = (sqe: Sqe): void => sqe.prepNop();
const upTo = (count: number): number[] => Array.from({ length: count }, (_, i) => i);
const LINK = IOSQE_IO_LINK;
const DRAIN = IOSQE_IO_DRAIN;

forEachKind(({ name, options, skip }) => {
  test(`liburing link_drain: ${name}: a drain within a chain keeps all in order`, { skip }, () => {
    using dir = new TempDir();
    writeFileSync(dir.of("file"), "");
    using file = Fd.open(dir.of("file"), O_WRONLY);
    using ring = makeRing(16, options);
    const page = block(4096);
    const vector = iovecs([page]).address;
    const write = (sqe: Sqe): void => sqe.prepWritev(file.fd, vector, 1, 0);
    const run = (entries: readonly (readonly [flags: number, prep: (sqe: Sqe) => void])[]): void => {
      entries.forEach(([flags, prep], i) => queue(ring, i, flags, prep));
      const found = reap(ring, entries.length);
      assert.deepEqual(found.map(({ userData }) => userData), upTo(entries.length));
      for (const { userData, res } of found) assert.equal(res, entries[userData]![1] === write ? 4096 : 0);
    };
    for (let round = 0; round < 20; round++) {
      run([[0, write], [LINK, nop], [LINK | DRAIN, nop], [0, nop], [0, nop]]);
      run([
        [0, write],
        ...[[LINK, nop], [LINK | DRAIN, nop], [0, nop]] as const,
        ...[[LINK, nop], [LINK, nop], [LINK | DRAIN, write], [0, nop]] as const,
        [0, nop],
      ]);
    }
  });

  test(`liburing defer: ${name}: drains with time limits, one after the other`, { skip }, () => {
    using ring = makeRing(8, options);
    const [short, long] = [timespec(5), timespec(60_000)];
    for (
      const [timeout, limit, results] of [[short, long, [ETIME, ECANCELED]], [long, short, [
        ECANCELED,
        ETIME,
      ]]] as const
    ) {
      for (let i = 0; i < 3; i++) {
        queue(ring, 2 * i, LINK | DRAIN, (sqe) => sqe.prepTimeout(timeout, 0, 0));
        queue(ring, 2 * i + 1, 0, (sqe) => sqe.prepLinkTimeout(limit, 0));
      }
      const found = reap(ring, 6);
      assert.deepEqual(found.map(({ userData }) => userData >> 1), [0, 0, 1, 1, 2, 2]);
      for (const { userData, res } of found) assert.equal(res, results[userData & 1]);
    }
  });

  test(
    `liburing multicqes_drain: ${name}: a drain waits for the end of a poll that repeats`,
    { skip },
    () => {
      // The kernel may go on deferring after a drain, even behind a multishot that goes on, so each round has its ring.
      for (let round = 0; round < 5; round++) {
        using ring = makeRing(16, options);
        pollAndDrain(ring);
      }
    },
  );
});

function pollAndDrain(ring: Ring): void {
  using repeated = new Pipe();
  using single = new Pipe();
  queue(ring, 0, 0, (sqe) => sqe.prepPollMultishot(repeated.reader.fd, POLLIN));
  queue(ring, 1, 0, (sqe) => sqe.prepPollAdd(single.reader.fd, POLLIN));
  ring.submitAndGetEvents();
  for (const pipe of [repeated, repeated, single]) {
    pipe.write("foo");
    const userData = pipe === single ? 1 : 0;
    const flags = pipe === single ? 0 : IORING_CQE_F_MORE;
    assert.deepEqual(reap(ring, 1), [{ userData, res: POLLIN, flags }]);
    pipe.read();
  }
  queue(ring, 2, 0, (sqe) => sqe.prepPollRemove(0));
  queue(ring, 3, DRAIN, nop);
  const found = reap(ring, 3).map(({ userData, res }) => [userData, res]);
  assert.deepEqual([...found].sort(), [[0, ECANCELED], [2, 0], [3, 0]]);
  assert.deepEqual(found[2], [3, 0], "the drain is the last");
}

/** What `multicqes_drain` mixes, and how it is to be flagged. */
type Kind = "multi" | "single" | "nop" | "cancel";

interface Step {
  readonly kind: Kind;
  readonly flags: number;
  /** Which step a cancel cancels. */
  readonly target: number;
}

const STEPS = 50;

/**
 * A random mix in which every multishot is cancelled, nothing drains while one goes on, and cancels and multishots are
 * in no chain. No multishot drains, as does also whatever follows a chain in which something drains: what comes after a
 * drain waits for its end, and so would the cancel.
 */
function mix(random: Random): Step[] {
  const steps: Step[] = [];
  const going: number[] = [];
  let multis = STEPS / 5;
  let drained = false;
  let chainDrains = false;
  for (let i = 0; i < STEPS; i++) {
    const linked = ((steps[i - 1]?.flags ?? 0) & LINK) !== 0;
    const ending = i >= STEPS - STEPS / 5;
    const kinds: Kind[] = ["single", "nop"];
    if (!linked) drained = chainDrains;
    if (!linked) chainDrains = false;
    if (!linked && multis > 0 && !ending && !drained) kinds.push("multi");
    if (!linked && going.length > 0) kinds.push("cancel");
    const kind = ending && going.length > 0 && !linked ? "cancel" : random.pick(kinds);
    let flags = going.length > 0 ? random.pick([0, LINK]) : random.pick([0, LINK, DRAIN, LINK | DRAIN]);
    if (kind === "cancel" || (ending && going.length > 0)) flags = 0;
    if (kind === "multi") {
      flags = 0;
      multis--;
    }
    if ((flags & DRAIN) !== 0) chainDrains = true;
    const target = kind === "cancel" ? going.splice(random.below(going.length), 1)[0]! : -1;
    if (kind === "multi") going.push(i);
    steps.push({ kind, flags, target });
  }
  assert.equal(going.length, 0);
  return steps;
}

function prepare(sqe: Sqe, { kind, target }: Step, fd: number): void {
  if (kind === "multi") sqe.prepPollMultishot(fd, POLLIN);
  else if (kind === "single") sqe.prepPollAdd(fd, POLLIN);
  else if (kind === "cancel") sqe.prepPollRemove(target);
  else sqe.prepNop();
}

/** Cancels a step that may not have begun. */
function cancel(ring: Ring, step: number): void {
  try {
    ring.registerSyncCancel({ userData: step });
  } catch (error) {
    assert.equal((error as { code?: string }).code, "ENOENT");
  }
}

/** Runs a mix, wakes its polls in order, and returns which step ended when. */
function runMix(options: RingOptions, steps: readonly Step[]): number[] {
  using ring = makeRing(64, options);
  const pipes = steps.map(() => new Pipe());
  const ended: number[] = [];
  const collect = (): void => {
    ring.getEvents();
    ring.forEachCqe((cqe) => {
      if ((cqe.flags & IORING_CQE_F_MORE) === 0) ended.push(cqe.userData);
    });
  };
  try {
    steps.forEach((step, i) => queue(ring, i, step.flags, (sqe) => prepare(sqe, step, pipes[i]!.reader.fd)));
    ring.submit();
    sleep(2);
    collect();
    steps.forEach(({ kind }, i) => {
      if (kind !== "multi" && kind !== "single") return;
      pipes[i]!.write("foo");
      sleep(1);
      collect();
    });
    eventually(() => {
      collect();
      // What a drain has held back starts in no particular order: a cancel may have come before its poll.
      steps.forEach(({ kind, target }, i) => {
        if (kind === "cancel" && ended.includes(i) && !ended.includes(target)) cancel(ring, target);
      });
      return ended.length >= STEPS;
    }, "every step has ended");
    assert.equal(new Set(ended).size, STEPS);
    return ended;
  } finally {
    for (const pipe of pipes) {
      pipe.reader.close();
      pipe.writer.close();
    }
  }
}

forEachKind(({ name, options, skip }) => {
  if (((options.flags ?? 0) & IORING_SETUP_SQPOLL) !== 0) return;
  test(`liburing multicqes_drain: ${name}: a random mix: a drain is never overtaken`, { skip }, () => {
    for (let seed = 1; seed <= 2; seed++) {
      const steps = mix(new Random(seed));
      const ended = runMix(options, steps);
      steps.forEach(({ flags }, i) => {
        if ((flags & DRAIN) === 0) return;
        const before = ended.slice(0, ended.indexOf(i)).filter((other) => other < i);
        assert.equal(before.length, i, `seed ${seed}: drain ${i} in ${ended}`);
      });
    }
  });
});

const iopoll = { flags: IORING_SETUP_IOPOLL };
const both = { flags: IORING_SETUP_IOPOLL | IORING_SETUP_SQPOLL, sqThreadIdle: 5 };

test(
  "liburing defer: a hundred links bring back their user_data in order",
  { skip: missingRing(iopoll) },
  () => {
    using ring = makeRing(128, iopoll);
    for (let i = 0; i < 100; i++) queue(ring, i, i < 99 ? LINK : 0, nop);
    assert.deepEqual(
      reap(ring, 100).map(({ userData, res }) => [userData, res]),
      upTo(100).map((i) => [i, 0]),
    );
  },
);

test("liburing defer: a kernel thread cancels a hundred links", { skip: missingRing(both) }, () => {
  using ring = makeRing(128, both);
  for (let i = 0; i < 100; i++) queue(ring, i, i < 99 ? LINK : 0, (sqe) => sqe.prepRemoveBuffers(10, 1));
  const found = reap(ring, 100).map(({ userData, res }) => [userData, res]);
  assert.deepEqual(found, upTo(100).map((i) => [i, i === 0 ? ENOENT : ECANCELED]));
});

/** Queues whose count of dropped entries can be set. */
class DroppingQueue extends RingWaits {
  readonly #parts: RingParts;

  constructor(entries: number) {
    const parts = setupRing(entries, {});
    super(parts);
    this.#parts = parts;
  }

  drop(count: number): void {
    const { params, sqRing } = this.#parts;
    const at = params.getUint32(io_uring_params.sq_off + io_sqring_offsets.dropped, true) >> 2;
    new Int32Array(sqRing.buffer)[at] = count;
  }

  close(): void {
    system().close(this.#parts.fd);
    this.#parts.sqRing.unmap();
    this.#parts.sqes.unmap();
  }
}

test("liburing defer: dropped entries do not keep drains waiting", () => {
  const ring = new DroppingQueue(16);
  try {
    ring.drop(1000);
    assert.equal(ring.sqDropped(), 1000);
    for (let i = 0; i < 10; i++) {
      const sqe = ring.getSqe()!;
      sqe.prepNop();
      sqe.userData = i;
      sqe.flags = DRAIN;
    }
    assert.equal(ring.submitAndWait(10), 10);
    const found: number[] = [];
    ring.forEachCqe((cqe) => found.push(cqe.userData));
    assert.deepEqual(found, upTo(10));
  } finally {
    ring.close();
  }
});
