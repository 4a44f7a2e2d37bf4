/** Zero-copy receive: registering queues, receiving out of an area, giving buffers back, sharing a queue. */
import assert from "node:assert/strict";
import process from "node:process";
import {
  IORING_CQE_F_MORE,
  IORING_OP_RECV_ZC,
  IORING_RECV_MULTISHOT,
  IORING_REGISTER_ZCRX_CTRL,
  IORING_SETUP_CQE32,
  IORING_SETUP_DEFER_TASKRUN,
  IORING_SETUP_SINGLE_ISSUER,
  IORING_SETUP_SUBMIT_ALL,
  IOSQE_ASYNC,
  ioUringRegister,
  Mapping,
  queryZcrx,
  type Ring,
  type Sqe,
  ZCRX_CTRL_FLUSH_RQ,
  ZCRX_REG_NODEV,
  type ZcrxIfq,
  type ZcrxIfqOptions,
  zcrxOffset,
} from "../../src/ring/mod.ts";
import { kernelHas } from "../../src/ffi/kernel.ts";
import { zcrx_ctrl } from "../../src/ffi/structs.ts";
import { Fd, openRings } from "../support/descriptors.ts";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { assertQuiet, eventually, makeRing, missingRing, once } from "../support/rings.ts";
import { Connection, send } from "../support/sockets.ts";

checkLeaks();

const PAGE = 4096;
const RQ_ENTRIES = 128;
const AREA_PAGES = 132;
const BIG = {
  flags: IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQE32 |
    IORING_SETUP_SUBMIT_ALL,
};
const root = process.getuid?.() === 0;
const notThere = firstReason(kernelHas("6.15") ? false : "needs Linux 6.15", missingRing(BIG));

/** What a ring says to an attempt to register. */
function attempt(options: Partial<ZcrxIfqOptions>, ring = makeRing(8, BIG)): string {
  using _ring = ring;
  using area = Mapping.anonymous(AREA_PAGES * PAGE);
  try {
    ring.registerIfq({ rqEntries: RQ_ENTRIES, area, flags: ZCRX_REG_NODEV, ...options });
    return "";
  } catch (error) {
    return String(error);
  }
}

/** Why queues cannot be registered without a device, or `false`. */
function missingNoDevice(): string | false {
  if (notThere !== false) return notThere;
  if (!kernelHas("6.19")) return "needs Linux 6.19";
  return attempt({}) || false;
}
const noQueue = missingNoDevice();

/** A queue without a device, its area, and a connection to receive from. */
class Receiver implements Disposable {
  readonly ring: Ring = makeRing(128, BIG);
  readonly area: Mapping = Mapping.anonymous(AREA_PAGES * PAGE);
  readonly connection: Connection = Connection.tcp();
  readonly ifq: ZcrxIfq;
  readonly #bytes = new Uint8Array(this.area.buffer);

  constructor(rqEntries = RQ_ENTRIES) {
    this.ifq = this.ring.registerIfq({ rqEntries, area: this.area, flags: ZCRX_REG_NODEV });
  }

  /** Sends so many bytes and receives them; what ended it before, or 0. */
  transfer(length: number, giveBack: "never" | "at once" | "when full"): number {
    const { ring } = this;
    prepareReceive(ring.getSqe()!, this.connection.b.fd, this.ifq.id, length);
    ring.submit();
    let sent = 0;
    let received = 0;
    let ended: number | null = null;
    while (ended === null) {
      if (sent < length && sent - received < 2 * PAGE) {
        send(this.connection.a.fd, Uint8Array.from({ length: PAGE }, (_, i) => pattern(sent + i)));
        sent += PAGE;
      }
      const cqe = ring.waitCqe();
      const { res } = cqe;
      if ((cqe.flags & IORING_CQE_F_MORE) === 0) ended = res;
      else {
        const offset = zcrxOffset(cqe);
        for (let i = 0; i < res; i++) {
          if (this.#bytes[offset + i] !== pattern(received + i)) assert.fail(`byte ${received + i}`);
        }
        received += res;
        if (giveBack !== "never") this.#giveBack(offset, res, giveBack === "at once");
      }
      ring.cqeSeen(cqe);
    }
    if (ended === 0) assert.equal(received, length);
    return ended;
  }

  #giveBack(offset: number, length: number, flush: boolean): void {
    const { ifq, ring } = this;
    if (!ifq.refill(offset, length)) {
      assert.equal(ifq.queued, ifq.rqEntries);
      ring.zcrxFlush(ifq.id);
      assert.equal(ifq.queued, 0);
      assert.ok(ifq.refill(offset, length));
    }
    if (flush) ring.zcrxFlush(ifq.id);
  }

