/** The parts of `uring/nvme` that need no disk: statuses, what devices say of themselves, transfers, and files that are none. */
import assert from "node:assert/strict";
import { NvmeController, NvmeError, NvmeNamespace } from "../../src/nvme/mod.ts";
import { nvme_id_ctrl, nvme_id_ns, nvme_id_ns_zns } from "../../src/nvme/abi.ts";
import { CommandQueue } from "../../src/nvme/command.ts";
import {
  parseAppendLimit,
  parseCommandSet,
  parseController,
  parseNamespace,
} from "../../src/nvme/identify.ts";
import { makeTransfer, type TransferOptions } from "../../src/nvme/transfer.ts";
import { parseReport, reportSize } from "../../src/nvme/zones.ts";
import { IORING_OP_URING_CMD, IORING_SETUP_CQE32, IORING_SETUP_SQE128 } from "../../src/ring/mod.ts";
import { TempDir } from "../support/descriptors.ts";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { missingOp, missingRing } from "../support/rings.ts";
import "../support/loop.ts";

checkLeaks();

const lacking = firstReason(
  missingRing({ flags: IORING_SETUP_SQE128 | IORING_SETUP_CQE32 }),
  missingOp(IORING_OP_URING_CMD),
);

test("statuses have names, and say whether trying again makes sense", () => {
  const range = new NvmeError(0x4080, "nvme_read");
  assert.deepEqual([range.code, range.status, range.retryable, range.command], [
    "NVME_SC_LBA_RANGE",
    0x80,
    false,
    "nvme_read",
  ]);
  assert.equal(
    range.message,
    "NVME_SC_LBA_RANGE: blocks beyond the namespace's end, nvme_read (status 0x4080)",
  );
  assert.equal(new NvmeError(0x21, "nvme_write").retryable, true);
  // Made by a vendor.
  assert.equal(new NvmeError(0x47c1, "nvme_write").code, "NVME_SC_7C1");
  assert.ok(range instanceof Error && range.name === "NvmeError");
});

test("what a controller says", () => {
  const bytes = new Uint8Array(4096);
  const view = new DataView(bytes.buffer);
  view.setUint16(nvme_id_ctrl.vid, 0x1234, true);
  bytes.set(new TextEncoder().encode("serial              model   "), nvme_id_ctrl.sn);
  bytes.set(new TextEncoder().encode("nqn.2014\0rubbish"), nvme_id_ctrl.subnqn);
  view.setUint32(nvme_id_ctrl.ver, 0x0002_0100, true);
  view.setUint8(nvme_id_ctrl.mdts, 5);
  const info = parseController(bytes);
  assert.deepEqual(
    [info.vendorId, info.serialNumber, info.modelNumber, info.subsystemName, info.version, info.maxTransfer],
    [0x1234, "serial", "model", "nqn.2014", "2.1.0", 131_072],
  );
  assert.equal(info.volatileWriteCache, false);
  assert.equal(parseController(new Uint8Array(4096)).maxTransfer, Infinity);
  assert.equal(parseAppendLimit(new Uint8Array(4096), 131_072), 131_072);
  assert.equal(parseAppendLimit(Uint8Array.of(2), 131_072), 16_384);
  assert.equal(parseAppendLimit(Uint8Array.of(9), 131_072), 131_072);
});

/** A namespace of 512-byte blocks, or of 4 KiB with metadata. */
function namespace(flbas: number, dps = 0): ReturnType<typeof parseNamespace> {
  const bytes = new Uint8Array(4096);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(nvme_id_ns.nsze, 2n ** 33n, true);
  view.setUint8(nvme_id_ns.nlbaf, 17);
  view.setUint8(nvme_id_ns.flbas, flbas);
  view.setUint8(nvme_id_ns.dps, dps);
  [[0, 9], [8, 12], [64, 12]].forEach(([metadata, power], i) => {
    view.setUint16(nvme_id_ns.lbaf + 4 * i, metadata!, true);
    view.setUint8(nvme_id_ns.lbaf + 4 * i + 2, power!);
  });
  // The eighteenth format, whose number has one of the upper bits.
  view.setUint8(nvme_id_ns.lbaf + 4 * 17 + 2, 13);
  return parseNamespace(3, bytes, 0, null);
}

test("what a namespace says", () => {
  const plain = namespace(0);
  assert.deepEqual([plain.nsid, plain.blocks, plain.blockSize, plain.metadataSize], [3, 2 ** 33, 512, 0]);
  assert.deepEqual([plain.nguid, plain.eui64, plain.zones, plain.formats.length], [null, null, null, 18]);
  const checked = namespace(0x11, 0b1010);
  assert.deepEqual(
    [
      checked.blockSize,
      checked.metadataSize,
      checked.extended,
      checked.protectionType,
      checked.protectionFirst,
    ],
    [4096, 8, true, 2, true],
  );
  assert.deepEqual([namespace(0x21).format, namespace(0x21).blockSize], [17, 8192]);
});

test("what a zoned namespace says", () => {
  const zoned = new Uint8Array(4096);
  const view = new DataView(zoned.buffer);
  view.setUint32(nvme_id_ns_zns.mar, 13, true);
  view.setUint32(nvme_id_ns_zns.mor, 0xffff_ffff, true);
  view.setBigUint64(nvme_id_ns_zns.lbafe, 0x8_0000n, true);
  const info = parseNamespace(1, new Uint8Array(4096), 2, zoned);
  assert.deepEqual(info.zones, { blocks: 0x8_0000, maxActive: 14, maxOpen: Infinity });
  // Two other identifiers go before the one that is looked for.
  const list = Uint8Array.of(
    1,
    8,
    0,
    0,
    ...Array(8).fill(7),
    3,
    16,
    0,
    0,
    ...Array(16).fill(7),
    4,
    1,
    0,
    0,
    2,
    0,
  );
  assert.equal(parseCommandSet(list), 2);
  assert.equal(parseCommandSet(new Uint8Array(4096)), 0);
  assert.equal(parseCommandSet(Uint8Array.of(1, 255, 0, 0, 1)), 0);
});

