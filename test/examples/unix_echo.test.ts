import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { beside, cannotServe, client, ended, lacks } from "./servers.ts";

checkLeaks();

const skip = firstReason(cannotServe(), lacks("socat"));

/** What comes back of what socat sends. */
async function exchange(address: string, data: Uint8Array): Promise<Buffer> {
  // -t: how long it waits for the other end once its input has ended.
  const { status, out, err } = await client("socat", ["-t", "20", "-", address], data);
  assert.deepEqual([status, err], [0, ""]);
  return out;
}

test("unix-echo.ts serves socat at a path, and removes it", { skip }, async () => {
  const directory = mkdtempSync(join(tmpdir(), "uring-"));
  try {
    const path = join(directory, "socket");
    await beside("unix-echo.ts", [path], async ({ address }) => {
      assert.equal(address, path);
      await Promise.all([0, 1, 100_000, 5_000_000].map(async (size) => {
        const data = randomBytes(size);
        assert.ok((await exchange(`UNIX-CONNECT:${path}`, data)).equals(data), `${size} bytes`);
      }));
      const second = await ended("unix-echo.ts", [path]);
      assert.equal(second.status, 1);
      assert.match(second.err, /^unix-echo: EADDRINUSE: .*socket/);
    });
    assert.ok(!existsSync(path));
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test("unix-echo.ts serves socat at an abstract name", { skip }, async () => {
  const name = `uring-test-${process.pid}`;
  await beside("unix-echo.ts", [`@${name}`], async ({ address }) => {
    assert.equal(address, `@${name}`);
    const data = randomBytes(300_000);
    assert.ok((await exchange(`ABSTRACT-CONNECT:${name}`, data)).equals(data));
  });
});

test("unix-echo.ts refuses a path that is too long", { skip }, async () => {
  const { status, err } = await ended("unix-echo.ts", [`/tmp/${"x".repeat(200)}`]);
  assert.equal(status, 2);
  assert.match(err, /\nusage: unix-echo\.ts PATH/);
});
