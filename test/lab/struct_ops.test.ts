/** BPF programs that take the place of a ring's wait loop. */
import assert from "node:assert/strict";
import {
  IORING_ENTER_GETEVENTS,
  IORING_SETUP_DEFER_TASKRUN,
  IORING_SETUP_NO_SQARRAY,
  IORING_SETUP_SINGLE_ISSUER,
  IORING_SETUP_SQ_REWIND,
} from "../../src/ring/mod.ts";
import { test } from "../support/lab.ts";
import { checkLeaks } from "../support/leaks.ts";
import { entry, makeRing, once } from "../support/rings.ts";
import { EXIT, load, LOOP_STOP, LoopProgram, move } from "../support/struct_ops.ts";

checkLeaks();

const FLAGS = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_NO_SQARRAY |
  IORING_SETUP_SQ_REWIND;

test("a program that ends the loop at once: nobody waits for what never comes", () => {
  using ring = makeRing(8, { flags: FLAGS });
  {
    using _program = new LoopProgram(ring.fd, [move(0, LOOP_STOP), EXIT]);
    assert.equal(ring.enter(0, 0, IORING_ENTER_GETEVENTS), 0);
    assert.equal(ring.cqReady(), 0);
  }
  assert.equal(once(ring, (sqe) => sqe.prepNop()).res, 0);
});

test("a program that submits what stands in the queue", () => {
  using ring = makeRing(8, { flags: FLAGS });
  using _program = new LoopProgram(ring.fd, [
    load(1, 1, 0),
    move(2, 3),
    { call: "bpf_io_uring_submit_sqes" },
    move(0, LOOP_STOP),
    EXIT,
  ]);
  for (let i = 0; i < 3; i++) entry(ring, i, (sqe) => sqe.prepNop());
  ring.enter(0, 0, IORING_ENTER_GETEVENTS);
  const seen: number[] = [];
  ring.forEachCqe(({ userData, res }) => void seen.push(userData, res));
  assert.deepEqual(seen, [0, 0, 1, 0, 2, 0]);
});
