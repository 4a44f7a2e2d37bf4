/** Readiness that comes while a receive is armed: what liburing's programs of this name check. */
import assert from "node:assert/strict";
import {
  bufRingAdd,
  bufRingAdvance,
  bufRingMask,
  IORING_CQE_F_BUFFER,
  IORING_CQE_F_MORE,
  IOSQE_BUFFER_SELECT,
  Mapping,
  type Ring,
} from "../../src/ring/mod.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { Peer } from "../support/peer.ts";
import { block, entry, makeRing, reap } from "../support/rings.ts";
import { Connection } from "../support/sockets.ts";

checkLeaks();

const REQUESTS = 64;
const SIZE = 64;
const GROUP = 1;

/** Hands a socket to the peer, runs `body` while it writes there, and waits for the peer. */
function race(peer: Peer, count: number, body: (pair: Connection, go: () => void) => void): void {
  using pair = Connection.unix();
  body(pair, () => peer.turns.done(pair.b.fd, count));
  peer.turns.await();
}

test("liburing poll-race: many receives on one socket, many writes: none is stalled", async () => {
  const ROUNDS = 200;
  using peer = await Peer.start();
  using ring = makeRing(REQUESTS);
  const buffer = block(SIZE);
  peer.begin({ kind: "writes", rounds: ROUNDS, size: SIZE, shutdown: false });
  for (let round = 0; round < ROUNDS; round++) {
    race(peer, REQUESTS, (pair, go) => {
      for (let i = 0; i < REQUESTS; i++) {
        entry(ring, i, (sqe) => sqe.prepRecv(pair.a.fd, buffer.address, SIZE, 0));
      }
      go();
      assert.equal(ring.submit(), REQUESTS);
      const found = reap(ring, REQUESTS);
      assert.ok(found.every(({ res }) => res === SIZE));
      assert.equal(new Set(found.map(({ userData }) => userData)).size, REQUESTS);
    });
  }
  await peer.end();
});

/** A ring with as many provided buffers as there will be writes. */
function withBuffers(body: (ring: Ring, bytes: Uint8Array) => void): void {
  using ring = makeRing(REQUESTS);
  using memory = Mapping.anonymous(REQUESTS * SIZE);
  const bufRing = ring.setupBufRing(REQUESTS, GROUP);
  for (let i = 0; i < REQUESTS; i++) {
    bufRingAdd(bufRing, memory.address + i * SIZE, SIZE, i + 1, bufRingMask(REQUESTS), i);
  }
  bufRingAdvance(bufRing, REQUESTS);
  body(ring, new Uint8Array(memory.buffer));
  ring.freeBufRing(bufRing);
}

/** Checks that each buffer was used once, and holds what was written. */
function assertBuffers(bids: readonly number[], bytes: Uint8Array): void {
  assert.deepEqual(bids.toSorted((a, b) => a - b), Array.from({ length: REQUESTS }, (_, i) => i + 1));
  assert.ok(bytes.every((byte) => byte === 0x5a));
}

test("liburing poll-race-mshot: no provided buffer is lost to a race", async () => {
  const ROUNDS = 100;
  using peer = await Peer.start();
  peer.begin({ kind: "writes", rounds: 2 * ROUNDS, size: SIZE, shutdown: false });
  for (let round = 0; round < ROUNDS; round++) {
    withBuffers((ring, bytes) => {
      race(peer, REQUESTS, (pair, go) => {
        for (let i = 0; i < REQUESTS; i++) {
          entry(ring, i, (sqe) => {
            sqe.prepRecv(pair.a.fd, 0, 0, 0);
            sqe.flags = IOSQE_BUFFER_SELECT;
            sqe.bufGroup = GROUP;
          });
        }
        go();
        assert.equal(ring.submit(), REQUESTS);
        const found = reap(ring, REQUESTS);
        assert.ok(found.every(({ res, flags }) => res === SIZE && (flags & IORING_CQE_F_BUFFER) !== 0));
        assertBuffers(found.map(({ flags }) => flags >>> 16), bytes);
      });
    });
  }
  for (let round = 0; round < ROUNDS; round++) {
    withBuffers((ring, bytes) => {
      race(peer, REQUESTS, (pair, go) => {
        entry(ring, 1, (sqe) => {
          sqe.prepRecvMultishot(pair.a.fd, 0, 0, 0);
          sqe.flags = IOSQE_BUFFER_SELECT;
          sqe.bufGroup = GROUP;
        });
        go();
        assert.equal(ring.submit(), 1);
        const found = reap(ring, REQUESTS);
        for (const { res, flags } of found) {
          assert.equal(res, SIZE);
          assert.ok((flags & IORING_CQE_F_BUFFER) !== 0 && (flags & IORING_CQE_F_MORE) !== 0);
        }
        assertBuffers(found.map(({ flags }) => flags >>> 16), bytes);
      });
    });
  }
  await peer.end();
});

for (const family of ["unix", "tcp"] as const) {
  test(`liburing mshot-shutdown-race: ${family}: sends and a shutdown at once: all is seen`, async () => {
    const ROUNDS = 400;
    const [MESSAGE, BUFFERS, BUFFER] = [123, 4, 256] as const;
    using peer = await Peer.start();
    using ring = makeRing(8);
    using memory = Mapping.anonymous(4096);
    const bufRing = ring.setupBufRing(BUFFERS, 0);
    const give = (bid: number): void => {
      bufRingAdd(bufRing, memory.address + bid * BUFFER, BUFFER, bid, bufRingMask(BUFFERS), 0);
      bufRingAdvance(bufRing, 1);
    };
    for (let bid = 0; bid < BUFFERS; bid++) give(bid);
    peer.begin({ kind: "writes", rounds: ROUNDS, size: MESSAGE, shutdown: true });
    for (let round = 0; round < ROUNDS; round++) {
      const sends = 1 + (round & 1);
      using pair = family === "unix" ? Connection.unix() : Connection.tcp();
      entry(ring, round, (sqe) => {
        sqe.prepRecvMultishot(pair.b.fd, 0, 0, 0);
        sqe.flags = IOSQE_BUFFER_SELECT;
      });
      ring.submit();
      peer.turns.done(pair.a.fd, sends);
      for (let received = 0;;) {
        const { userData, res, flags } = reap(ring, 1)[0]!;
        const bits = flags & (IORING_CQE_F_MORE | IORING_CQE_F_BUFFER);
        assert.equal(userData, round);
        if (res === 0) {
          assert.equal(received, sends * MESSAGE);
          assert.equal(bits, 0);
          break;
        }
        assert.ok(res > 0, `${res}`);
        assert.equal(bits, IORING_CQE_F_MORE | IORING_CQE_F_BUFFER);
        received += res;
        give(flags >>> 16);
      }
      peer.turns.await();
    }
    await peer.end();
  });
}
