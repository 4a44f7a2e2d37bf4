import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { connect } from "node:net";
import process from "node:process";
import { probe } from "uring";
import { TempDir } from "../support/descriptors.ts";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { run, type Running, start } from "./programs.ts";

checkLeaks();

const found = probe();
const skip = firstReason(
  !found.available && found.message,
  found.available && !found.operations.has("IORING_OP_PIPE") && "pipes need Linux 6.16",
);

async function listening(path: string): Promise<Running & { port: number }> {
  const server = start("send-file.ts", path, "0");
  const port = await new Promise<number>((resolve, reject) => {
    let said = "";
    server.child.stdout.on("data", (text) => {
      said += text;
      const match = /^listening on 127\.0\.0\.1:(\d+)\n/.exec(said);
      if (match !== null) resolve(Number(match[1]));
    });
    server.ended.then(({ status, err }) => reject(new Error(`it ended with ${status}: ${err}`)));
  });
  return { ...server, port };
}

/** All that comes until the end of a connection. */
function receive(port: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const parts: Buffer[] = [];
    const socket = connect(port, "127.0.0.1");
    socket.on("data", (bytes: Buffer) => parts.push(bytes));
    socket.once("error", reject);
    socket.once("end", () => resolve(Buffer.concat(parts)));
  });
}

test(
  "send-file.ts sends files of all sizes to many clients, and goes on when some hang up",
  { skip },
  async () => {
    using dir = new TempDir();
    for (const size of [0, 1, 65_536, 65_537, 1_000_003]) {
      const data = randomBytes(size);
      writeFileSync(dir.of("file"), data);
      const server = await listening(dir.of("file"));
      const rude = connect(server.port, "127.0.0.1", () => rude.resetAndDestroy());
      rude.on("error", () => {});
      const all = await Promise.all(Array.from({ length: 20 }, () => receive(server.port)));
      assert.ok(all.every((got) => got.equals(data)), `${size} bytes`);
      process.kill(server.child.pid!, "SIGTERM");
      const { status, out, err } = await server.ended;
      assert.deepEqual([status, err], [0, ""]);
      assert.match(out.toString(), /\nstopped\n$/);
    }
  },
);

test("send-file.ts says what is wrong", { skip }, async () => {
  const missing = await run("send-file.ts", ["/nonexistent", "0"]);
  assert.deepEqual([missing.status, missing.err], [
    1,
    "send-file: ENOENT: no such file or directory, statx '/nonexistent'\n",
  ]);
  for (const args of [[], ["/tmp"], ["/tmp", "x"], ["/tmp", "65536"], ["/tmp", "1", "2"]]) {
    assert.equal((await run("send-file.ts", args)).status, 2);
  }
});
