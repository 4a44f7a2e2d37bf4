/** What there is too little of: descriptors, room for what nobody reads; and what a crowd leaves behind that goes at once. */
import assert from "node:assert/strict";
import { once } from "node:events";
import net from "node:net";
import { RLIMIT_NOFILE } from "../../src/ffi/abi.ts";
import { pinned } from "../../src/ffi/pin.ts";
import { system } from "../../src/ffi/system.ts";
import { Uring } from "../../src/mod.ts";
import { currentEngine } from "../../src/net/engine.ts";
import { connect, listen, type Socket } from "../../src/net/mod.ts";
import { content } from "../support/content.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { sleep, within } from "../support/loop.ts";
import { countDescriptors } from "../support/operations.ts";
import { fixture, run } from "../support/program.ts";

checkLeaks({ sharedRings: 1 });

const HERE = { hostname: "127.0.0.1", port: 0 };

test("without descriptors accepting rests, and goes on when some are closed", async () => {
  const clients: net.Socket[] = [];
  const served = new Set<net.Socket>();
  let short: string[] = [];
  const onLine = (line: string): void => {
    const [what, ...numbers] = line.split(" ");
    if (what === "port") {
      for (let i = 0; i < 120; i++) {
        const client = net.connect({ host: "127.0.0.1", port: Number(numbers[0]) });
        clients.push(client);
        client.on("error", () => {});
        client.write("x");
        client.once("data", () => {
          served.add(client);
          if (short.length > 0) client.destroy();
        });
      }
    } else if (what === "short") {
      short = numbers;
      for (const client of served) client.destroy();
    }
  };
  // The shell sets the hard limit, too, above which no runtime lifts its own.
  const prefix = ["sh", "-c", 'ulimit -n 100; exec "$@"', "sh"];
  const { stdout, stderr, code } = await within(run(fixture("net_short.ts"), [], { prefix, onLine }), "it");
  assert.equal(code, 0, stdout + stderr);
  for (const client of clients) client.destroy();
  const [opened, enters] = short.map(Number) as [number, number];
  assert.ok(opened > 10 && opened < 120, `${opened} were open`);
  assert.ok(enters < 40, `${enters} system calls while nothing could be done`);
  assert.match(stdout, /^all 120$/m);
  assert.match(stdout, /^left 0 0$/m);
  assert.equal(served.size, 120);
});

/** How many idle connections there are: 8000, or what the hard limit of descriptors leaves. */
const IDLE = Math.min(8000, hardLimit() - 500);

function hardLimit(): number {
  const limits = pinned(16);
  system().rare.getrlimit(RLIMIT_NOFILE, limits.bytes);
  return Number(new DataView(limits.bytes.buffer).getBigUint64(8, true));
}

for (const kind of ["ordinary", "direct"]) {
  const skip = IDLE < 1000 ? `no more than ${hardLimit()} descriptors` : false;
  test(
    `connections that say nothing cost little memory and no time: ${kind} descriptors`,
    { skip },
    async () => {
      const sockets: Socket[] = [];
      const open = async (port: number, count: number): Promise<void> => {
        for (let left = count; left > 0; left -= 200) {
          const some = Array.from(
            { length: Math.min(left, 200) },
            () => connect({ hostname: "127.0.0.1", port, socket: {} }),
          );
          sockets.push(...await Promise.all(some));
        }
      };
      let port = 0;
      let told = "";
      let opening = Promise.resolve();
      const onLine = (line: string): void => {
        if (line.startsWith("port ")) {
          port = Number(line.slice(5));
          opening = open(port, 50);
        } else if (line === "few") opening = opening.then(() => open(port, IDLE - 50));
        else if (line.startsWith("idle ")) {
          told = line;
          for (const socket of sockets) socket.close();
        }
      };
      // The shell lifts the limit for a runtime that does not.
      const prefix = ["sh", "-c", 'ulimit -n "$(ulimit -H -n)"; exec "$@"', "sh"];
      const args = [String(IDLE), kind];
      const { stdout, stderr, code } = await within(
        run(fixture("net_idle.ts"), args, { prefix, onLine }),
        "it",
      );
      await opening;
      assert.equal(code, 0, stdout + stderr);
      const [each, enters, wakeUps] = told.split(" ").slice(1).map(Number) as [number, number, number];
      // Twice what is to be reached: collectors take their time.
      assert.ok(each <= 4096, `${each} bytes of memory each`);
      assert.deepEqual([enters, wakeUps], [0, 0]);
    },
  );
}

