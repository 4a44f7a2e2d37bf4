/** Network devices between which data goes without a copy, and what they cannot do. */
import assert from "node:assert/strict";
import {
  IORING_SETUP_CQE32,
  IORING_SETUP_CQE_MIXED,
  IORING_SETUP_DEFER_TASKRUN,
  IORING_SETUP_SINGLE_ISSUER,
  Mapping,
} from "../../src/ring/mod.ts";
import { assertContent, content } from "../support/content.ts";
import { test } from "../support/lab.ts";
import { checkLeaks } from "../support/leaks.ts";
import { makeUring } from "../support/loop.ts";
import { makeRing } from "../support/rings.ts";
import { Connection } from "../support/sockets.ts";
import { Veth } from "../support/veth.ts";

checkLeaks();

const SIZE = 32_768;

async function transfer(near: number, far: number): Promise<boolean | undefined> {
  await using uring = makeUring();
  const received = new Uint8Array(SIZE);
  const receiving = (async () => {
    for (let at = 0; at < SIZE;) at += await uring.recv(far, received.subarray(at));
  })();
  const [{ length, copied }] = await Promise.all([uring.sendZc(near, content(SIZE)), receiving]);
  assert.equal(length, SIZE);
  assertContent(received, SIZE, 0);
  return copied;
}

test("SEND_ZC: what leaves by a device was not copied", async () => {
  using veth = new Veth();
  veth.swallow();
  using socket = veth.datagrams();
  await using uring = makeUring();
  await using registered = uring.registerBuffer(SIZE);
  const before = veth.sentBytes;
  for (let i = 1; i <= 4; i++) {
    assert.deepEqual(await uring.sendZc(socket.fd, content(SIZE)), { length: SIZE, copied: false });
    assert.deepEqual(await uring.sendZcFixed(socket.fd, registered), { length: SIZE, copied: false });
    assert.ok(veth.sentBytes - before >= 2 * i * SIZE);
  }
});

test("SEND_ZC: what a socket of the same machine receives was copied", async () => {
  using veth = new Veth();
  using between = veth.connect();
  assert.equal(await transfer(between.near.fd, between.far.fd), true);
  using within = Connection.tcp();
  assert.equal(await transfer(within.a.fd, within.b.fd), true);
});

for (
  const [name, big] of [["CQE32", IORING_SETUP_CQE32], ["CQE_MIXED", IORING_SETUP_CQE_MIXED]] as const
) {
  test(`zero-copy receive, ${name}: devices without its queues say so`, () => {
    using veth = new Veth();
    using area = Mapping.anonymous(16 * 4096);
    using ring = makeRing(8, { flags: IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | big });
    for (const ifIdx of [1, veth.index]) {
      assert.throws(() => ring.registerIfq({ ifIdx, rqEntries: 16, area }), {
        code: "ENOTSUP",
        message: /header\/data split/,
      });
    }
    assert.throws(() => ring.registerIfq({ ifIdx: 4711, rqEntries: 16, area }), {
      code: "ENODEV",
      message: /no such network interface/,
    });
  });
}
