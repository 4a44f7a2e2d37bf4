/** Commands to an NVMe disk, past the block layer: large entries, large completions, polled and not. */
import assert from "node:assert/strict";
import {
  IORING_SETUP_CQE32,
  IORING_SETUP_HYBRID_IOPOLL,
  IORING_SETUP_IOPOLL,
  IORING_SETUP_SQE128,
  IORING_SETUP_SQPOLL,
  IORING_URING_CMD_FIXED,
  IOSQE_ASYNC,
  IOSQE_FIXED_FILE,
  IOSQE_IO_LINK,
  Mapping,
  O_RDWR,
  type Ring,
} from "../../src/ring/mod.ts";
import { iovec } from "../../src/ffi/structs.ts";
import { assertContent, content } from "../support/content.ts";
import { Fd } from "../support/descriptors.ts";
import { labDisk, missingLabDisk } from "../support/devices.ts";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import {
  encodeNvme,
  namespaceOf,
  NVME_READ,
  NVME_URING_CMD_IO,
  NVME_URING_CMD_IO_VEC,
  NVME_WRITE,
} from "../support/nvme.ts";
import { block, entry, makeRing, missingRing, once, reap } from "../support/rings.ts";

checkLeaks();

const BLOCK = 512;
/** What one command transfers. */
const PIECE = 8192;
const PIECES = 32;
const LARGE = IORING_SETUP_SQE128 | IORING_SETUP_CQE32;

const noDisk = missingLabDisk("plain");

function openDisk(): Fd {
  return Fd.open(`/dev/${labDisk("plain")!.replace("nvme", "ng")}`, O_RDWR);
}

interface Way {
  readonly flags?: number;
  readonly fixed?: boolean;
  readonly vectors?: boolean;
  readonly registeredFile?: boolean;
  readonly async?: boolean;
  readonly linked?: boolean;
}

const WAYS: Readonly<Record<string, Way>> = {
  "one piece of memory": {},
  "vectors": { vectors: true },
  "a registered buffer": { fixed: true },
  "vectors in a registered buffer": { fixed: true, vectors: true },
  "by worker threads": { async: true, fixed: true },
  "linked": { linked: true },
  "SQPOLL and a registered file": { flags: IORING_SETUP_SQPOLL, registeredFile: true },
  "SQPOLL with a registered buffer": { flags: IORING_SETUP_SQPOLL, registeredFile: true, fixed: true },
  "IOPOLL": { flags: IORING_SETUP_IOPOLL },
  "HYBRID_IOPOLL": { flags: IORING_SETUP_IOPOLL | IORING_SETUP_HYBRID_IOPOLL, fixed: true },
};

/** Moves all pieces between the disk and memory. */
function transfer(ring: Ring, disk: Fd, memory: Mapping, opcode: number, way: Way): void {
  const nsid = namespaceOf(disk.fd);
  const expected = new Set<number>();
  for (let piece = 0, command = 0; piece < PIECES; command++) {
    if (way.linked === true) {
      const nop = entry(ring, 1000 + command, (sqe) => sqe.prepNop());
      nop.flags |= IOSQE_IO_LINK;
      expected.add(1000 + command);
    }
    const count = way.vectors === true ? Math.min([1, 3, 9][command % 3]!, PIECES - piece) : 1;
    const sqe = entry(ring, command, (sqe) => {
      const number = way.registeredFile === true ? 0 : disk.fd;
      sqe.prepUringCmd(way.vectors === true ? NVME_URING_CMD_IO_VEC : NVME_URING_CMD_IO, number);
    });
    expected.add(command);
    if (way.registeredFile === true) sqe.flags |= IOSQE_FIXED_FILE;
    if (way.async === true) sqe.flags |= IOSQE_ASYNC;
    if (way.fixed === true) sqe.opFlags = IORING_URING_CMD_FIXED;
    const start = memory.address + piece * PIECE;
    encodeNvme(sqe.cmd, {
      opcode,
      nsid,
      block: piece * PIECE / BLOCK,
      blocks: count * PIECE / BLOCK,
      address: way.vectors === true ? vectors(start, count) : start,
      length: way.vectors === true ? count : PIECE,
    });
    piece += count;
  }
  for (const { userData, res } of reap(ring, expected.size)) {
    assert.equal(res, 0, `command ${userData}`);
    assert.ok(expected.delete(userData));
  }
}

