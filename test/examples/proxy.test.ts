import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import {
  beside,
  cannotServe,
  client,
  ended,
  findNginx,
  freePort,
  lacks,
  listeners,
  said,
} from "./servers.ts";

checkLeaks();

const skip = cannotServe();

/** Runs `body` beside a server in this process and a proxy in front of it. */
async function proxied(
  serve: (socket: Socket) => void,
  body: (port: number) => Promise<void>,
): Promise<void> {
  const sockets = new Set<Socket>();
  const server: Server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    serve(socket);
  });
  const behind = await new Promise<number>((resolve) => {
    server.listen(0, "127.0.0.1", () => resolve((server.address() as { port: number }).port));
  });
  try {
    await beside("proxy.ts", ["0", `127.0.0.1:${behind}`], ({ port }) => body(port));
  } finally {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  }
}

/** Waits until somebody listens. */
async function listened(port: number): Promise<void> {
  while (listeners(port) === 0) await new Promise((resolve) => setTimeout(resolve, 10));
}

/** Runs `body` beside a program of others, which is ended. */
async function besideProgram(
  program: string,
  args: readonly string[],
  port: number,
  body: () => Promise<void>,
): Promise<void> {
  const child: ChildProcess = spawn(program, [...args], { stdio: ["ignore", "ignore", "pipe"] });
  let complaints = "";
  child.stderr!.on("data", (text) => complaints += text);
  const end = new Promise<void>((resolve) => child.once("close", () => resolve()));
  const early = end.then(() => {
    throw new Error(`${program} has ended: ${complaints}`);
  });
  try {
    await Promise.race([listened(port).then(body), early]);
  } finally {
    early.catch(() => {});
    process.kill(child.pid!, "SIGTERM");
    await end;
  }
}

