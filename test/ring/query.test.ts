/** Asking the kernel what it has: probes and queries, with a ring and without. */
import assert from "node:assert/strict";
import {
  getProbe,
  IO_URING_QUERY_OPCODES,
  IO_URING_QUERY_SCQ,
  IO_URING_QUERY_ZCRX,
  IORING_ENTER_EXT_ARG,
  IORING_FEAT_NODROP,
  IORING_OP_NOP,
  IORING_OP_READV,
  IORING_OP_WRITE,
  IORING_REGISTER_QUERY,
  IORING_SETUP_R_DISABLED,
  IOSQE_FIXED_FILE,
  ioUringRegister,
  queryOpcodes,
  queryScq,
  queryZcrx,
  registerQuery,
} from "../../src/ring/mod.ts";
import { kernelHas } from "../../src/ffi/kernel.ts";
import { io_uring_query_hdr, io_uring_query_opcode } from "../../src/ffi/structs.ts";
import { openRings } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { type Block, block, forEachKind, makeRing } from "../support/rings.ts";

checkLeaks();

const EOPNOTSUPP = -95;
const noQuery = kernelHas("6.18") ? false : "needs Linux 6.18";
const noZcrxQuery = kernelHas("6.19") ? false : "needs Linux 6.19";

forEachKind(({ name, options, skip }) => {
  test(`liburing probe: ${name}: what the kernel supports`, { skip }, () => {
    using ring = makeRing(8, options);
    const none = ring.registerProbe(0);
    assert.ok(none.lastOp > 0);
    assert.equal(none.opcodeSupported(IORING_OP_NOP), false);
    const all = ring.registerProbe(256);
    assert.equal(all.lastOp, none.lastOp);
    for (const op of [IORING_OP_NOP, IORING_OP_READV, IORING_OP_WRITE, all.lastOp]) {
      assert.equal(all.opcodeSupported(op), true, `${op}`);
    }
    assert.equal(ring.registerProbe(IORING_OP_READV).opcodeSupported(IORING_OP_READV), false);
    for (const count of [-1, 257, 1.5]) assert.throws(() => ring.registerProbe(count), RangeError);
  });

  test(
    `liburing ring-query: ${name}: a ring answers as the kernel alone does`,
    { skip: skip || noQuery },
    () => {
      using ring = makeRing(2, options);
      const ask = { op: IO_URING_QUERY_OPCODES, data: new Uint8Array(io_uring_query_opcode.size) };
      const [answer] = ring.registerQuery([ask]);
      assert.deepEqual(answer, { result: 0, size: answer!.size });
      const alone = { op: IO_URING_QUERY_OPCODES, data: new Uint8Array(io_uring_query_opcode.size) };
      assert.deepEqual(registerQuery([alone]), [answer]);
      assert.deepEqual(ask.data, alone.data);
    },
  );
});

test("liburing probe: without a ring of one's own", () => {
  const before = openRings();
  const probe = getProbe();
  assert.equal(openRings(), before);
  using ring = makeRing(1);
  assert.equal(probe.lastOp, ring.getProbe().lastOp);
  assert.equal(probe.opcodeSupported(IORING_OP_NOP), true);
});

test("liburing ring-query: operations and flags", { skip: noQuery }, () => {
  const found = queryOpcodes();
  assert.equal(found.requestOpcodes, getProbe().lastOp + 1);
  assert.ok(found.registerOpcodes > IORING_REGISTER_QUERY);
  for (
    const [flags, bit] of [
      [found.featureFlags, IORING_FEAT_NODROP],
      [found.ringSetupFlags, IORING_SETUP_R_DISABLED],
      [found.enterFlags, IORING_ENTER_EXT_ARG],
      [found.sqeFlags, IOSQE_FIXED_FILE],
    ] as const
  ) assert.equal(flags & bit, bit);
  using ring = makeRing(1);
  assert.equal(ring.features & ~found.featureFlags, 0);
});

test("liburing ring-query: zero-copy receive and the ring's header", { skip: noZcrxQuery }, () => {
  const { ctrlOpcodes, rqHdrSize, rqHdrAlignment } = queryZcrx();
  assert.ok(ctrlOpcodes >= 1 && rqHdrSize >= 8 && rqHdrAlignment >= 1);
  const { hdrSize, hdrAlignment } = queryScq();
  assert.ok(hdrSize >= 64 && hdrAlignment >= 1);
  assert.ok(queryOpcodes().queryOpcodes > IO_URING_QUERY_SCQ);
});

