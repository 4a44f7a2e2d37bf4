import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { beside, cannotServe, ended, lacks, said } from "./servers.ts";

checkLeaks();

const skip = cannotServe();
const skipCurl = firstReason(skip, lacks("curl"));
const LARGE = 3_000_000;

/** A directory that is served, and what one may do to it. */
interface Site {
  readonly url: string;
  readonly port: number;
  readonly path: (name: string) => string;
  readonly large: Buffer;
}

async function withSite(body: (site: Site) => Promise<void>): Promise<void> {
  const outside = mkdtempSync(join(tmpdir(), "uring-"));
  try {
    const directory = join(outside, "site");
    const path = (name: string): string => join(directory, name);
    mkdirSync(path("sub"), { recursive: true });
    const large = randomBytes(LARGE);
    writeFileSync(path("index.html"), "<p>index</p>\n");
    writeFileSync(path("small.txt"), "0123456789");
    writeFileSync(path("empty"), "");
    writeFileSync(path("sub/index.html"), "<p>sub</p>\n");
    writeFileSync(path("sub/a b.css"), "p {}\n");
    writeFileSync(path("large.bin"), large);
    writeFileSync(join(outside, "secret"), "secret");
    symlinkSync("../secret", path("leak"));
    symlinkSync("small.txt", path("link"));
    await beside(
      "http.ts",
      ["0", directory],
      ({ port }) => body({ url: `http://127.0.0.1:${port}`, port, path, large }),
    );
  } finally {
    rmSync(outside, { recursive: true });
  }
}

/** A response as curl tells it. */
interface Response {
  readonly status: number;
  readonly fields: ReadonlyMap<string, string>;
  readonly body: Buffer;
}

async function curl(...args: readonly string[]): Promise<Response> {
  const file = join(mkdtempSync(join(tmpdir(), "uring-")), "body");
  const head = await said("curl", ["-sS", "--path-as-is", "-D", "-", "-o", file, ...args]);
  const [statusLine = "", ...lines] = head.trim().split("\r\n");
  const fields = new Map(lines.map((line) => line.split(/: (.*)/s).slice(0, 2) as [string, string]));
  let body = Buffer.alloc(0);
  try {
    body = readFileSync(file);
  } catch {
    // Without a body there is no file.
  }
  rmSync(join(file, ".."), { recursive: true });
  return { status: Number(statusLine.split(" ")[1]), fields, body };
}

/** Sends text as it is, and returns all that comes until the server has finished. */
function raw(port: number, text: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let back = "";
    const socket = connect(port, "127.0.0.1", () => socket.write(text, "latin1"));
    socket.setEncoding("latin1");
    socket.on("data", (piece) => back += piece);
    socket.once("error", reject);
    socket.once("end", () => resolve(back));
  });
}

test("http.ts sends files to curl, with what belongs to them", { skip: skipCurl }, async () => {
  await withSite(async ({ url, large, path }) => {
    const first = await curl(`${url}/`);
    assert.deepEqual([first.status, first.body.toString()], [200, "<p>index</p>\n"]);
    assert.equal(first.fields.get("Content-Type"), "text/html; charset=utf-8");
    assert.match(first.fields.get("ETag") ?? "", /^"[^"]+"$/);
    assert.equal(first.fields.get("Accept-Ranges"), "bytes");
    assert.ok(Math.abs(Date.parse(first.fields.get("Date") ?? "") - Date.now()) < 60_000);
    utimesSync(path("empty"), 1_600_000_000, 1_600_000_000);
    const empty = await curl(`${url}/empty`);
    assert.deepEqual([empty.status, empty.body.length], [200, 0]);
    assert.equal(empty.fields.get("Last-Modified"), "Sun, 13 Sep 2020 12:26:40 GMT");
    assert.equal(empty.fields.get("Content-Type"), "application/octet-stream");
    assert.equal((await curl(`${url}/sub/a%20b.css?version=2`)).body.toString(), "p {}\n");
    assert.equal((await curl(`${url}/link`)).body.toString(), "0123456789");
    assert.ok((await curl(`${url}/large.bin`)).body.equals(large));
    const moved = await curl(`${url}/sub?x`);
    assert.deepEqual([moved.status, moved.fields.get("Location")], [301, "/sub/"]);
    assert.equal((await curl("-L", `${url}/sub`)).body.toString(), "<p>sub</p>\n");
  });
});

