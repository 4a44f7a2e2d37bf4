/** Operations that end at once leave the rest of the runtime its turn. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { type AddressInfo, connect, createServer } from "node:net";
import { O_RDONLY } from "../../src/ffi/abi.ts";
import { TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { assertContent, content } from "../support/content.ts";
import { FLAGS, makeUring, openFile, POLLED, until, within } from "../support/loop.ts";

checkLeaks();

// The kernel thread of SQPOLL answers too late for many of them to end soon.
const MANY = 100_000;
const AWAITS = POLLED ? 2000 : MANY;
/** How often other things must at least have had their turn; they have it some fifty times. */
const A_FEW = 3;

for (const { name, flags, skip } of FLAGS) {
  // The kernel thread of SQPOLL answers too late for this to end soon.
  const count = name === "SQPOLL" ? MANY / 4 : MANY;

  test(`${name}: ${count} awaits in a row let timers fire`, { skip }, async () => {
    await using uring = makeUring({ flags });
    let fired = 0;
    const timer = setInterval(() => fired++, 1);
    for (let i = 0; i < count; i++) await uring.nop();
    clearInterval(timer);
    assert.ok(fired >= A_FEW, `a timer fired ${fired} times`);
  });
}

test(`${AWAITS} awaits in a row let sockets talk`, async () => {
  await using uring = makeUring();
  const server = createServer((socket) => socket.pipe(socket));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const client = connect((server.address() as AddressInfo).port, "127.0.0.1");
  await once(client, "connect");
  let rounds = 0;
  client.on("data", () => {
    rounds++;
    client.write("ping");
  });
  client.write("ping");
  for (let i = 0; i < AWAITS; i++) await uring.nop();
  client.destroy();
  server.close();
  await once(server, "close");
  assert.ok(rounds >= A_FEW, `${rounds} messages came back`);
});

test(`${AWAITS} awaits in a row let promises and immediates have their turn`, async () => {
  await using uring = makeUring();
  let going = true;
  let microtasks = 0;
  let macrotasks = 0;
  const others = async () => {
    for (; going; microtasks++) await Promise.resolve();
  };
  const immediate = (): void => {
    macrotasks++;
    if (going) setImmediate(immediate);
  };
  setImmediate(immediate);
  // An endless loop of promises would starve everything else itself: it is started anew now and then.
  for (let i = 0; i < AWAITS; i++) {
    await uring.nop();
    if (i % (AWAITS / 10) !== 0) continue;
    going = true;
    const loop = others();
    await Promise.resolve();
    going = false;
    await loop;
    going = true;
  }
  going = false;
  assert.ok(microtasks >= A_FEW, `${microtasks} promises`);
  assert.ok(macrotasks >= A_FEW, `${macrotasks} immediates`);
});

test("several loops of awaits on several rings take turns", async () => {
  const rings = Array.from({ length: 4 }, () => makeUring({ entries: 16 }));
  const progress = rings.map(() => 0);
  const COUNT = POLLED ? 2000 : 20_000;
  let least = 0;
  await within(
    Promise.all(rings.map(async (ring, which) => {
      for (let i = 0; i < COUNT; i++) {
        await ring.nop();
        progress[which]!++;
      }
      if (least === 0) least = Math.min(...progress);
    })),
    "the loops",
  );
  // How far each ring of SQPOLL gets, the kernel's threads decide among themselves.
  assert.ok(POLLED || least > COUNT / 10, `when the first had ended, the last was at ${least} of ${COUNT}`);
  await Promise.all(rings.map((ring) => ring.disposeAsync()));
});

test("children made while rings are busy disturb nothing", async () => {
  using dir = new TempDir();
  const path = dir.of("file");
  const size = 1 << 20;
  writeFileSync(path, content(size));
  using file = openFile(path, O_RDONLY);
  await using uring = makeUring();
  let reading = true;
  let reads = 0;
  const reader = async (which: number): Promise<void> => {
    const buffer = new Uint8Array(4096);
    while (reading) {
      const offset = (reads++ * 4096 + which * 512) % (size - buffer.length);
      const length = await uring.read(file.fd, buffer, { offset, async: which % 4 === 0 });
      assert.equal(length, buffer.length);
      assertContent(buffer, length, offset);
    }
  };
  const readers = Promise.all(Array.from({ length: 16 }, (_, i) => reader(i)));
  const children = Array.from({ length: 20 }, async () => {
    const child = spawn("true", { stdio: "ignore" });
    const [code] = await once(child, "exit");
    assert.equal(code, 0);
  });
  await within(Promise.race([Promise.all(children), readers]), "the children");
  const during = reads;
  await within(Promise.race([until(() => reads >= during + 16, "reads go on"), readers]), "the readers");
  reading = false;
  await within(readers, "the readers");
  assert.equal(uring.stats.inFlight, 0);
});