test("a question that the kernel does not know", { skip: noQuery }, () => {
  const data = new Uint8Array(16);
  assert.deepEqual(registerQuery([{ op: 0xffff_ffff, data }]), [{ result: EOPNOTSUPP, size: 0 }]);
  if (noZcrxQuery === false) return;
  assert.throws(() => queryZcrx(), { code: "ENOTSUP", message: /IO_URING_QUERY_ZCRX needs Linux 6\.19/ });
  assert.throws(() => queryScq(), { code: "ENOTSUP", message: /IO_URING_QUERY_SCQ needs Linux 6\.19/ });
});

test("liburing ring-query: several questions at once", { skip: noQuery }, () => {
  const ask = (op: number) => ({ op, data: new Uint8Array(io_uring_query_opcode.size) });
  const queries = [
    ask(IO_URING_QUERY_OPCODES),
    ask(0xff),
    ask(IO_URING_QUERY_OPCODES),
    ask(IO_URING_QUERY_ZCRX),
  ];
  const results = registerQuery(queries);
  assert.equal(results.length, 4);
  assert.deepEqual([results[0]!.result, results[1]!.result, results[2]!.result], [0, EOPNOTSUPP, 0]);
  assert.deepEqual(queries[0]!.data, queries[2]!.data);
  assert.equal(results[3]!.result, noZcrxQuery === false ? 0 : EOPNOTSUPP);
  assert.deepEqual(registerQuery([]), []);
});

test("liburing ring-query: shorter and longer answers than the kernel's", { skip: noQuery }, () => {
  const full = queryOpcodes();
  const short = new Uint8Array(8);
  assert.deepEqual(registerQuery([{ op: IO_URING_QUERY_OPCODES, data: short }]), [{ result: 0, size: 8 }]);
  assert.deepEqual([...new Uint32Array(short.buffer)], [full.requestOpcodes, full.registerOpcodes]);
  const long = new Uint8Array(io_uring_query_opcode.size + 64).fill(0xff);
  // What the kernel reads must be zero where it knows nothing.
  const [{ result, size } = { result: 1, size: 0 }] = registerQuery([{
    op: IO_URING_QUERY_OPCODES,
    data: long.fill(0),
  }]);
  assert.equal(result, 0);
  assert.ok(size >= io_uring_query_opcode.nr_query_opcodes && size <= long.length, `${size}`);
  assert.equal(new Uint32Array(long.buffer)[0], full.requestOpcodes);
});

/** A header by itself. */
function header(data: Block, next: number): Block {
  const made = block(io_uring_query_hdr.size);
  made.view.setBigUint64(io_uring_query_hdr.next_entry, BigInt(next), true);
  made.view.setBigUint64(io_uring_query_hdr.query_data, BigInt(data.address), true);
  made.view.setUint32(io_uring_query_hdr.size_, data.bytes.length, true);
  return made;
}

test("liburing ring-query: chains that lead nowhere or in a circle", { skip: noQuery }, () => {
  const data = block(io_uring_query_opcode.size);
  const nowhere = header(data, 0xdead_beef);
  assert.throws(() => ioUringRegister(-1, IORING_REGISTER_QUERY, nowhere.bytes, 0), { code: "EFAULT" });
  const lost = header(data, 0);
  lost.view.setBigUint64(io_uring_query_hdr.query_data, 0xdead_beefn, true);
  assert.throws(() => ioUringRegister(-1, IORING_REGISTER_QUERY, lost.bytes, 0), { code: "EFAULT" });
  const circle = header(data, 0);
  circle.view.setBigUint64(io_uring_query_hdr.next_entry, BigInt(circle.address), true);
  assert.throws(() => ioUringRegister(-1, IORING_REGISTER_QUERY, circle.bytes, 0), /ERANGE|EINVAL/);
  assert.throws(() => ioUringRegister(-1, IORING_REGISTER_QUERY, header(data, 0).bytes, 1), {
    code: "EINVAL",
  });
});
