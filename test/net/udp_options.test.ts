/** UDP: segments, groups, interfaces, families, time stamps. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import process from "node:process";
import { IORING_SETUP_CQE32 } from "../../src/ffi/abi.ts";
import { kernelHas } from "../../src/ffi/kernel.ts";
import { udp, type UdpOptions, type UdpSocket } from "../../src/net/mod.ts";
import { TempDir } from "../support/descriptors.ts";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { FLAGS, makeUring, sleep, until, within } from "../support/loop.ts";
import { output } from "../support/program.ts";
import { missingRing } from "../support/rings.ts";
import { missingUdp } from "../support/udp.ts";

checkLeaks({ sharedRings: 1 });

const skip = missingUdp();
const HOST = "127.0.0.1";

function data(length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i * 31 + (i >> 8)) & 0xff);
}

async function whyNot(options: UdpOptions): Promise<string | false> {
  if (skip !== false) return skip;
  try {
    await udp(options).close();
    return false;
  } catch (error) {
    return `no such socket here: ${(error as Error).message}`;
  }
}

const noIpv6 = await whyNot({ hostname: "::1" });

/** What arrives within a moment. */
async function arrives(socket: UdpSocket): Promise<boolean> {
  return await socket.receive({ signal: AbortSignal.timeout(100) }).then(() => true, () => false);
}

test("segments: one send, many datagrams", { skip }, async () => {
  await using sender = udp({ hostname: HOST });
  await using receiver = udp({ hostname: HOST });
  const sent = data(10_500);
  assert.equal(await sender.send(sent, receiver.addr, { segmentSize: 1000 }), 10_500);
  assert.equal(sender.trySend(sent, receiver.addr, 7000), true);
  assert.equal(await sender.sendMany([{ data: sent, address: receiver.addr, segmentSize: 10_499 }]), 10_500);
  const lengths = [...Array(10).fill(1000), 500, 7000, 3500, 10_499, 1];
  let at = 0;
  for (const length of lengths) {
    const { data: got, segmentSize } = await within(receiver.receive(), `${length} bytes`);
    assert.deepEqual(got, sent.subarray(at, at + length));
    assert.equal(segmentSize, 0);
    at = (at + length) % sent.length;
  }
});

test("what goes to one destination goes as one, and arrives as it was", { skip }, async () => {
  await using one = udp({ hostname: HOST, limit: 2000, receiveBufferSize: 1 << 20 });
  await using other = udp({ hostname: HOST, limit: 2000, receiveBufferSize: 1 << 20 });
  await using both = udp({ hostname: HOST, gro: true, limit: 2000, receiveBufferSize: 1 << 20 });
  for (const coalesce of [true, false]) {
    await using sender = udp({ hostname: HOST, coalesce });
    const toOne: Uint8Array[] = [];
    const toOther: Uint8Array[] = [];
    // Of one length and of others, short ones at the end of a run, empty ones, in turns and in a row.
    for (let i = 0; i < 150; i++) {
      const length = i % 50 === 49 ? 0 : i % 10 === 9 ? 60 : i % 30 > 20 ? 300 : 100;
      const sent = Uint8Array.from({ length }, (_, j) => i + j);
      toOne.push(sent);
      assert.ok(sender.trySend(sent, one.addr));
      if (i % 3 === 0) {
        toOther.push(sent);
        assert.ok(sender.trySend(sent, other.addr));
      }
      assert.ok(sender.trySend(sent.subarray(0, 50), both.addr));
    }
    for (const sent of toOne) assert.deepEqual((await within(one.receive(), "a datagram")).data, sent);
    for (const sent of toOther) assert.deepEqual((await within(other.receive(), "a datagram")).data, sent);
    let taken = 0;
    let whole = 0;
    for (let left = 150; left > 0;) {
      const { data, segmentSize } = await within(both.receive(), "a run");
      if (segmentSize > 0) whole++;
      const count = segmentSize === 0 ? 1 : Math.ceil(data.length / segmentSize);
      left -= count;
      taken += count;
    }
    assert.equal(taken, 150);
    if (!coalesce) assert.equal(whole, 0);
  }
});

