/** Sends that are not copied: over a pair of virtual network cards, which on this kernel hand on the sender's memory. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { Uring } from "../../src/mod.ts";
import { listen } from "../../src/net/mod.ts";
import { content } from "../support/content.ts";
import { test } from "../support/lab.ts";
import { checkLeaks } from "../support/leaks.ts";
import { within } from "../support/loop.ts";
import { fixture, output } from "../support/program.ts";

checkLeaks({ sharedRings: 1 });

const HERE = "198.51.100.1";
const THERE = "198.51.100.2";
const SIZE = 4 << 20;
const TIMES = 8;

function ip(...args: string[]): void {
  const { status, stderr } = spawnSync("ip", args, { encoding: "utf8" });
  assert.equal(status, 0, `ip ${args.join(" ")}: ${stderr}`);
}

/** A cable to another namespace, until it is disposed of. */
function cable(): Disposable {
  spawnSync("modprobe", ["veth"]);
  ip("netns", "add", "zc");
  ip("link", "add", "zc0", "type", "veth", "peer", "name", "zc1");
  ip("link", "set", "zc1", "netns", "zc");
  ip("addr", "add", `${HERE}/24`, "dev", "zc0");
  ip("link", "set", "zc0", "up");
  ip("netns", "exec", "zc", "ip", "addr", "add", `${THERE}/24`, "dev", "zc1");
  ip("netns", "exec", "zc", "ip", "link", "set", "zc1", "up");
  return {
    [Symbol.dispose](): void {
      ip("link", "del", "zc0");
      ip("netns", "del", "zc");
    },
  };
}

for (const direct of [false, true]) {
  test(`what is sent without a copy stays without: ${direct ? "direct" : "ordinary"} descriptors`, async () => {
    using _ = cable();
    await using buffer = Uring.shared.registerBuffer(SIZE);
    const memories = [buffer.bytes, new Uint8Array(new ArrayBuffer(SIZE))];
    const hash = createHash("sha256");
    await using listener = listen({ hostname: HERE, port: 0, zeroCopy: 10_000, direct });
    const sink = output(fixture("net_sink.ts"), [HERE, String(listener.port)], {
      prefix: ["ip", "netns", "exec", "zc"],
    });
    const conn = await within(listener.accept(), "the other end");
    for (let i = 0; i < TIMES; i++) {
      for (const memory of memories) {
        // Filled anew as soon as it may be: what the kernel still had would arrive wrong.
        const bytes = content(SIZE, i);
        hash.update(bytes);
        memory.set(bytes);
        assert.equal(await within(conn.write(memory), "a write"), SIZE);
      }
    }
    assert.equal(conn.socket.output.zeroCopy, 10_000, "the kernel has copied");
    await conn.close();
    assert.equal((await within(sink, "the other end")).trim(), `${2 * TIMES * SIZE} ${hash.digest("hex")}`);
  });
}
