/** A `Uring` that polls for completions: what it cannot do, and what it does on a disk that can be polled for. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { Uring, UringError } from "../../src/mod.ts";
import { IORING_SETUP_IOPOLL, Mapping, O_RDONLY } from "../../src/ring/mod.ts";
import { assertContent, content } from "../support/content.ts";
import { Fd, TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { missingPolling, openPollable } from "../support/pollable.ts";

checkLeaks();

test("what a polled ring cannot do says what is missing", async () => {
  using dir = new TempDir();
  writeFileSync(dir.of("file"), content(4096));
  using file = Fd.open(dir.of("file"), O_RDONLY);
  await using uring = new Uring({ flags: IORING_SETUP_IOPOLL });
  assert.equal(await uring.nop(), 0);
  await assert.rejects(uring.read(file.fd, new Uint8Array(4096), { offset: 0 }), (error: unknown) => {
    assert.ok(error instanceof UringError);
    assert.equal(error.errno, -95);
    assert.match(
      error.message,
      /IORING_SETUP_IOPOLL needs a file opened with O_DIRECT on a disk that can be polled/,
    );
    return true;
  });
  await assert.rejects(uring.openat(dir.of("file")), {
    code: "EINVAL",
    message: /a ring with IORING_SETUP_IOPOLL does not have every operation/,
  });
});

test("polled writes and reads of a disk", { skip: missingPolling() }, async () => {
  using disk = openPollable();
  using memory = Mapping.anonymous(256 * 4096);
  const bytes = new Uint8Array(memory.buffer);
  const block = (i: number): Uint8Array => bytes.subarray(i * 4096, (i + 1) * 4096);
  await using uring = new Uring({ flags: IORING_SETUP_IOPOLL });
  const all = Array.from({ length: 256 }, (_, i) => i);
  bytes.set(content(256 * 4096));
  for (
    const written of await Promise.all(all.map((i) => uring.write(disk.fd, block(i), { offset: i * 4096 })))
  ) {
    assert.equal(written, 4096);
  }
  bytes.fill(0);
  await Promise.all(all.map((i) => uring.read(disk.fd, block(i), { offset: i * 4096 })));
  assertContent(bytes, 256 * 4096, 0);
  // One at a time: the event loop must not fall asleep over it.
  for (let i = 0; i < 50; i++) assert.equal(await uring.read(disk.fd, block(i), { offset: i * 4096 }), 4096);
});
