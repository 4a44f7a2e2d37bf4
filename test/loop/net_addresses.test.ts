/** Socket addresses: from objects to bytes and back, and what is no address. */
import assert from "node:assert/strict";
import { AF_INET6, SOCK_STREAM } from "../../src/ffi/abi.ts";
import { decodeAddress, encodeAddress } from "../../src/loop/sockaddr.ts";
import { type SocketAddress } from "../../src/mod.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { makeUring } from "../support/loop.ts";
import { type ArgumentError, refuses } from "../support/operations.ts";

checkLeaks();

function roundTrip(address: SocketAddress): SocketAddress {
  const encoded = encodeAddress(address);
  return decodeAddress(encoded, encoded.length);
}

const ipv6 = (address: string): SocketAddress => ({ family: "ipv6", address, port: 1 });

test("IPv4: bytes, and back", () => {
  const address: SocketAddress = { family: "ipv4", address: "192.168.1.254", port: 0x1234 };
  assert.deepEqual([...encodeAddress(address)], [2, 0, 0x12, 0x34, 192, 168, 1, 254, 0, 0, 0, 0, 0, 0, 0, 0]);
  for (const text of ["0.0.0.0", "127.0.0.1", "255.255.255.255", "1.2.3.4"]) {
    for (const port of [0, 1, 80, 65535]) {
      const address: SocketAddress = { family: "ipv4", address: text, port };
      assert.deepEqual(roundTrip(address), address);
    }
  }
});

test("IPv6: bytes, and back", () => {
  const encoded = encodeAddress({
    family: "ipv6",
    address: "2001:db8::8:800:200c:417a",
    port: 443,
    scopeId: 7,
  });
  assert.equal(encoded.length, 28);
  assert.deepEqual([...encoded.subarray(0, 8)], [10, 0, 1, 0xbb, 0, 0, 0, 0]);
  assert.equal(encoded[24], 7);
  assert.deepEqual(decodeAddress(encoded, 28), {
    family: "ipv6",
    address: "2001:db8::8:800:200c:417a",
    port: 443,
    scopeId: 7,
  });
});

test("IPv6: every way to write it gives the canonical one (RFC 5952)", () => {
  const forms: readonly [string, string][] = [
    ["::", "::"],
    ["::1", "::1"],
    ["0:0:0:0:0:0:0:1", "::1"],
    ["1::", "1::"],
    ["2001:DB8::1", "2001:db8::1"],
    ["2001:0db8:0000:0000:0000:0000:0000:0001", "2001:db8::1"],
    ["2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"],
    ["2001:0:0:1:0:0:0:1", "2001:0:0:1::1"],
    ["2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"],
    ["1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"],
    ["::2:3:4:5:6:7:8", "0:2:3:4:5:6:7:8"],
    ["1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"],
    ["fe80::abcd:ef01", "fe80::abcd:ef01"],
    ["::ffff:192.0.2.128", "::ffff:192.0.2.128"],
    ["::ffff:c000:0280", "::ffff:192.0.2.128"],
    ["64:ff9b::192.0.2.33", "64:ff9b::c000:221"],
    ["1:2:3:4:5:6:1.2.3.4", "1:2:3:4:5:6:102:304"],
  ];
  for (const [written, canonical] of forms) {
    assert.deepEqual(roundTrip(ipv6(written)), ipv6(canonical), written);
  }
});

test("Unix: a path, an abstract name, none", () => {
  const length = (path: string): number => encodeAddress({ family: "unix", path }).length;
  for (
    const path of ["/tmp/socket", "relative", "/tmp/ünïcödé", "x".repeat(107), "\0abstract", "\0a\0b\0", ""]
  ) {
    assert.deepEqual(roundTrip({ family: "unix", path }), { family: "unix", path });
  }
  assert.equal(length("/a"), 2 + 3, "a path ends with a NUL");
  assert.equal(length("\0ab"), 2 + 3, "an abstract name does not");
  assert.equal(length(`\0${"x".repeat(107)}`), 2 + 108);
  assert.equal(length(""), 2);
  // What accept and getsockname tell of a socket without a name, and what getsockname may tell of a path.
  assert.deepEqual(decodeAddress(new Uint8Array(110), 0), { family: "unix", path: "" });
  const padded = new Uint8Array(110);
  padded.set(encodeAddress({ family: "unix", path: "/a" }));
  assert.deepEqual(decodeAddress(padded, 110), { family: "unix", path: "/a" });
});

const BAD: readonly (readonly [unknown, ArgumentError])[] = [
  ...[
    "",
    "1.2.3",
    "1.2.3.4.5",
    "1.2.3.256",
    "01.2.3.4",
    "1.2.3.-4",
    " 1.2.3.4",
    "1.2.3.4 ",
    "localhost",
    "::1",
  ].map(
    (address) => [{ family: "ipv4", address, port: 1 }, TypeError] as const,
  ),
  ...[
    "",
    ":",
    ":::",
    "1",
    "1:2:3:4:5:6:7",
    "1:2:3:4:5:6:7:8:9",
    "1:2:3:4:5:6:7:8::",
    "::1::",
    "1::2::3",
    "12345::",
    "g::",
    "fe80::1%eth0",
    "[::1]",
    "1.2.3.4",
    "1.2.3.4::",
    "::1.2.3.4:5",
    "::1.2.3",
    "::1.2.3.256",
    "1:2:3:4:5:6:7:1.2.3.4",
    ":1:2:3:4:5:6:7",
  ].map((address) => [{ family: "ipv6", address, port: 1 }, TypeError] as const),
  ...[-1, 65536, 1.5, NaN, Infinity, "80", undefined].flatMap((port) => [
    [{ family: "ipv4", address: "1.2.3.4", port }, RangeError] as const,
    [{ family: "ipv6", address: "::1", port }, RangeError] as const,
  ]),
  ...[-1, 1.5, 2 ** 32].map((scopeId) =>
    [{ family: "ipv6", address: "fe80::1", port: 1, scopeId }, RangeError] as const
  ),
  [{ family: "unix", path: "/tmp/a\0b" }, TypeError],
  [{ family: "unix", path: "x".repeat(108) }, RangeError],
  [{ family: "unix", path: "ü".repeat(54) }, RangeError],
  [{ family: "unix", path: `\0${"x".repeat(108)}` }, RangeError],
  [{ family: "unix" }, TypeError],
  [{ family: "unix", path: 5 }, TypeError],
  [{ family: "ipv4", port: 1 }, TypeError],
  [{ family: "ipv6", port: 1 }, TypeError],
  [{ family: "ipv5", address: "1.2.3.4", port: 1 }, TypeError],
  [{}, TypeError],
];

test("what is no address is refused before anything is submitted", async () => {
  await using uring = makeUring();
  const fd = await uring.socket(AF_INET6, SOCK_STREAM);
  for (const [address, kind] of BAD) {
    assert.throws(() => encodeAddress(address as SocketAddress), kind, JSON.stringify(address));
    await refuses(uring, kind, () => uring.connect(fd, address as SocketAddress));
    await refuses(uring, kind, () => uring.bind(fd, address as SocketAddress));
  }
  await refuses(uring, TypeError, () => uring.connect(fd, undefined as unknown as SocketAddress));
  await refuses(uring, TypeError, () => uring.bind(fd, null as unknown as SocketAddress));
  await uring.close(fd);
});

test("an address of another family has no JavaScript form", () => {
  assert.throws(() => decodeAddress(new Uint8Array([16, 0, 0, 0]), 4), TypeError);
});