function vectors(start: number, count: number): number {
  const made = block(count * iovec.size);
  for (let i = 0; i < count; i++) {
    made.view.setBigUint64(i * iovec.size + iovec.iov_base, BigInt(start + i * PIECE), true);
    made.view.setBigUint64(i * iovec.size + iovec.iov_len, BigInt(PIECE), true);
  }
  return made.address;
}

for (const [name, way] of Object.entries(WAYS)) {
  const flags = LARGE | (way.flags ?? 0);
  const options = { flags, sqThreadIdle: 5 };
  test(
    `liburing io_uring_passthrough: ${name}`,
    { skip: firstReason(noDisk, missingRing({ flags })) },
    () => {
      using disk = openDisk();
      using memory = Mapping.anonymous(PIECES * PIECE);
      const bytes = new Uint8Array(memory.buffer);
      using ring = makeRing(128, options);
      if (way.fixed === true) ring.registerBuffers([{ address: memory.address, length: memory.byteLength }]);
      if (way.registeredFile === true) ring.registerFiles([disk.fd]);
      const file = Object.keys(WAYS).indexOf(name);
      bytes.set(content(bytes.length, file));
      transfer(ring, disk, memory, NVME_WRITE, way);
      bytes.fill(0);
      transfer(ring, disk, memory, NVME_READ, way);
      assertContent(bytes, bytes.length, 0, file);
    },
  );
}

test("liburing io_uring_passthrough: a namespace that is not there is refused", { skip: noDisk }, () => {
  using disk = openDisk();
  using ring = makeRing(1, { flags: LARGE });
  const memory = block(PIECE);
  const { res } = once(ring, (sqe) => {
    sqe.prepUringCmd(NVME_URING_CMD_IO, disk.fd);
    encodeNvme(sqe.cmd, {
      opcode: NVME_READ,
      nsid: namespaceOf(disk.fd) + 100,
      block: 0,
      blocks: PIECE / BLOCK,
      address: memory.address,
      length: PIECE,
    });
  });
  assert.equal(res, -22);
});

test("liburing io_uring_passthrough: a polled ring is looked after by submitting alone", {
  skip: firstReason(noDisk, missingRing({ flags: LARGE | IORING_SETUP_IOPOLL })),
}, () => {
  using disk = openDisk();
  using memory = Mapping.anonymous(PIECE);
  using ring = makeRing(8, { flags: LARGE | IORING_SETUP_IOPOLL });
  entry(ring, 1, (sqe) => {
    sqe.prepUringCmd(NVME_URING_CMD_IO, disk.fd);
    encodeNvme(sqe.cmd, {
      opcode: NVME_READ,
      nsid: namespaceOf(disk.fd),
      block: 0,
      blocks: PIECE / BLOCK,
      address: memory.address,
      length: PIECE,
    });
  });
  assert.equal(ring.submit(), 1);
  let res: number | undefined;
  for (let i = 0; i < 100_000 && res === undefined; i++) {
    assert.equal(ring.submit(), 0);
    ring.forEachCqe((cqe) => res = cqe.res);
  }
  assert.equal(res, 0);
});

test("an entry of 64 bytes has no room for it", { skip: noDisk }, () => {
  using disk = openDisk();
  using ring = makeRing(1);
  const { res } = once(ring, (sqe) => sqe.prepUringCmd(NVME_URING_CMD_IO, disk.fd));
  assert.ok(res < 0, `${res}`);
});