  [Symbol.dispose](): void {
    this.ring.close();
    this.connection[Symbol.dispose]();
    this.area.unmap();
  }
}

function pattern(index: number): number {
  return (index * 31 + (index >> 8)) & 0xff;
}

function prepareReceive(sqe: Sqe, fd: number, ifq: number, length = 0): void {
  sqe.prepRw(IORING_OP_RECV_ZC, fd, 0, length, 0);
  sqe.fileIndex = ifq;
  sqe.ioprio |= IORING_RECV_MULTISHOT;
}

test("what stands in the way of zero-copy receive is said", { skip: notThere }, () => {
  if (!root) {
    assert.match(attempt({ flags: 0, ifIdx: 1 }), /EPERM.*CAP_NET_ADMIN is needed/);
    return;
  }
  // The loopback device is the first.
  assert.match(attempt({ flags: 0, ifIdx: 1 }), /ENOTSUP.*header\/data split/);
  assert.match(attempt({ flags: 0, ifIdx: 4711 }), /ENODEV.*no such network interface/);
  assert.match(attempt({}, makeRing(8)), /EINVAL.*IORING_SETUP_DEFER_TASKRUN/);
  if (!kernelHas("6.19")) assert.match(attempt({}), /EINVAL.*ZCRX_REG_NODEV.*6\.19/);
});

test("what Linux 6.19 has brought is named where it is not", {
  skip: kernelHas("6.19") ? "this kernel has it" : false,
}, () => {
  using ring = makeRing(1);
  const lacking = { code: "EINVAL", message: /IORING_REGISTER_ZCRX_CTRL needs Linux 6\.19/ };
  assert.throws(() => ring.zcrxFlush(0), lacking);
  assert.throws(() => ring.zcrxExport(0), lacking);
  assert.throws(() => queryZcrx(), /needs Linux 6\.1[89]/);
});

test("liburing zcrx: areas and refill rings that cannot be", { skip: noQueue }, () => {
  const piece = ({ address, byteLength }: Mapping, from: number, less: number): Mapping =>
    ({ address: address + from, byteLength: byteLength - less }) as Mapping;
  using area = Mapping.anonymous(AREA_PAGES * PAGE);
  assert.equal(attempt({ area }), "");
  for (
    const wrong of [
      piece(area, 0, area.byteLength),
      piece(area, -area.address, 0),
      piece(area, 0, PAGE / 2),
      piece(area, PAGE / 2, PAGE),
      // The first page of all is nobody's.
      piece(area, -area.address + 0x1000, 0),
    ]
  ) assert.match(attempt({ area: wrong }), /EFAULT|EINVAL/);
  assert.match(attempt({ rqEntries: 0 }), /EINVAL/);
  assert.match(attempt({ rqEntries: 0x8000_0000 }), /EINVAL|ENOMEM|RangeError/);
  assert.match(attempt({ rxBufLen: 0xffff_ffff }), /EINVAL|ERANGE|EOVERFLOW/);
  assert.match(attempt({ rxBufLen: 0x8000_0000 }), /EINVAL|ERANGE|EOVERFLOW|ENOTSUP/);
});

test(
  "liburing zcrx: receiving from what is no socket, and through what is no queue",
  { skip: noQueue },
  () => {
    using receiver = new Receiver();
    const { ring, ifq, connection } = receiver;
    const receive = (fd: number, id: number): number => once(ring, (sqe) => prepareReceive(sqe, fd, id)).res;
    for (const fd of [-1, ring.fd]) assert.match(`${receive(fd, ifq.id)}`, /^-(88|9)$/);
    assert.equal(receive(connection.b.fd, ifq.id + 1), -22);
  },
);