test("runs that are sent with promises tell each length", { skip }, async () => {
  await using receiver = udp({ hostname: HOST });
  await using sender = udp({ hostname: HOST, connect: receiver.addr });
  const lengths = [10, 10, 10, 7, 10, 10, 3];
  const sent = await Promise.all(lengths.map((length) => sender.send(new Uint8Array(length))));
  assert.deepEqual(sent, lengths);
  for (const length of lengths) assert.equal((await receiver.receive()).data.length, length);
  assert.equal(await sender.sendMany(lengths.map((length) => ({ data: new Uint8Array(length) }))), 60);
  for (const length of lengths) assert.equal((await receiver.receive()).data.length, length);
  await receiver.close();
  // Nobody is there: the first is told so when the second goes out, and that alone.
  const results = await Promise.allSettled(Array.from({ length: 5 }, () => sender.send("x")));
  await sleep(20);
  const again = await Promise.allSettled(Array.from({ length: 5 }, () => sender.send("x")));
  const failed = [...results, ...again].filter(({ status }) => status === "rejected");
  assert.ok(failed.length < 10, `${failed.length}`);
});

test("datagrams that come in a row are taken as one", { skip }, async () => {
  await using sender = udp({ hostname: HOST });
  await using receiver = udp({ hostname: HOST, gro: true });
  const sent = data(50_300);
  await sender.send(sent, receiver.addr, { segmentSize: 1000 });
  // On the loopback interface they are not even cut.
  const got: number[] = [];
  let at = 0;
  while (at < sent.length) {
    const { data, segmentSize, truncated } = await within(receiver.receive(), `byte ${at}`);
    assert.deepEqual(data, sent.subarray(at, at + data.length));
    assert.deepEqual([segmentSize, truncated], [1000, false]);
    at += data.length;
    got.push(data.length);
  }
  assert.ok(got.length < 51, `${got.length} pieces`);
  await sender.send("alone", receiver.addr);
  assert.equal((await receiver.receive()).segmentSize, 0);
});

test("handlers are told the size of segments", { skip }, async () => {
  const got: [number, number][] = [];
  await using receiver = udp({
    hostname: HOST,
    gro: true,
    packetInfo: true,
    socket: { data: (_, view, _from, info) => void got.push([view.length, info.segmentSize]) },
  });
  await using sender = udp({ hostname: HOST });
  await sender.send(data(3000), receiver.addr, { segmentSize: 1500 });
  await sender.send(data(100), receiver.addr);
  await until(() => got.reduce((sum, [length]) => sum + length, 0) === 3100, "all of it");
  assert.deepEqual(got.at(-1), [100, 0]);
  assert.equal(got[0]![1], 1500);
});

test("packetInfo tells where a datagram came in", { skip }, async () => {
  await using server = udp({ packetInfo: true });
  await using client = udp({ hostname: HOST });
  for (const address of ["127.0.0.1", "127.0.0.2", "127.1.2.3"]) {
    await client.send("x", { hostname: address, port: server.addr.port });
    const { packetInfo, remoteAddr } = await server.receive();
    assert.deepEqual(packetInfo, { address, interface: 1 });
    // The answer leaves from where the question went.
    await server.sendFrom("y", remoteAddr, { source: packetInfo!.address, interface: packetInfo!.interface });
    assert.equal((await client.receive()).remoteAddr.hostname, address);
  }
  await assert.rejects(server.sendFrom("y", client.addr, { source: "nowhere" }), TypeError);
  await assert.rejects(server.sendFrom("y", client.addr, { interface: "nosuchinterface" }), TypeError);
});

test("IPv6, and what it tells", { skip: noIpv6 }, async () => {
  await using server = udp({
    hostname: "::1",
    packetInfo: true,
    ttl: 9,
    multicastTtl: 0,
    multicastLoopback: false,
  });
  await using client = udp({ hostname: "::1", connect: server.addr });
  await client.send("hello");
  const { remoteAddr, packetInfo } = await server.receive();
  assert.deepEqual({ ...remoteAddr }, { transport: "udp", hostname: "::1", port: client.addr.port });
  assert.deepEqual(packetInfo, { address: "::1", interface: 1 });
  await server.send("back", remoteAddr);
  assert.equal((await client.receive()).data.length, 4);
  await server.sendFrom("from", remoteAddr, { source: "::1", interface: "lo" });
  assert.equal((await client.receive()).data.length, 4);
});

