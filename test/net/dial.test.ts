/** Connecting to hosts with several addresses. */
import assert from "node:assert/strict";
import { AF_INET, AF_INET6, IORING_OP_BIND, SOCK_STREAM } from "../../src/ffi/abi.ts";
import { system } from "../../src/ffi/system.ts";
import type { SocketAddress, Uring } from "../../src/mod.ts";
import { UringError } from "../../src/mod.ts";
import { dial, DialError, interleave } from "../../src/net/dial.ts";
import type { ResolvedAddress } from "../../src/net/resolve.ts";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { makeUring, sleep, within } from "../support/loop.ts";
import { missingOp } from "../support/rings.ts";

checkLeaks();

const skip = missingOp(IORING_OP_BIND);

const v4 = (last: number): ResolvedAddress => ({ family: 4, address: `127.0.0.${last}` });
const V6: ResolvedAddress = { family: 6, address: "::1" };

/** Sockets that listen, or do not answer, at one port of several addresses. */
class Hosts implements AsyncDisposable {
  readonly uring: Uring = makeUring();
  readonly tried: string[] = [];
  readonly ended: string[] = [];
  port = 0;
  readonly #fds: number[] = [];

  /** Listens at an address; the first time at a port of the kernel's choosing. */
  async listen(address: ResolvedAddress, backlog = 16): Promise<number> {
    const fd = await this.socket(address);
    this.#fds.push(fd);
    await this.uring.bind(fd, this.at(address));
    await this.uring.listen(fd, backlog);
    const local = this.uring.localAddress(fd);
    if (local.family !== "unix") this.port = local.port;
    return fd;
  }

  /** An address where connecting neither succeeds nor fails: the queue of a listening socket is full. */
  async blackhole(address: ResolvedAddress): Promise<void> {
    await this.listen(address, 0);
    const fd = await this.socket(address);
    this.#fds.push(fd);
    await this.uring.connect(fd, this.at(address));
  }

  socket({ family }: ResolvedAddress): Promise<number> {
    return this.uring.socket(family === 4 ? AF_INET : AF_INET6, SOCK_STREAM);
  }

  at({ family, address }: ResolvedAddress): SocketAddress {
    return { family: family === 4 ? "ipv4" : "ipv6", address, port: this.port };
  }

  readonly attempt = async (address: ResolvedAddress, signal: AbortSignal): Promise<number> => {
    this.tried.push(address.address);
    const fd = await this.socket(address);
    try {
      await this.uring.connect(fd, this.at(address), { signal });
      return fd;
    } catch (error) {
      system().close(fd);
      throw error;
    } finally {
      this.ended.push(address.address);
    }
  };

  dial(addresses: readonly ResolvedAddress[], delay: number, signal?: AbortSignal): Promise<number> {
    const discard = (fd: number): void => void system().close(fd);
    return within(dial(addresses, this.attempt, { discard, delay, signal }), "dial");
  }

  /** The address at the other end, and the end of the connection. */
  close(fd: number): string {
    const { uring } = this;
    const remote = uring.remoteAddress(fd);
    system().close(fd);
    return remote.family === "unix" ? remote.path : remote.address;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const fd of this.#fds) system().close(fd);
    await this.uring.disposeAsync();
  }
}

const noIpv6 = skip !== false ? skip : await missingIpv6();

async function missingIpv6(): Promise<string | false> {
  await using hosts = new Hosts();
  return await hosts.listen(V6).then(() => false as const, (error) => `no IPv6 here: ${error.code}`);
}

test("families take turns, beginning with the first address's", () => {
  const six = (last: number): ResolvedAddress => ({ family: 6, address: `::${last}` });
  assert.deepEqual(interleave([]), []);
  assert.deepEqual(interleave([v4(1), v4(2)]), [v4(1), v4(2)]);
  assert.deepEqual(interleave([six(1), six(2), six(3), v4(1)]), [six(1), v4(1), six(2), six(3)]);
  assert.deepEqual(interleave([v4(1), six(1), six(2), six(3)]), [v4(1), six(1), six(2), six(3)]);
});

test("the first address that answers is taken, and nothing else is tried", { skip }, async () => {
  await using hosts = new Hosts();
  await hosts.listen(v4(1));
  await hosts.listen(v4(2));
  assert.equal(hosts.close(await hosts.dial([v4(1), v4(2)], 60_000)), "127.0.0.1");
  assert.deepEqual(hosts.tried, ["127.0.0.1"]);
});

