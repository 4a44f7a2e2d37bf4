/** Random operations with random cancellations under forced garbage collection: see test/support/random_run.ts. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import process from "node:process";
import { test } from "../support/gate.ts";
import { checkLeaks, snapshot } from "../support/leaks.ts";
import { collect, FLAGS, makeUring, sleep, until, within } from "../support/loop.ts";
import { Random } from "../support/random.ts";
import { RandomRun } from "../support/random_run.ts";

checkLeaks();

const SECONDS = Number(process.env.URING_RANDOM_SECONDS ?? 60);
const SEED = Number(process.env.URING_RANDOM_SEED ?? Date.now() % 1_000_000);

const MIB = 1 << 20;

function residentBytes(): number {
  return Number(readFileSync("/proc/self/statm", "utf8").split(" ")[1]) * 4096;
}

/** What is open and not the runtime's business. */
function descriptors(): number {
  return [...snapshot().fds.values()].filter((what) =>
    /^(socket|pipe|anon_inode:\[io_uring)|known|scratch/.test(what)
  )
    .length;
}

/** Operations on one ring, and its end: by cancelling everything, or by closing the ring over it. */
async function round(random: Random, operations: number): Promise<RandomRun> {
  const { flags } = random.pick(FLAGS.filter(({ skip }) => skip === false));
  const uring = makeUring({ entries: random.pick([1, 4, 16, 64, 256]), flags });
  using run = new RandomRun(uring, random);
  const steps: Promise<void>[] = [];
  const failures: unknown[] = [];
  const closed = random.chance(30);
  for (let i = 0; i < operations; i++) {
    steps.push(
      run.step().catch((error) => {
        // Closing refuses what a step would have done next.
        if (!(uring.closed && error instanceof TypeError && /closed/.test(error.message))) {
          failures.push(error);
        }
      }),
    );
    if (random.chance(10)) await new Promise((resolve) => setImmediate(resolve));
    if (random.chance(3)) await sleep(random.below(3));
    if (random.chance(1)) collect();
    if (failures.length > 0) break;
  }
  const ended = Promise.all(steps);
  if (closed) {
    await sleep(random.below(5));
    await within(uring.disposeAsync(), "closing");
    run.endAll();
  } else {
    // Chains begin new steps while they end.
    const sweep = setInterval(() => run.endAll(), 5);
    run.endAll();
    await within(ended, () => run.active).finally(() => clearInterval(sweep));
    await within(until(() => run.begun === run.settled, "all have settled"), "the rest");
    await within(until(() => uring.stats.inFlight === 0, "nothing is in flight"), "the rest");
  }
  await within(ended, () => `${run.active} after closing`);
  await within(uring.disposeAsync(), "closing");
  await sleep(1);
  if (failures.length > 0) throw failures[0];
  assert.equal(uring.stats.inFlight, 0);
  run.checkLent();
  return run;
}

test(
  `random operations for ${SECONDS} seconds (URING_RANDOM_SECONDS, URING_RANDOM_SEED)`,
  { timeout: SECONDS * 1000 + 180_000 },
  async () => {
    console.log(`random operations: seed ${SEED}`);
    const random = new Random(SEED);
    const outcomes = new Map<string, number>();
    const end = performance.now() + SECONDS * 1000;
    let rounds = 0;
    let before = { descriptors: 0, resident: 0 };
    try {
      while (performance.now() < end || rounds < 3) {
        const run = await round(random, 50 + random.below(500));
        for (const [code, count] of run.outcomes) outcomes.set(code, (outcomes.get(code) ?? 0) + count);
        rounds++;
        if (rounds % 5 === 0) collect();
        // What the runtime and the waker keep is there by now.
        if (rounds === 3) {
          collect();
          before = { descriptors: descriptors(), resident: residentBytes() };
        }
      }
    } finally {
      const counts = [...outcomes].map(([code, count]) => `${count} ${code}`).join(", ");
      console.log(`random operations: seed ${SEED}, ${rounds} rounds: ${counts}`);
    }
    assert.ok((outcomes.get("ok") ?? 0) > 0 && (outcomes.get("aborted") ?? 0) > 0);
    await until(() => descriptors() <= before.descriptors, "descriptors are back");
    for (let i = 0; i < 20; i++) {
      collect();
      await sleep(5);
    }
    const grown = Math.round((residentBytes() - before.resident) / MIB);
    assert.ok(grown < 300, `memory has grown by ${grown} MiB`);
  },
);