test("liburing zcrx: data arrives in the area, until it is used up", { skip: noQueue }, () => {
  using receiver = new Receiver();
  assert.equal(receiver.ifq.rqEntries, RQ_ENTRIES);
  assert.equal(receiver.transfer(PAGE, "never"), 0);
  assert.ok(receiver.transfer(2 * AREA_PAGES * PAGE, "never") < 0, "there are no buffers left");
});

test("liburing zcrx: buffers that are given back are used again", { skip: noQueue }, () => {
  using receiver = new Receiver();
  assert.equal(receiver.transfer(PAGE, "at once"), 0);
  assert.equal(receiver.transfer(2 * AREA_PAGES * PAGE, "at once"), 0);
});

test("liburing zcrx: a small refill ring is flushed when it is full", { skip: noQueue }, () => {
  using receiver = new Receiver(16);
  assert.equal(receiver.ifq.rqEntries, 16);
  assert.equal(receiver.transfer(2 * AREA_PAGES * PAGE, "when full"), 0);
});

test("liburing zcrx: flushing, and what is no queue", { skip: noQueue }, () => {
  using receiver = new Receiver();
  const { ring, ifq } = receiver;
  assert.throws(() => ring.zcrxFlush(ifq.id + 1), { code: "ENXIO", message: /no such queue/ });
  ring.zcrxFlush(ifq.id);
  assert.throws(() => ring.registerZcrxCtrl(ifq.id, 99), { code: "ENOTSUP" });
  // What was never handed out is no buffer, and does no harm.
  for (const offset of [0, AREA_PAGES * PAGE, 2 ** 40]) {
    assert.ok(ifq.refill(offset, 1));
    ring.zcrxFlush(ifq.id);
  }
  assert.equal(receiver.transfer(PAGE, "at once"), 0);
});

test("liburing zcrx: a queue is shared by two rings", { skip: noQueue }, () => {
  const before = openRings();
  using receiver = new Receiver();
  const other = makeRing(128, BIG);
  assert.throws(() => other.zcrxExport(0), { code: "ENXIO" });
  assert.throws(() => other.importIfq(-1), /EBADF|EINVAL/);
  assert.throws(() => other.importIfq(receiver.ring.fd), /EBADF|EINVAL/);
  const ctrl = new Uint8Array(zcrx_ctrl.size);
  assert.throws(
    () => ioUringRegister(-1, IORING_REGISTER_ZCRX_CTRL, ctrl, ZCRX_CTRL_FLUSH_RQ),
    /EINVAL|EBADF/,
  );
  using box = new Fd(receiver.ring.zcrxExport(receiver.ifq.id));
  const id = other.importIfq(box.fd);
  box.close();
  const { connection } = receiver;
  prepareReceive(other.getSqe()!, connection.b.fd, id);
  other.submit();
  send(connection.a.fd, Uint8Array.from({ length: 100 }, (_, i) => i));
  const cqe = other.waitCqe();
  assert.equal(cqe.res, 100);
  const offset = zcrxOffset(cqe);
  assert.deepEqual([...new Uint8Array(receiver.area.buffer, offset, 3)], [0, 1, 2]);
  other.cqeSeen(cqe);
  other.close();
  assert.equal(openRings(), before + 1);
});

for (const async of [false, true]) {
  test(
    `liburing zcrx: a ring is closed while it receives${async ? ", in a worker" : ""}`,
    { skip: noQueue },
    () => {
      using receiver = new Receiver();
      const { ring, ifq, connection } = receiver;
      const sqe = ring.getSqe()!;
      prepareReceive(sqe, connection.b.fd, ifq.id);
      if (async) sqe.flags = IOSQE_ASYNC;
      ring.submit();
      if (!async) assertQuiet(ring);
      send(connection.a.fd, new Uint8Array(16));
      ring.close();
      const before = openRings();
      eventually(() => openRings() <= before, "the ring is gone");
    },
  );
}
