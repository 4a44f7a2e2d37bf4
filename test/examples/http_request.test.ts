import assert from "node:assert/strict";
import { RequestError, Requests } from "../../examples/http/request.ts";
import { pathOf } from "../../examples/http/files.ts";
import { type Meta, select } from "../../examples/http/response.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";

checkLeaks();

const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);

/** What a request says, for comparing. */
function read(requests: Requests) {
  const { method, target, keepAlive, special } = requests;
  return { method, target, keepAlive, special };
}

function statusOf(text: string): number | null {
  const requests = new Requests();
  requests.feed(bytesOf(text));
  try {
    return requests.next() ? null : 0;
  } catch (error) {
    assert.ok(error instanceof RequestError);
    return error.status;
  }
}

test("http.ts reads requests, however they are cut", () => {
  const text = "GET /a?b HTTP/1.1\r\nhost: x\r\n\r\n" +
    "\r\nHEAD / HTTP/1.1\r\nHOST:x\r\nConnection: Close\r\n\r\n" +
    "GET /old HTTP/1.0\n\n" +
    "GET /kept HTTP/1.0\r\nconnection:  keep-alive \r\n\r\n" +
    "GET /part HTTP/1.1\r\nHost: x\r\nRange: bytes=0-1\r\nContent-Length: 0\r\n\r\n" +
    "POST /form HTTP/1.1\r\nHost: x\r\n\r\n";
  const expected = [
    { method: "GET", target: "/a?b", keepAlive: true, special: false },
    { method: "HEAD", target: "/", keepAlive: false, special: false },
    { method: "GET", target: "/old", keepAlive: false, special: false },
    { method: "GET", target: "/kept", keepAlive: true, special: false },
    { method: "GET", target: "/part", keepAlive: true, special: true },
    { method: "other", target: "/form", keepAlive: true, special: false },
  ];
  const bytes = bytesOf(text);
  for (const size of [1, 2, 7, 50, bytes.length]) {
    const requests = new Requests();
    const found = [];
    let rest = new Uint8Array();
    for (let at = 0; at < bytes.length; at += size) {
      const piece = bytes.subarray(at, at + size);
      const joined = new Uint8Array(rest.length + piece.length);
      joined.set(rest);
      joined.set(piece, rest.length);
      requests.feed(joined);
      while (requests.next()) found.push(read(requests));
      rest = joined.slice(requests.at);
    }
    assert.deepEqual(found, expected, `pieces of ${size}`);
  }
});

test("http.ts refuses what is no request", () => {
  const host = "Host: x\r\n";
  for (
    const [text, status] of [
      ["GET /\r\n\r\n", 400],
      ["GET / HTTP/2.0\r\n\r\n", 400],
      ["GET  / HTTP/1.1\r\n\r\n", 400],
      ["\0\0\0\n", 400],
      ["GET / HTTP/1.1\r\n\r\n", 400],
      [`GET / HTTP/1.1\r\n${host}${host}\r\n`, 400],
      [`GET / HTTP/1.1\r\n${host}Name : x\r\n\r\n`, 400],
      [`GET / HTTP/1.1\r\n${host} folded\r\n\r\n`, 400],
      [`GET / HTTP/1.1\r\n${host}nothing\r\n\r\n`, 400],
      [`GET / HTTP/1.1\r\n${host}Content-Length: 5\r\n\r\n`, 400],
      [`GET / HTTP/1.1\r\n${host}Transfer-Encoding: chunked\r\n\r\n`, 400],
      [`POST / HTTP/1.1\r\n${host}Content-Length: 5\r\n\r\n`, 405],
      [`GET / HTTP/1.1\r\n${host}X: ${"x".repeat(20_000)}`, 431],
      [`GET / HTTP/1.1\r\n${host}X: ${"x".repeat(20_000)}\r\n\r\n`, 431],
      [`GET / HTTP/1.1\r\n${host}X: x\r\n`, 0],
    ] as const
  ) assert.equal(statusOf(text), status, JSON.stringify(text.slice(0, 60)));
});

test("http.ts finds no path outside of its directory", () => {
  for (
    const [target, path] of [
      ["/", "index.html"],
      ["/a/b.txt", "a/b.txt"],
      ["/a/", "a/index.html"],
      ["//a//./b", "a/b"],
      ["/a%20b?x#y", "a b"],
      ["/%C3%A9", "é"],
      ["/../etc/passwd", null],
      ["/a/%2e%2e/%2e%2e/etc/passwd", null],
      ["/a%2f..%2f..%2fetc", null],
      ["/..a/b..", "..a/b.."],
      ["/a%00b", null],
      ["/%zz", null],
      ["*", null],
      ["http://other/a", null],
    ] as const
  ) assert.equal(pathOf(target), path, target);
});

test("http.ts selects parts of a file as the standard has it", () => {
  const modified = Date.UTC(2024, 0, 2, 3, 4, 5) / 1000;
  const lastModified = new Date(modified * 1000).toUTCString();
  const meta: Meta = { size: 1000, modified, lastModified, etag: '"e"', type: "text/plain" };
  const nothing = { range: null, ifRange: null, ifNoneMatch: null, ifModifiedSince: null };
  for (
    const [conditions, status, start, end] of [
      [{}, 200, 0, 1000],
      [{ range: "bytes=0-99" }, 206, 0, 100],
      [{ range: "bytes=900-" }, 206, 900, 1000],
      [{ range: "bytes=-100" }, 206, 900, 1000],
      [{ range: "bytes=-5000" }, 206, 0, 1000],
      [{ range: "bytes=990-5000" }, 206, 990, 1000],
      [{ range: "bytes=1000-" }, 416, 0, 0],
      [{ range: "bytes=-0" }, 416, 0, 0],
      [{ range: "bytes=5-4" }, 200, 0, 1000],
      [{ range: "bytes=0-1,5-6" }, 200, 0, 1000],
      [{ range: "lines=0-1" }, 200, 0, 1000],
      [{ range: "bytes=-" }, 200, 0, 1000],
      [{ range: "bytes=0-1", ifRange: '"e"' }, 206, 0, 2],
      [{ range: "bytes=0-1", ifRange: '"f"' }, 200, 0, 1000],
      [{ range: "bytes=0-1", ifRange: lastModified }, 206, 0, 2],
      [{ ifNoneMatch: '"e"' }, 304, 0, 0],
      [{ ifNoneMatch: '"a", W/"e"' }, 304, 0, 0],
      [{ ifNoneMatch: "*" }, 304, 0, 0],
      [{ ifNoneMatch: '"f"' }, 200, 0, 1000],
      [{ ifNoneMatch: '"f"', ifModifiedSince: lastModified }, 200, 0, 1000],
      [{ ifModifiedSince: lastModified }, 304, 0, 0],
      [{ ifModifiedSince: new Date(modified * 1000 - 1000).toUTCString() }, 200, 0, 1000],
      [{ ifModifiedSince: "whenever" }, 200, 0, 1000],
    ] as const
  ) {
    assert.deepEqual(
      select(meta, { ...nothing, ...conditions }),
      { status, start, end },
      JSON.stringify(conditions),
    );
  }
  const empty = { ...meta, size: 0 };
  assert.deepEqual(select(empty, { ...nothing, range: "bytes=0-" }), { status: 416, start: 0, end: 0 });
});