test("http.ts answers HEAD, ranges and conditions", { skip: skipCurl }, async () => {
  await withSite(async ({ url, port, large }) => {
    for (const [name, content] of [["small.txt", Buffer.from("0123456789")], ["large.bin", large]] as const) {
      const file = `${url}/${name}`;
      const size = content.length;
      const head = await curl("-I", file);
      assert.deepEqual([head.status, head.fields.get("Content-Length")], [200, String(size)]);
      const bare = await raw(port, `HEAD /${name} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
      assert.ok(bare.endsWith("\r\n\r\n"));
      for (
        const [range, start, end] of [["2-5", 2, 6], ["-3", size - 3, size], [
          `${size - 1}-`,
          size - 1,
          size,
        ]] as const
      ) {
        const part = await curl("-r", range, file);
        assert.deepEqual([part.status, part.fields.get("Content-Range")], [
          206,
          `bytes ${start}-${end - 1}/${size}`,
        ]);
        assert.ok(part.body.equals(content.subarray(start, end)), `${name} ${range}`);
      }
      const none = await curl("-r", `${size}-`, file);
      assert.deepEqual([none.status, none.fields.get("Content-Range")], [416, `bytes */${size}`]);
      const etag = head.fields.get("ETag")!;
      const modified = head.fields.get("Last-Modified")!;
      for (const condition of [`If-None-Match: ${etag}`, `If-Modified-Since: ${modified}`]) {
        const same = await curl("-H", condition, file);
        assert.deepEqual([same.status, same.body.length, same.fields.get("ETag")], [304, 0, etag], condition);
      }
      assert.equal((await curl("-H", 'If-None-Match: "other"', file)).status, 200);
      // Whole, since it is another file that the client has a part of.
      assert.equal((await curl("-H", 'If-Range: "other"', "-r", "0-1", file)).body.length, size);
    }
  });
});

test("http.ts refuses what it has not or must not give", { skip: skipCurl }, async () => {
  await withSite(async ({ url, port }) => {
    for (
      const [target, status] of [
        ["/nothing", 404],
        ["/small.txt/", 404],
        ["/leak", 404],
        ["/../secret", 400],
        ["/sub/%2e%2e/%2e%2e/secret", 400],
        ["/%00", 400],
        [`/${"x".repeat(5000)}`, 404],
      ] as const
    ) assert.equal((await curl(`${url}${target}`)).status, status, target.slice(0, 40));
    const post = await curl("-X", "DELETE", `${url}/small.txt`);
    assert.deepEqual([post.status, post.fields.get("Allow")], [405, "GET, HEAD"]);
    assert.equal((await curl("-d", "body", `${url}/small.txt`)).status, 405);
    assert.equal((await curl("-H", `X: ${"x".repeat(30_000)}`, `${url}/small.txt`)).status, 431);
    assert.match(
      await raw(port, "nonsense\r\n\r\n"),
      /^HTTP\/1\.1 400 Bad Request\r\n[^]*Connection: close\r\n/,
    );
  });
});

test("http.ts keeps connections, and answers pipelined requests in order", { skip: skipCurl }, async () => {
  await withSite(async ({ url, port, large }) => {
    // Told by curl: how many connections it has made.
    const made = await said("curl", [
      "-s",
      "-o",
      "/dev/null",
      "-o",
      "/dev/null",
      "-w",
      "%{num_connects}\n",
      `${url}/`,
      `${url}/small.txt`,
    ]);
    assert.equal(made, "1\n0\n");
    const get = (target: string, more = ""): string => `GET ${target} HTTP/1.1\r\nHost: x\r\n${more}\r\n`;
    const targets = ["/small.txt", "/large.bin", "/nothing", "/sub/", "/large.bin", "/small.txt"];
    const back = await raw(
      port,
      targets.map((target) => get(target)).join("") + get("/empty", "Connection: close\r\n"),
    );
    const content = large.toString("latin1");
    const bodies = ["0123456789", content, "404 Not Found\n", "<p>sub</p>\n", content, "0123456789", ""];
    let at = 0;
    for (const body of bodies) {
      const end = back.indexOf("\r\n\r\n", at) + 4;
      assert.match(
        back.slice(at, end),
        new RegExp(`^HTTP/1\\.1 (200|404) [^]*\r\nContent-Length: ${body.length}\r\n`),
      );
      assert.ok(back.startsWith(body, end));
      at = end + body.length;
    }
    assert.equal(at, back.length);
    // One that finishes right after its requests is answered, too.
    const old = await raw(port, "GET /small.txt HTTP/1.0\r\n\r\n");
    assert.match(old, /\r\nConnection: close\r\n\r\n0123456789$/);
  });
});

test("http.ts notices that a file was changed, replaced or removed", { skip: skipCurl }, async () => {
  await withSite(async ({ url, path }) => {
    const file = `${url}/small.txt`;
    const until = async (done: (response: Response) => boolean): Promise<void> => {
      while (!done(await curl(file))) await new Promise((resolve) => setTimeout(resolve, 50));
    };
    const first = await curl(file);
    writeFileSync(path("small.txt"), "other text");
    await until(({ body }) => body.toString() === "other text");
    assert.notEqual((await curl(file)).fields.get("ETag"), first.fields.get("ETag"));
    writeFileSync(path("new"), "replaced");
    renameSync(path("new"), path("small.txt"));
    await until(({ body }) => body.toString() === "replaced");
    rmSync(path("small.txt"));
    await until(({ status }) => status === 404);
  });
});

test("http.ts serves wrk", { skip: firstReason(skip, lacks("wrk")) }, async () => {
  await withSite(async ({ url }) => {
    for (const [name, connections] of [["small.txt", 64], ["large.bin", 4]] as const) {
      const out = await said("wrk", ["-t", "1", "-c", String(connections), "-d", "1s", `${url}/${name}`]);
      assert.match(out, /[1-9]\d* requests in/);
      // A busy machine may have it time out.
      assert.doesNotMatch(out, /Non-2xx|Socket errors: (?!connect 0, read 0, write 0,)/);
    }
  });
});

test("http.ts wants a port and a directory", { skip }, async () => {
  for (const args of [[], ["1"], ["x", "/tmp"], ["1", "/tmp", "more"]]) {
    assert.equal((await ended("http.ts", args)).status, 2);
  }
  const { status, err } = await ended("http.ts", ["0", "/nonsense"]);
  assert.equal(status, 1);
  assert.match(err, /^http: ENOENT: .*\/nonsense/);
});