test("a socket of both families", { skip: noIpv6 }, async () => {
  await using both = udp({ hostname: "::" });
  await using four = udp({ hostname: HOST });
  await using six = udp({ hostname: "::1" });
  await four.send("4", { hostname: HOST, port: both.addr.port });
  assert.equal((await both.receive()).remoteAddr.hostname, "::ffff:127.0.0.1");
  await six.send("6", { hostname: "localhost", port: both.addr.port }).catch(() => {});
  await six.send("6", { hostname: "::1", port: both.addr.port });
  assert.equal((await both.receive()).remoteAddr.hostname, "::1");
  await both.send("by name", { hostname: "localhost", port: four.addr.port });
  assert.equal((await four.receive()).data.length, 7);
  await using only = udp({ hostname: "::", ipv6Only: true });
  await using beside = udp({ hostname: "0.0.0.0", port: only.addr.port });
  assert.equal(beside.addr.port, only.addr.port);
});

test("ports are shared by those that ask for it", { skip }, async () => {
  await using first = udp({ hostname: HOST, reusePort: true });
  await using second = udp({ hostname: HOST, port: first.addr.port, reusePort: true });
  let got = 0;
  const count = async (socket: UdpSocket): Promise<void> => {
    for await (const _ of socket) got++;
  };
  const counting = [count(first), count(second)];
  for (let i = 0; i < 20; i++) {
    await using client = udp({ hostname: HOST });
    await client.send("x", second.addr);
  }
  await until(() => got === 20, "all of them");
  await first.close();
  await second.close();
  await Promise.all(counting);
});

// Groups need a route: the loopback interface has none to them until it is named.
const GROUP = "239.255.77.7";
const noGroups = skip !== false ? skip : await missingGroups();

async function missingGroups(): Promise<string | false> {
  await using socket = udp({ multicastInterface: "lo" });
  try {
    socket.joinGroup(GROUP, { interface: "lo" });
    await socket.send("x", { hostname: GROUP, port: socket.addr.port });
    return await arrives(socket) ? false : "datagrams to groups do not arrive on the loopback interface";
  } catch (error) {
    return `no multicast on the loopback interface: ${(error as Error).message}`;
  }
}

test("a group: those who have joined it, as long as they have", { skip: noGroups }, async () => {
  await using sender = udp({ multicastInterface: "lo", multicastTtl: 1 });
  await using member = udp({ reuseAddr: true });
  const { port } = member.addr;
  await using other = udp({ reuseAddr: true, port });
  const group = { hostname: GROUP, port };
  member.joinGroup(GROUP, { interface: 1 });
  other.joinGroup(GROUP, { interface: "lo" });
  await sender.send("all", group);
  assert.equal((await within(member.receive(), "the member's")).data.length, 3);
  assert.equal((await within(other.receive(), "the other's")).data.length, 3);
  member.leaveGroup(GROUP, { interface: 1 });
  other.leaveGroup(GROUP, { interface: "lo" });
  await sender.send("nobody", group);
  assert.equal(await arrives(member), false);
  assert.throws(() => member.leaveGroup(GROUP, { interface: "lo" }), { code: "EADDRNOTAVAIL" });
});

test("a group from one source alone", { skip: noGroups }, async () => {
  await using sender = udp({ hostname: HOST, multicastInterface: "lo" });
  await using stranger = udp({ hostname: "127.0.0.2", multicastInterface: "lo" });
  await using member = udp();
  member.joinGroup("232.77.7.7", { interface: "lo", source: HOST });
  const group = { hostname: "232.77.7.7", port: member.addr.port };
  await stranger.send("stranger", group);
  await sender.send("sender", group);
  assert.equal((await within(member.receive(), "the source's")).data.length, 6);
  member.leaveGroup("232.77.7.7", { interface: "lo", source: HOST });
  await sender.send("sender", group);
  assert.equal(await arrives(member), false);
});

