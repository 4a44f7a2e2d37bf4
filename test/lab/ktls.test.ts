/** Sockets that the kernel encrypts (kTLS), set up and used through the ring. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { O_RDONLY, SOL_TCP, TCP_ULP } from "../../src/ffi/abi.ts";
import type { Uring } from "../../src/mod.ts";
import { assertContent, content } from "../support/content.ts";
import { TempDir } from "../support/descriptors.ts";
import { outsideLab, test } from "../support/lab.ts";
import { checkLeaks } from "../support/leaks.ts";
import { FLAGS, makeUring, openFile } from "../support/loop.ts";
import { loadModule } from "../support/modules.ts";
import { failure } from "../support/operations.ts";
import { Connection } from "../support/sockets.ts";

checkLeaks();

const SOL_TLS = 282;
const TLS_TX = 1;
const TLS_RX = 2;
const TLS_SET_RECORD_TYPE = 1;
const TLS_GET_RECORD_TYPE = 2;
const ALERT = 21;
const DATA = 23;
const HEADER = 5;
const NONCE = 8;
const TAG = 16;
const SIZE = 40_000;

if (outsideLab() === false) loadModule("tls");

/** A `struct tls12_crypto_info_aes_gcm_128`. */
function keys(): Uint8Array {
  const info = Uint8Array.from({ length: 40 }, (_, i) => i);
  const view = new DataView(info.buffer);
  view.setUint16(0, 0x0303, true);
  view.setUint16(2, 51, true);
  // The number of the next record.
  info.fill(0, 32);
  return info;
}

async function encrypt(uring: Uring, fd: number, ...directions: readonly number[]): Promise<void> {
  await uring.setsockopt(fd, SOL_TCP, TCP_ULP, new TextEncoder().encode("tls"));
  for (const direction of directions) await uring.setsockopt(fd, SOL_TLS, direction, keys());
}

/** Receives so many bytes. */
async function receive(uring: Uring, fd: number, length: number): Promise<Uint8Array> {
  const buffer = new Uint8Array(length);
  for (let at = 0; at < length;) {
    const count = await uring.recv(fd, buffer.subarray(at));
    assert.ok(count > 0, "the connection has ended");
    at += count;
  }
  return buffer;
}

for (const { name, flags, skip } of FLAGS) {
  test(`${name}: what is sent arrives, whichever way it is sent and received`, { skip }, async () => {
    await using uring = makeUring({ flags });
    using dir = new TempDir();
    using connection = Connection.tcp();
    const { a, b } = { a: connection.a.fd, b: connection.b.fd };
    await encrypt(uring, a, TLS_TX, TLS_RX);
    await encrypt(uring, b, TLS_TX, TLS_RX);
    const data = content(SIZE);
    const both = async (send: () => Promise<number>, from = 0): Promise<void> => {
      const [sent, received] = await Promise.all([send(), receive(uring, b, SIZE)]);
      assert.equal(sent, SIZE);
      assertContent(received, SIZE, from);
    };
    await both(() => uring.send(a, data));
    await both(() => uring.sendmsg(a, [data.subarray(0, 10), data.subarray(10)]));
    await both(() => uring.write(a, data));
    writeFileSync(dir.of("file"), data);
    using file = openFile(dir.of("file"), O_RDONLY);
    const { reader, writer } = await uring.pipe();
    await both(async () => {
      let moved = 0;
      while (moved < SIZE) {
        const count = await uring.splice(file.fd, writer, SIZE - moved, { offsetIn: moved });
        let left = count;
        while (left > 0) left -= await uring.splice(reader, a, left);
        moved += count;
      }
      return moved;
    });
    // The other way round, by a receive that goes on and on.
    const sending = uring.send(b, data);
    let at = 0;
    for await (const piece of uring.recvMultishot(a)) {
      assertContent(piece, piece.length, at);
      at += piece.length;
      if (at === SIZE) break;
    }
    assert.equal(await sending, SIZE);
    await Promise.all([uring.close(reader), uring.close(writer)]);
  });
}

test("what goes over the wire is encrypted", async () => {
  await using uring = makeUring();
  using connection = Connection.tcp();
  await encrypt(uring, connection.a.fd, TLS_TX);
  const data = new Uint8Array(100).fill(0x41);
  assert.equal(await uring.send(connection.a.fd, data), 100);
  const record = await receive(uring, connection.b.fd, HEADER + NONCE + 100 + TAG);
  assert.deepEqual([...record.subarray(0, HEADER)], [DATA, 3, 3, 0, NONCE + 100 + TAG]);
  assert.equal(new TextDecoder("latin1").decode(record).includes("AAAA"), false);
  // Whole, it is understood; with a bit turned over it is refused.
  for (const [bit, expected] of [[0, 100], [1, "EBADMSG"]] as const) {
    using other = Connection.tcp();
    await encrypt(uring, other.b.fd, TLS_RX);
    const forged = record.slice();
    forged[HEADER + NONCE + 50]! ^= bit;
    await uring.send(other.a.fd, forged);
    const received = uring.recv(other.b.fd, new Uint8Array(200));
    if (expected === 100) assert.equal(await received, expected);
    else assert.equal((await failure(received)).code, expected);
  }
});

test("records of other kinds than data have theirs beside them", async () => {
  await using uring = makeUring();
  using connection = Connection.tcp();
  await encrypt(uring, connection.a.fd, TLS_TX);
  await encrypt(uring, connection.b.fd, TLS_RX);
  const alert = Uint8Array.of(1, 0);
  const kind = { level: SOL_TLS, type: TLS_SET_RECORD_TYPE, data: Uint8Array.of(ALERT) };
  assert.equal(await uring.sendmsg(connection.a.fd, alert, { control: [{ kind: "other", ...kind }] }), 2);
  const buffer = new Uint8Array(16);
  const message = await uring.recvmsg(connection.b.fd, buffer, { controlLength: 64 });
  assert.equal(message.length, 2);
  const [control] = message.control;
  assert.ok(control?.kind === "other");
  assert.deepEqual([control.level, control.type, ...control.data], [SOL_TLS, TLS_GET_RECORD_TYPE, ALERT]);
});

test("sending without a copy is refused, and the connection goes on", async () => {
  await using uring = makeUring();
  using connection = Connection.tcp();
  await encrypt(uring, connection.a.fd, TLS_TX);
  await encrypt(uring, connection.b.fd, TLS_RX);
  const error = await failure(uring.sendZc(connection.a.fd, new Uint8Array(1000)));
  assert.deepEqual([error.code, error.syscall], ["ENOTSUP", "send_zc"]);
  assert.equal(await uring.send(connection.a.fd, content(1000)), 1000);
  assertContent(await receive(uring, connection.b.fd, 1000), 1000, 0);
});
