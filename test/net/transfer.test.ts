/** Connections that one Worker accepts and others serve. */
import assert from "node:assert/strict";
import { once } from "node:events";
import net from "node:net";
import { connect, listen, type RingAddress, type UringError } from "../../src/net/mod.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { within } from "../support/loop.ts";
import { failure } from "../support/operations.ts";
import { missingOp } from "../support/rings.ts";
import { IORING_OP_FIXED_FD_INSTALL } from "../../src/ffi/abi.ts";

checkLeaks({ sharedRings: 1 });

const skip = missingOp(IORING_OP_FIXED_FD_INSTALL);
const HERE = { hostname: "127.0.0.1", port: 0 };

/** A Worker that serves what it is handed. */
class Server {
  readonly #worker = new Worker(new URL("../fixtures/net_worker.ts", import.meta.url), { type: "module" });

  async start(which: number, direct?: boolean): Promise<RingAddress> {
    assert.equal(await this.#answer(), "ready");
    const address = this.#answer();
    this.#worker.postMessage({ which, direct });
    return await address as RingAddress;
  }

  #answer(): Promise<unknown> {
    return within(
      new Promise((resolve, reject) => {
        this.#worker.onmessage = ({ data }) => resolve(data);
        this.#worker.onerror = (event) => reject(new Error((event as ErrorEvent).message));
      }),
      "a Worker",
    );
  }

  async stop(): Promise<void> {
    const stopped = this.#answer();
    this.#worker.postMessage("stop");
    assert.equal(await stopped, "stopped");
    this.#worker.terminate();
  }
}

/** Says something to a server, and gives what comes back up to that. */
async function ask(port: number, word: string): Promise<string> {
  const client = net.connect({ host: "127.0.0.1", port });
  await once(client, "connect");
  client.write(word);
  let answer = "";
  while (!answer.endsWith(word)) answer += String((await within(once(client, "data"), "an answer"))[0]);
  const closed = once(client, "close");
  client.end();
  await within(closed, "the end");
  return answer;
}

test(
  "connections are dealt to Workers in turn, and those that are gone are left out",
  { skip },
  () => deal(),
);

test("ordinary descriptors are dealt to Workers", { skip }, () => deal(false));

async function deal(direct?: boolean): Promise<void> {
  const servers = [new Server(), new Server()];
  const inboxes = await Promise.all(servers.map((server, i) => server.start(i, direct)));
  const listener = listen({ ...HERE, handTo: inboxes, direct });
  const answers = await Promise.all(Array.from({ length: 60 }, (_, i) => ask(listener.port, `word ${i}`)));
  const counts = [0, 0];
  answers.forEach((answer, i) => {
    const [which, word] = answer.split(":") as [string, string];
    assert.equal(word, `word ${i}`);
    counts[Number(which)]!++;
  });
  assert.deepEqual(counts, [30, 30]);
  await servers[1]!.stop();
  for (let i = 0; i < 6; i++) assert.equal(await ask(listener.port, "still"), "0:still");
  await listener.close();
  await servers[0]!.stop();
}

test("a connection is handed over before it is read, not after", { skip }, () => transfer(false));

test("so is a direct descriptor", { skip }, () => transfer(true));

async function transfer(direct: boolean): Promise<void> {
  const server = new Server();
  // From each kind to the other.
  const inbox = await server.start(7, !direct);
  const listener = listen({ ...HERE, direct });
  const accepting = (async () => {
    const conn = await listener.accept();
    await conn.write("from here, ");
    await conn.transfer(inbox);
    assert.ok(conn.closed);
    assert.equal((await failure(conn.read(new Uint8Array(1)))).code, "ECANCELED");
  })();
  assert.equal(await ask(listener.port, "and on"), "from here, 7:and on");
  await accepting;
  // By handlers, in open.
  const handing = listen({ ...HERE, direct, socket: { open: (socket) => socket.transfer(inbox) } });
  assert.equal(await ask(handing.port, "handed"), "7:handed");
  const [conn, client] = await Promise.all([
    listener.accept(),
    connect({ hostname: "127.0.0.1", port: listener.port }),
  ]);
  await client.write("two");
  assert.equal(await conn.read(new Uint8Array(1)), 1);
  await assert.rejects(conn.transfer(inbox), TypeError);
  const rest = new Uint8Array(10);
  assert.equal(await within(conn.read(rest), "the rest"), 2);
  await server.stop();
  const error = await failure(conn.transfer(inbox)) as UringError;
  assert.ok(/^EBADFD?$/.test(error.code), error.message);
  // It stays here.
  await client.write("!");
  assert.equal(await within(conn.read(rest), "more"), 1);
  await Promise.all([conn.close(), client.close(), listener.close(), handing.drain()]);
}

test("a listener with an inbox: what it takes and what it has", { skip }, async () => {
  const { inbox } = await (async () => {
    await using listener = listen({ inbox: true });
    assert.equal(listener.port, 0);
    assert.throws(() => listen({ inbox: true }), TypeError);
    return listener;
  })();
  assert.ok(Number.isInteger(inbox?.ring));
  assert.throws(() => listen({ inbox: true, port: 0 }), TypeError);
  assert.throws(() => listen({ ...HERE, handTo: [] }), TypeError);
  assert.throws(() => listen({ ...HERE, handTo: [{} as RingAddress] }), TypeError);
  await using plain = listen(HERE);
  assert.equal(plain.inbox, null);
});