test("wrong groups", { skip }, async () => {
  await using socket = udp();
  for (const group of [HOST, "::1", "all", "", null]) {
    assert.throws(() => socket.joinGroup(group as string), TypeError, String(group));
  }
  assert.throws(() => socket.joinGroup(GROUP, { interface: "nosuchinterface" }), TypeError);
  assert.throws(() => socket.joinGroup(GROUP, { interface: -1 }), TypeError);
  assert.throws(() => socket.joinGroup(GROUP, { source: "::1" }), TypeError);
  assert.throws(() => socket.setMulticastTtl(256), RangeError);
  assert.throws(() => socket.setTtl(0), RangeError);
  socket.setMulticastTtl(3);
  socket.setTtl(3);
  socket.setMulticastInterface("lo");
  await socket.close();
  assert.throws(() => socket.joinGroup(GROUP), { code: "ECANCELED" });
});

test("broadcasting has to be allowed", { skip }, async () => {
  await using socket = udp();
  const everybody = { hostname: "127.255.255.255", port: socket.addr.port };
  await assert.rejects(socket.send("x", everybody), { code: "EACCES" });
  socket.setBroadcast(true);
  await socket.send("x", everybody);
  assert.equal((await within(socket.receive(), "the broadcast")).data.length, 1);
  await using other = udp({ broadcast: true });
  await other.send("yy", everybody);
  assert.equal((await within(socket.receive(), "the broadcast")).data.length, 2);
});

const noStamps = firstReason(
  skip,
  !kernelHas("6.17") && "time stamps need Linux 6.17",
  missingRing({ flags: IORING_SETUP_CQE32 }),
);

test("a ring of one's own, and when datagrams left", { skip: noStamps }, async () => {
  await using uring = makeUring({ flags: IORING_SETUP_CQE32 });
  await using socket = udp({ hostname: HOST, uring });
  const stamps = socket.txTimestamps();
  const keys = (async () => {
    const seen: number[] = [];
    for await (const { key, time } of stamps) {
      assert.ok(time > 0n);
      seen.push(key);
      if (seen.length === 3) break;
    }
    return seen;
  })();
  for (let i = 0; i < 3; i++) await socket.send("x", { hostname: HOST, port: socket.addr.port });
  assert.deepEqual(await within(keys, "the time stamps"), [0, 1, 2]);
  for (let i = 0; i < 3; i++) await within(socket.receive(), "the datagrams");
});

for (const kind of FLAGS) {
  test(`on a ring of another kind: ${kind.name}`, { skip: firstReason(skip, kind.skip) }, async () => {
    await using uring = makeUring({ flags: kind.flags, entries: 8 });
    await using server = udp({
      hostname: HOST,
      uring,
      socket: { data: (socket, view, from) => void socket.trySend(view, from) },
    });
    await using client = udp({ hostname: HOST, uring, connect: server.addr, receiveBufferSize: 1 << 20 });
    for (let round = 0; round < 5; round++) {
      // Runs of several lengths, and some that are too long for the small pieces of memory.
      const sent = Array.from({ length: 40 }, (_, i) => data(i % 10 === 9 ? 3000 : 20 + (i >> 3)));
      await within(client.sendMany(sent.map((data) => ({ data }))), "sending");
      for (const one of sent) assert.deepEqual((await within(client.receive(), "an answer")).data, one);
    }
  });
}

test("time stamps need a ring for them", { skip }, async () => {
  await using socket = udp({ hostname: HOST });
  assert.throws(() => socket.txTimestamps(), /IORING_SETUP_CQE32/);
});

test("a ring that closes takes its sockets along", { skip }, async () => {
  const uring = makeUring();
  const socket = udp({ hostname: HOST, uring });
  const waiting = socket.receive();
  await sleep(1);
  const closing = uring.disposeAsync();
  await assert.rejects(within(waiting, "the wait"), { code: "ECANCELED" });
  await closing;
  await until(() => socket.closed, "the socket's end");
  await socket.close();
  assert.throws(() => udp({ uring }), TypeError);
});