test("an address that refuses gives way to the next at once", { skip }, async () => {
  await using hosts = new Hosts();
  await hosts.listen(v4(3));
  assert.equal(hosts.close(await hosts.dial([v4(1), v4(2), v4(3)], 60_000)), "127.0.0.3");
  assert.deepEqual(hosts.tried, ["127.0.0.1", "127.0.0.2", "127.0.0.3"]);
});

test("IPv6 refuses, IPv4 answers, and the other way round", { skip: firstReason(skip, noIpv6) }, async () => {
  await using hosts = new Hosts();
  await hosts.listen(v4(1));
  assert.equal(hosts.close(await hosts.dial([V6, v4(1)], 60_000)), "127.0.0.1");
  await using others = new Hosts();
  await others.listen(V6);
  assert.equal(others.close(await others.dial([v4(1), v4(2), V6], 60_000)), "::1");
  assert.deepEqual(others.tried, ["127.0.0.1", "::1"]);
});

test("an address that says nothing is overtaken and given up", { skip }, async () => {
  await using hosts = new Hosts();
  await hosts.blackhole(v4(1));
  await hosts.listen(v4(2));
  assert.equal(hosts.close(await hosts.dial([v4(1), v4(2)], 10)), "127.0.0.2");
  await within(
    (async () => {
      while (hosts.ended.length < 2) await sleep(1);
    })(),
    "the attempt that was overtaken",
  );
  assert.deepEqual(hosts.ended, ["127.0.0.2", "127.0.0.1"]);
});

test("all errors are told, in the order of the addresses", { skip }, async () => {
  await using hosts = new Hosts();
  await hosts.listen(v4(9));
  await assert.rejects(hosts.dial([v4(1), v4(2)], 60_000), (error: unknown) => {
    assert.ok(error instanceof DialError && error instanceof UringError);
    assert.equal(error.code, "ECONNREFUSED");
    assert.equal(error.syscall, "connect");
    assert.equal(error.errors.length, 2);
    assert.match(
      error.message,
      /^None of 2 addresses could be connected to: ECONNREFUSED: .*; ECONNREFUSED: /,
    );
    return true;
  });
  await assert.rejects(hosts.dial([v4(1)], 60_000), {
    name: "UringError",
    code: "ECONNREFUSED",
  });
});

test("a signal gives all attempts up", { skip }, async () => {
  await using hosts = new Hosts();
  await hosts.blackhole(v4(1));
  await hosts.blackhole(v4(2));
  const reason = new Error("enough");
  const controller = new AbortController();
  const dialled = hosts.dial([v4(1), v4(2), v4(3)], 1, controller.signal);
  while (hosts.tried.length < 2) await sleep(1);
  controller.abort(reason);
  await assert.rejects(dialled, reason);
  assert.deepEqual(hosts.ended.toSorted(), hosts.tried.toSorted());
  const tried = hosts.tried.length;
  await assert.rejects(hosts.dial([v4(1)], 1, controller.signal), reason);
  assert.equal(hosts.tried.length, tried);
});

test("what connects too late is discarded", async () => {
  const late = Promise.withResolvers<string>();
  const discarded: string[] = [];
  const discard = (connection: string): void => void discarded.push(connection);
  // Attempts that do not listen to their signal.
  const attempt = ({ address }: ResolvedAddress): Promise<string> =>
    address === "127.0.0.1" ? late.promise : Promise.resolve(address);
  assert.equal(await dial([v4(1), v4(2)], attempt, { delay: 1, discard }), "127.0.0.2");
  late.resolve("127.0.0.1");
  await sleep(0);
  assert.deepEqual(discarded, ["127.0.0.1"]);

  const controller = new AbortController();
  const slow = Promise.withResolvers<string>();
  const dialled = dial([v4(1)], () => slow.promise, { discard, signal: controller.signal });
  controller.abort(new Error("enough"));
  slow.resolve("slow");
  await assert.rejects(dialled, /enough/);
  assert.deepEqual(discarded, ["127.0.0.1", "slow"]);
});

test("failures of other kinds are told, too", async () => {
  const attempt = (): Promise<never> => {
    throw new TypeError("no such thing");
  };
  const discard = (): void => {};
  await assert.rejects(dial([v4(1)], attempt, { discard }), TypeError);
  await assert.rejects(dial([v4(1), v4(2)], attempt, { discard }), (error: unknown) => {
    return error instanceof AggregateError && error.errors.length === 2;
  });
  assert.throws(() => dial([], attempt, { discard }), TypeError);
});
