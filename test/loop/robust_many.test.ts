/** Many operations: more than a ring holds, on many rings, more completions than fit. Nothing is lost or mixed up. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { O_RDONLY, POLLIN } from "../../src/ffi/abi.ts";
import type { Uring } from "../../src/mod.ts";
import { EventFd, TempDir } from "../support/descriptors.ts";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { assertContent, content } from "../support/content.ts";
import { busy, DEFERRED, FLAGS, makeUring, noDeferred, openFile, within } from "../support/loop.ts";
import { fixture, missingStrace, output } from "../support/program.ts";

checkLeaks();

const FILE_SIZE = 1 << 20;

/** A file of known content, opened. */
class KnownFile implements Disposable {
  readonly #dir = new TempDir();
  readonly fd: number;
  readonly #opened;

  constructor() {
    const path = this.#dir.of("file");
    writeFileSync(path, content(FILE_SIZE));
    this.#opened = openFile(path, O_RDONLY);
    this.fd = this.#opened.fd;
  }

  [Symbol.dispose](): void {
    this.#opened.close();
    this.#dir[Symbol.dispose]();
  }
}

/** Reads all over a file at once, and checks each read's bytes. */
async function manyReads(uring: Uring, fd: number, count: number, seed: number): Promise<void> {
  const reads = Array.from({ length: count }, async (_, i) => {
    const offset = (i * 4099 + seed * 65_537) % (FILE_SIZE - 2048);
    const buffer = new Uint8Array(1 + (i * 31) % 2048);
    assert.equal(await uring.read(fd, buffer, { offset }), buffer.length);
    assertContent(buffer, buffer.length, offset);
  });
  await within(Promise.all(reads), "the reads");
  assert.equal(uring.stats.inFlight, 0);
}

for (const entries of [1, 4, 256]) {
  test(`10,000 no-ops at once on a ring of ${entries}`, async () => {
    await using uring = makeUring({ entries });
    const order: number[] = [];
    const nops = Array.from({ length: 10_000 }, (_, i) => uring.nop().then(() => order.push(i)));
    await within(Promise.all(nops), "the no-ops");
    assert.deepEqual(order.toSorted((a, b) => a - b), Array.from({ length: 10_000 }, (_, i) => i));
    assert.equal(uring.stats.inFlight, 0);
  });

  test(`10,000 reads at once on a ring of ${entries}`, async () => {
    using file = new KnownFile();
    await using uring = makeUring({ entries });
    await manyReads(uring, file.fd, 10_000, 0);
  });

  test(`10,000 operations of which half fail, on a ring of ${entries}`, async () => {
    await using uring = makeUring({ entries });
    const buffer = new Uint8Array(8);
    const mixed = Array.from(
      { length: 10_000 },
      (_, i) => i % 2 === 0 ? uring.nop() : uring.read(-1, buffer),
    );
    const results = await within(Promise.allSettled(mixed), "the operations");
    results.forEach((result, i) => {
      if (i % 2 === 0) assert.equal(result.status, "fulfilled");
      else assert.equal((result as PromiseRejectedResult).reason.code, "EBADF");
    });
  });

  test(`1,000 chains and time limits at once on a ring of ${entries}`, async () => {
    using file = new KnownFile();
    await using uring = makeUring({ entries: Math.max(entries, 4) });
    const chains = Array.from({ length: 1000 }, async (_, i) => {
      const buffer = new Uint8Array(100 + i);
      const offset = i * 7;
      const [, length] = await uring.link((l) => [
        l.nop(),
        l.read(file.fd, buffer, { offset, timeout: 60_000 }),
        l.nop(),
      ]);
      assert.equal(length, buffer.length);
      assertContent(buffer, length, offset);
    });
    const limited = Array.from({ length: 1000 }, async (_, i) => {
      const buffer = new Uint8Array(50 + i);
      assert.equal(await uring.read(file.fd, buffer, { offset: i, timeout: 60_000 }), buffer.length);
      assertContent(buffer, buffer.length, i);
    });
    await within(Promise.all([...chains, ...limited]), "the chains");
    assert.equal(uring.stats.inFlight, 0);
  });
}