test("a thousand connections reset at once leave nothing behind", () => resetAll(false));

test("nor do a thousand direct descriptors", () => resetAll(true));

async function resetAll(direct: boolean): Promise<void> {
  const COUNT = 1000;
  await using listener = listen({ ...HERE, backlog: 4096, direct, socket: {} });
  const slots = Uring.shared.table.left;
  // The loop's own descriptors are there once it has slept.
  await sleep(100);
  const quiet = Uring.shared.stats.inFlight;
  const before = countDescriptors(/^socket:/);
  const closed: Promise<void>[] = [];
  const open = async (): Promise<Socket> => {
    const { promise, resolve } = Promise.withResolvers<void>();
    closed.push(promise);
    return await connect({ hostname: "127.0.0.1", port: listener.port, socket: { close: () => resolve() } });
  };
  const sockets: Socket[] = [];
  for (let i = 0; i < COUNT; i += 100) {
    sockets.push(...await Promise.all(Array.from({ length: 100 }, open)));
  }
  while (listener.connections < COUNT) await sleep(5);
  for (const [i, socket] of sockets.entries()) {
    if (i % 2 === 0) socket.write("on its way");
    socket.terminate();
  }
  await within(Promise.all(closed), "this end");
  while (listener.connections > 0) await sleep(5);
  await sleep(5);
  assert.equal(Uring.shared.stats.inFlight, quiet);
  assert.equal(countDescriptors(/^socket:/), before);
  assert.equal(Uring.shared.table.left, slots);
}

test("clients that never read cost no more than the limit, and a file does not make it more", async () => {
  const LIMIT = 64 << 10;
  const COUNT = 40;
  const chunk = content(100_000, 1);
  const fill = (socket: Socket): void => {
    while (socket.write(chunk) === chunk.length);
    assert.ok(socket.bufferedAmount <= LIMIT);
  };
  const { pieces } = currentEngine();
  const before = pieces.mapped;
  const listener = listen({ ...HERE, highWaterMark: LIMIT, socket: { open: fill, drain: fill } });
  const clients = await Promise.all(Array.from({ length: COUNT }, async () => {
    const client = net.connect({ host: "127.0.0.1", port: listener.port }).pause();
    await once(client, "connect");
    return client;
  }));
  for (let had = -1, now = 0; had !== now;) {
    await sleep(50);
    had = now;
    now = pieces.mapped;
  }
  assert.ok(pieces.mapped - before <= COUNT * 4 * LIMIT, `${pieces.mapped - before} bytes`);
  for (const client of clients) client.destroy();
  await within(listener.drain(), "drain");
});

test("stopping: by and by, and at once", async () => {
  const listener = listen({ ...HERE, socket: { data: (socket, view) => void socket.write(view) } });
  const [patient, hasty] = await Promise.all([0, 1].map(async () => {
    const client = net.connect({ host: "127.0.0.1", port: listener.port });
    await once(client, "connect");
    client.write("x");
    await once(client, "data");
    return client;
  })) as [net.Socket, net.Socket];
  let drained = false;
  const draining = listener.drain().then(() => drained = true);
  await listener.close();
  // Nobody is accepted any more; who is there is served.
  const late = net.connect({ host: "127.0.0.1", port: listener.port });
  const [error] = await once(late, "error") as [NodeJS.ErrnoException];
  assert.equal(error.code, "ECONNREFUSED");
  patient.write("y");
  assert.equal(String((await once(patient, "data"))[0]), "y");
  patient.end();
  patient.resume();
  await once(patient, "close");
  await sleep(10);
  assert.ok(!drained);
  hasty.on("error", () => {});
  const gone = new Promise<void>((resolve) => hasty.once("close", () => resolve()));
  await within(listener.drain(0), "at once");
  await within(Promise.all([gone, draining]), "everything");
  await assert.rejects(listener.accept(), TypeError);
});