function sha(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

test("proxy.ts passes all bytes in both directions, and each end for itself", { skip }, async () => {
  // The answer comes only when the client has finished: a hash of what came, and as many bytes back.
  await proxied((socket) => {
    const hash = createHash("sha256");
    let length = 0;
    socket.on("data", (bytes: Buffer) => {
      hash.update(bytes);
      length += bytes.length;
    });
    socket.once("end", () => {
      socket.write(hash.digest("hex"));
      socket.end(Buffer.alloc(length, "x"));
    });
  }, async (port) => {
    await Promise.all([0, 1, 70_000, 5_000_000].map((size) =>
      new Promise<void>((resolve, reject) => {
        const data = randomBytes(size);
        const back: Buffer[] = [];
        const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
        socket.on("data", (bytes: Buffer) => back.push(bytes));
        socket.once("error", reject);
        socket.once("end", () => {
          const all = Buffer.concat(back);
          assert.equal(all.subarray(0, 64).toString(), sha(data));
          assert.ok(all.subarray(64).equals(Buffer.alloc(size, "x")));
          resolve();
        });
        socket.end(data);
      })
    ));
  });
});

test("proxy.ts holds back a side that sends while the other does not read", { skip }, async () => {
  const { promise, resolve: arrived } = Promise.withResolvers<Socket>();
  await proxied((socket) => {
    socket.pause();
    arrived(socket);
  }, async (port) => {
    const data = randomBytes(40_000_000);
    const socket = connect(port, "127.0.0.1");
    socket.on("error", () => {});
    let sent = false;
    socket.write(data, () => sent = true);
    const behind = await promise;
    await new Promise((resolve) => setTimeout(resolve, 300));
    // Some megabytes fit the sockets' buffers; the rest waits here.
    assert.ok(!sent, "all of it was taken, though nobody reads");
    const hash = createHash("sha256");
    await new Promise<void>((resolve) => {
      behind.on("data", (bytes: Buffer) => hash.update(bytes));
      behind.once("end", () => resolve());
      socket.end();
      behind.resume();
    });
    assert.equal(hash.digest("hex"), sha(data));
  });
});

test("proxy.ts passes on a reset, and survives it", { skip }, async () => {
  await proxied((socket) => {
    socket.write("hello");
    socket.on("data", () => socket.resetAndDestroy());
  }, async (port) => {
    for (let i = 0; i < 20; i++) {
      const error = await new Promise<string>((resolve) => {
        const socket = connect(port, "127.0.0.1");
        socket.once("data", () => socket.write("reset me"));
        socket.once("error", (error: Error & { code?: string }) => resolve(error.code ?? ""));
        socket.once("end", () => resolve("no error"));
      });
      assert.equal(error, "ECONNRESET");
    }
  });
});

test("proxy.ts ends a connection whose server is not there", { skip }, async () => {
  const nobody = await freePort();
  const server = await ended("proxy.ts", ["0", "nonsense"]);
  assert.equal(server.status, 2);
  await assert.rejects(
    beside("proxy.ts", ["0", `127.0.0.1:${nobody}`], async ({ port }) => {
      const code = await new Promise<string>((resolve) => {
        const socket = connect(port, "127.0.0.1");
        socket.once("error", (error: Error & { code?: string }) => resolve(error.code ?? ""));
      });
      assert.equal(code, "ECONNRESET");
    }),
    // What it has said of that.
    /ECONNREFUSED/,
  );
});

const nginx = findNginx();

test("proxy.ts stands before nginx", {
  skip: firstReason(skip, nginx === null && "nginx is not there", lacks("curl")),
}, async () => {
  const directory = mkdtempSync(join(tmpdir(), "uring-"));
  try {
    const behind = await freePort();
    mkdirSync(join(directory, "files"));
    const content = randomBytes(2_000_000);
    writeFileSync(join(directory, "files", "large"), content);
    writeFileSync(
      join(directory, "nginx.conf"),
      `daemon off; master_process off; pid ${directory}/pid; events {}
      http {
        access_log off; client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
        uwsgi_temp_path uwsgi; scgi_temp_path scgi;
        server { listen 127.0.0.1:${behind}; root ${directory}/files; }
      }`,
    );
    const args = ["-p", directory, "-c", join(directory, "nginx.conf"), "-e", "stderr"];
    await besideProgram(nginx!, args, behind, async () => {
      await beside("proxy.ts", ["0", `localhost:${behind}`], async ({ port }) => {
        const url = `http://127.0.0.1:${port}`;
        const { status, out } = await client("curl", ["-sS", `${url}/large`, `${url}/large`]);
        assert.equal(status, 0);
        assert.equal(sha(out), sha(Buffer.concat([content, content])));
        assert.match(await said("curl", ["-sSI", `${url}/nothing`]), /^HTTP\/1\.1 404 [^]*\r\nServer: nginx/);
      });
    });
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test("proxy.ts lets iperf3 through", { skip: firstReason(skip, lacks("iperf3")) }, async () => {
  const behind = await freePort();
  await besideProgram("iperf3", ["-s", "-B", "127.0.0.1", "-p", String(behind)], behind, async () => {
    await beside("proxy.ts", ["0", `127.0.0.1:${behind}`], async ({ port }) => {
      for (const direction of [[], ["-R"]]) {
        const args = ["-c", "127.0.0.1", "-p", String(port), "-n", "100M", "-J", ...direction];
        let told = await said("iperf3", args);
        // The test before may not be over for its server.
        while (/the server is busy/.test(told)) told = await said("iperf3", args);
        const { end } = JSON.parse(told) as {
          end: { sum_received?: { bytes: number }; sum_sent?: { bytes: number } };
        };
        assert.ok(end.sum_sent !== undefined && end.sum_received !== undefined, told);
        assert.ok(end.sum_sent.bytes >= 100 * 1024 * 1024, `${end.sum_sent.bytes} bytes sent`);
        // What is under way at the end is not waited for.
        assert.ok(
          end.sum_received.bytes > 0.3 * end.sum_sent.bytes,
          `${end.sum_received.bytes} bytes received`,
        );
      }
    });
  });
});