for (const { name, flags, skip } of FLAGS) {
  test(`${name}: 10,000 reads at once on a ring of 64`, { skip }, async () => {
    using file = new KnownFile();
    await using uring = makeUring({ entries: 64, flags });
    await manyReads(uring, file.fd, 10_000, 0);
  });

  test(`${name}: reads in worker threads of the kernel's`, { skip }, async () => {
    using file = new KnownFile();
    await using uring = makeUring({ entries: 64, flags });
    const reads = Array.from({ length: 500 }, async (_, i) => {
      const buffer = new Uint8Array(700);
      assert.equal(await uring.read(file.fd, buffer, { offset: i * 1000, async: true }), buffer.length);
      assertContent(buffer, buffer.length, i * 1000);
    });
    await within(Promise.all(reads), "the reads");
  });

  test(
    `${name}: more completions than the queue holds while the event loop is blocked`,
    { skip },
    async () => {
      await using uring = makeUring({ entries: 16, flags });
      using event = new EventFd();
      const settled = new Array<number>(2000).fill(0);
      const pending = settled.map((_, i) => {
        const operation = i % 2 === 0 ? uring.timeout(1 + i % 20) : uring.poll(event.fd, POLLIN);
        return operation.then(() => {
          settled[i]!++;
        });
      });
      // Submitted, and nothing has ended yet.
      await new Promise((resolve) => setImmediate(resolve));
      await uring.write(event.fd, new Uint8Array([1, 0, 0, 0, 0, 0, 0, 0]));
      busy(60);
      await within(Promise.all(pending), "what overflowed");
      assert.ok(settled.every((times) => times === 1));
      assert.equal(uring.stats.inFlight, 0);
    },
  );
}

test("10 rings at once", async () => {
  using file = new KnownFile();
  const rings = Array.from({ length: 10 }, (_, i) => makeUring({ entries: [4, 16, 64][i % 3]! }));
  await Promise.all(rings.map((ring, i) => manyReads(ring, file.fd, 1000, i)));
  await Promise.all(rings.map((ring) => ring.disposeAsync()));
});

test(
  "1,000 reads in one turn on a ring of 256 enter the kernel at most 8 times",
  { skip: noDeferred },
  async () => {
    using file = new KnownFile();
    await using uring = makeUring({ ...DEFERRED, entries: 256 });
    await uring.nop();
    const { enters } = uring.stats;
    await manyReads(uring, file.fd, 1000, 0);
    assert.ok(uring.stats.enters - enters <= 8, `${uring.stats.enters - enters} times`);
  },
);

const noTrace = firstReason(missingStrace());

test("1,000 reads in one turn make no other system call", { skip: noTrace }, async () => {
  using dir = new TempDir();
  const trace = dir.of("trace");
  const prefix = ["strace", "-f", "-qq", "-o", trace];
  assert.equal(await output(fixture("thousand_reads.ts"), [], { prefix }), "1000 reads\n");
  const lines = readFileSync(trace, "utf8").split("\n");
  const [begin, end] = ["reads-begin", "reads-end"].map((mark) => lines.findIndex((l) => l.includes(mark)));
  assert.ok(begin! >= 0 && end! > begin!, "the marks are not in the trace");
  const thread = lines[begin!]!.split(" ")[0]!;
  const counts = new Map<string, number>();
  for (const line of lines.slice(begin! + 1, end)) {
    const [, id, name] = /^(\d+) +(\w+)\(/.exec(line) ?? [];
    if (id === thread) counts.set(name!, (counts.get(name!) ?? 0) + 1);
  }
  const enters = counts.get("io_uring_enter") ?? 0;
  assert.ok(enters >= 4 && enters <= 8, `${enters} times io_uring_enter`);
  for (const [name, count] of counts) assert.ok(count < 100, `${count} times ${name}`);
});