test("what a report of zones says, and no more than there is", () => {
  const bytes = new Uint8Array(reportSize(2));
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, 100n, true);
  [[0x10, 0], [0xe0, 4096]].forEach(([state, start], i) => {
    view.setUint8(64 + 64 * i, 2);
    view.setUint8(64 + 64 * i + 1, state!);
    view.setBigUint64(64 + 64 * i + 8, 1000n, true);
    view.setBigUint64(64 + 64 * i + 16, BigInt(start!), true);
    view.setBigUint64(64 + 64 * i + 24, BigInt(start!), true);
  });
  assert.deepEqual(parseReport(bytes).map(({ start, state, sequential }) => [start, state, sequential]), [
    [0, "empty", true],
    [4096, "full", true],
  ]);
});

test("transfers: what the command says of the blocks and of their protection", () => {
  const memory = new Uint8Array(4096);
  const { command, data } = makeTransfer(namespace(0), Infinity, 2, memory, {
    block: 2n ** 32n + 5n,
    offset: 1024,
    forceUnitAccess: true,
    timeout: 50,
  });
  assert.deepEqual(command, {
    opcode: 2,
    nsid: 3,
    cdw10: 5,
    cdw11: 1,
    cdw12: 0x4000_0005,
    cdw14: 5,
    cdw15: 0xffff_0000,
    timeout: 50,
  });
  assert.deepEqual([data.offset, data.length], [1024, 3072]);
  const protection = { byController: true, checkGuard: true, checkAppTag: true, checkRefTag: true };
  const checked = makeTransfer(namespace(1, 1), Infinity, 1, memory, {
    block: 0xffff_ffff,
    protection: { ...protection, appTag: 7, appMask: 0xff },
  });
  assert.deepEqual(
    [checked.command.cdw12, checked.command.cdw14, checked.command.cdw15],
    [0x3c00_0000, 0xffff_ffff, 0x00ff_0007],
  );
});

test("transfers: metadata lies in memory of its own, behind each block, or nowhere", () => {
  const make = (flbas: number, dps: number, length: number, options: Partial<TransferOptions> = {}) =>
    makeTransfer(namespace(flbas, dps), Infinity, 2, new Uint8Array(length), { block: 0, ...options });
  const metadata = new Uint8Array(16);
  assert.equal(make(1, 1, 8192, { metadata }).command.cdw12, 1);
  assert.throws(() => make(1, 1, 8192), RangeError);
  assert.throws(() => make(1, 0, 8192, { protection: { byController: true } }), RangeError);
  assert.equal(make(1, 1, 8192, { protection: { byController: true } }).command.cdw12, 0x2000_0001);
  // More than the protection information is never taken away.
  assert.throws(() => make(2, 1, 8192, { protection: { byController: true } }), RangeError);
  assert.equal(make(0x11, 0, 2 * 4104).command.cdw12, 1);
  assert.throws(() => make(0x11, 0, 8192), RangeError);
  assert.throws(() => make(0x11, 0, 2 * 4104, { metadata }), RangeError);
  assert.throws(() => make(0, 0, 65_537 * 512), RangeError);
  assert.throws(() => makeTransfer(namespace(0), 512, 2, new Uint8Array(1024), { block: 0 }), RangeError);
});

test("files that are no NVMe devices' are refused", { skip: lacking }, async () => {
  using dir = new TempDir();
  const refused = { code: "ENOTTY", message: /not the character device of an NVMe controller/ };
  await assert.rejects(NvmeController.open("/dev/null"), refused);
  await assert.rejects(NvmeController.open("/dev/zero"), refused);
  await assert.rejects(NvmeController.open(dir.of("missing")), { code: "ENOENT" });
  await assert.rejects(NvmeNamespace.open("/dev/null", { controller: "/dev/null" }), refused);
  await assert.rejects(NvmeNamespace.open("/dev/null"), { name: "TypeError", message: /controller/ });
});

test("commands to a device that takes them all", { skip: lacking }, async () => {
  const queue = new CommandQueue(false, { entries: 4 });
  const fd = await queue.uring.openat("/dev/null", { flags: 2 });
  const data = { memory: new Uint8Array(512) };
  const results = await Promise.all(
    Array.from({ length: 40 }, (_, i) => queue.submit("nvme_test", fd, 0, { opcode: i % 3 }, data, () => i)),
  );
  assert.deepEqual(results, Array.from({ length: 40 }, (_, i) => i));
  assert.throws(() => queue.submit("nvme_test", fd, 0, { opcode: -1 }, null, () => 0), RangeError);
  assert.throws(() => queue.submit("nvme_test", fd, 0, { opcode: 0, nsid: 0.5 }, null, () => 0), RangeError);
  await assert.rejects(
    queue.submit("nvme_test", fd, 0, { opcode: 0 }, null, () => {
      throw new Error("no sense in it");
    }),
    { message: "no sense in it" },
  );
  await queue.uring.close(fd);
  await queue.close();
  assert.throws(() => queue.submit("nvme_test", fd, 0, { opcode: 0 }, null, () => 0), TypeError);
});

test(
  "kernels without large entries say so",
  { skip: lacking === false ? "this kernel has them" : false },
  async () => {
    await assert.rejects(NvmeController.open("/dev/null"), /Linux 5\.19/);
  },
);