const source = new URL("../../src/net/mod.ts", import.meta.url).href;

/** What a program prints that has a UDP socket, with `--allow-ffi` alone. */
async function outputOf(body: string, prefix: readonly string[] = []): Promise<string> {
  using dir = new TempDir();
  const program = dir.of("program.ts");
  writeFileSync(program, `import { udp } from "${source}";\nconst say = console.log;\n${body}\n`);
  return await output(program, [], { prefix });
}

test("what nobody waits for keeps no process alive", { skip }, async () => {
  assert.equal(await outputOf(`udp(); say("end");`), "end\n");
  const once = `const socket = udp({ hostname: "${HOST}" });
    socket.trySend("x", socket.addr);
    await socket.receive();
    say("end");`;
  assert.equal(await outputOf(once), "end\n");
  assert.equal(await outputOf(`udp({ socket: {} }).unref(); say("end");`), "end\n");
  assert.equal(await outputOf(`const s = udp(); s.receive(); s.unref(); say("end");`), "end\n");
});

test("what somebody waits for keeps the process alive", { skip }, async () => {
  const body =
    `const server = udp({ hostname: "${HOST}", socket: { data(socket) { say("got"); socket.close(); } } });
    server.unref().ref();
    const client = udp({ hostname: "${HOST}" });
    setTimeout(() => client.trySend("x", server.addr), 100);
    process.on("exit", () => say("end"));`;
  assert.equal(await outputOf(`import process from "node:process";${body}`), "got\nend\n");
});

/** Runs a command in a network of its own with a network card. */
const NETWORK = [
  "unshare",
  "-n",
  "sh",
  "-c",
  `ip link set lo up && ip link add left type veth peer name right &&
    ip addr add 10.77.0.1/24 dev left && ip link set left up && ip link set right up && exec "$@"`,
  "sh",
];

const noNetworks = firstReason(
  skip,
  process.getuid!() !== 0 && "making networks of one's own needs root",
  spawnSync(NETWORK[0]!, [...NETWORK.slice(1), "true"]).status !== 0 && "no virtual network cards here",
);

test(
  "on a network card: groups, broadcasts, segments, and what is too long for them",
  { skip: noNetworks },
  async () => {
    const body = `
    const all = { hostname: "10.77.0.255", port: 4000 };
    const s = udp({ port: 4000, broadcast: true, packetInfo: true, multicastInterface: "left" });
    s.joinGroup("${GROUP}", { interface: "left" });
    await s.send("group", { hostname: "${GROUP}", port: 4000 });
    const got = await s.receive();
    say(got.data.length, got.packetInfo.address, got.remoteAddr.hostname);
    await s.send("everybody", all);
    say((await s.receive()).data.length);
    await s.send(new Uint8Array(5000), { hostname: "10.77.0.1", port: 4000 }, { segmentSize: 1400 });
    for (let i = 0; i < 4; i++) say((await s.receive()).data.length);
    // Too long for the network to be sent as one: the kernel breaks each into fragments.
    const t = udp({ hostname: "10.77.0.1" });
    t.joinGroup("${GROUP}", { interface: "left" });
    t.setMulticastInterface("left");
    const far = { hostname: "10.77.0.9", port: 4000 };
    const long = await Promise.all([1, 2, 3].map(() => t.send(new Uint8Array(1700), far)));
    const short = await Promise.all([1, 2, 3].map(() => t.send(new Uint8Array(700), far)));
    say(long.join(), short.join());
    s.setMulticastLoopback(false);
    await s.send("unheard", { hostname: "${GROUP}", port: 4000 });
    await s.send("after that", all);
    say((await s.receive()).data.length);`;
    const said = await outputOf(body, NETWORK);
    assert.equal(said, `5 ${GROUP} 10.77.0.1\n9\n1400\n1400\n1400\n800\n1700,1700,1700 700,700,700\n10\n`);
  },
);
