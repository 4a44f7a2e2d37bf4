/** Host names and what they stand for. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import process from "node:process";
import { parseIp } from "../../src/net/ip.ts";
import { NameError, resolve } from "../../src/net/mod.ts";
import { UringError } from "../../src/mod.ts";
import { TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { output } from "../support/program.ts";

checkLeaks();

const V4 = { family: 4, address: "127.0.0.1" };
const V6 = { family: 6, address: "::1" };

test("an IP address stands for itself, in its shortest form", async () => {
  assert.deepEqual(await resolve("10.0.255.1"), [{ family: 4, address: "10.0.255.1" }]);
  const forms: Record<string, string> = {
    "::": "::",
    "::1": "::1",
    "[::1]": "::1",
    "2001:0DB8:0:0:8:800:200C:417A": "2001:db8::8:800:200c:417a",
    "1:0:0:2:0:0:0:3": "1:0:0:2::3",
    "1:0:0:2:3:0:0:4": "1::2:3:0:0:4",
    "1:2:3:4:5:6:7::": "1:2:3:4:5:6:7:0",
    "::2:3:4:5:6:7:8": "0:2:3:4:5:6:7:8",
    "::ffff:192.0.2.1": "::ffff:192.0.2.1",
    "::FFFF:c000:201": "::ffff:192.0.2.1",
    "64:ff9b::192.0.2.33": "64:ff9b::c000:221",
    "1:2:3:4:5:6:1.2.3.4": "1:2:3:4:5:6:102:304",
  };
  for (const [text, address] of Object.entries(forms)) {
    assert.deepEqual(await resolve(text), [{ family: 6, address }], text);
  }
});

test("a zone is an interface's name or its number", async () => {
  assert.deepEqual(await resolve("fe80::1%lo"), [{ family: 6, address: "fe80::1", scope: 1 }]);
  assert.deepEqual(await resolve("[fe80::1%7]"), [{ family: 6, address: "fe80::1", scope: 7 }]);
  for (const zone of ["nosuchinterface", "", "0", "4294967296", "-1"]) {
    await assert.rejects(resolve(`fe80::1%${zone}`), { name: "UringError", code: "ENOTFOUND" }, zone);
  }
});

test("what looks like an address and is none is no address", () => {
  const none = [
    "1.2.3",
    "1.2.3.4.5",
    "256.1.1.1",
    "01.2.3.4",
    "1.2.3.4 ",
    "",
    "1::2::3",
    ":1:2:3:4:5:6:7",
    "12345::",
  ]
    .concat([
      ":::",
      "::1.2.3",
      "1.2.3.4::",
      "1:2:3:4:5:6:7",
      "1:2:3:4:5:6:7:8:9",
      "1:2:3:4:5:6:7:1.2.3.4",
      "[1.2.3.4]",
    ])
    .concat(["g::", "1:2:3:4:5:6:7:8::", "[::1", "::1]", "1.2.3.4:80", "%lo"]);
  for (const text of none) assert.equal(parseIp(text), undefined, text);
});

test("localhost is this machine, of both families", async () => {
  assert.deepEqual(await resolve("localhost"), [V4, V6]);
  assert.deepEqual(await resolve("LOCALHOST."), [V4, V6]);
  assert.deepEqual(await resolve("sub.localhost", { family: 4 }), [V4]);
  assert.deepEqual(await resolve("localhost", { family: 6 }), [V6]);
});

test("an address of the other family is not found", async () => {
  await assert.rejects(resolve("127.0.0.1", { family: 6 }), { code: "ENOTFOUND", hostname: "127.0.0.1" });
  await assert.rejects(resolve("::1", { family: 4 }), { code: "ENOTFOUND", hostname: "::1" });
});

const hosts = readHosts();
const noHosts = hosts === undefined ? "/etc/hosts names nothing but localhost" : false;

/** A name of /etc/hosts other than localhost, with its IPv4 address. */
function readHosts(): { name: string; address: string } | undefined {
  for (const line of readFileSync("/etc/hosts", "utf8").split("\n")) {
    const [address = "", ...names] = line.replace(/#.*/, "").trim().split(/\s+/);
    const name = names.find((name) => !/localhost$/.test(name));
    if (/^[\d.]+$/.test(address) && name !== undefined) return { name, address };
  }
  return undefined;
}

test("a name in /etc/hosts", { skip: noHosts }, async () => {
  const { name, address } = hosts!;
  const found = await resolve(name, { family: 4 });
  assert.ok(found.some((one) => one.address === address), JSON.stringify(found));
  assert.equal(new Set(found.map((one) => one.address)).size, found.length);
});

test("what only C understands is left to it", async () => {
  assert.deepEqual(await resolve("127.1"), [V4]);
  assert.deepEqual(await resolve("0x7f000001"), [V4]);
});

test("a name that is not there", async () => {
  await assert.rejects(resolve("nothing.invalid"), (error: unknown) => {
    assert.ok(error instanceof NameError && error instanceof UringError);
    assert.equal(error.syscall, "getaddrinfo");
    assert.equal(error.hostname, "nothing.invalid");
    // Without a name server that answers nobody knows.
    assert.match(error.code, /^(ENOTFOUND|EAI_AGAIN)$/);
    assert.match(error.message, new RegExp(`^${error.code}: .*, getaddrinfo 'nothing.invalid'$`));
    assert.equal(error.errno, error.code === "ENOTFOUND" ? -3008 : -3001);
    return true;
  });
});

test("letters beyond ASCII are asked for as DNS writes them", async () => {
  await assert.rejects(resolve("bücher.invalid"), { name: "UringError", hostname: "bücher.invalid" });
  assert.deepEqual(await resolve("bücher.localhost"), [V4, V6]);
});

test("wrong arguments", async () => {
  for (const name of ["", "a b", "a\0b", "ü/x", "ü:80", "ü@x", null, 7]) {
    await assert.rejects(resolve(name as string), TypeError, String(name));
  }
  await assert.rejects(resolve("localhost", { family: 5 as 4 }), RangeError);
});

test("a signal gives up", async () => {
  const reason = new Error("enough");
  await assert.rejects(resolve("localhost", { signal: AbortSignal.abort(reason) }), reason);
  const controller = new AbortController();
  const lookup = resolve("slow.invalid", { signal: controller.signal });
  controller.abort(reason);
  await assert.rejects(lookup, reason);
});

test("many at once, with the event loop running on", async () => {
  let turns = 0;
  const timer = setInterval(() => turns++, 0);
  const results = await Promise.all(Array.from({ length: 200 }, () => resolve("127.1")));
  await new Promise((done) => setTimeout(done, 5));
  clearInterval(timer);
  assert.ok(turns > 0);
  assert.deepEqual(results, results.map(() => [V4]));
});

const source = new URL("../../src/net/mod.ts", import.meta.url).href;
const noNamespace = process.getuid!() !== 0 || spawnSync("unshare", ["-n", "true"]).status !== 0
  ? "making a network of one's own needs root"
  : false;

/** What a program prints that looks names up, with `--allow-ffi` alone. */
async function outputOf(names: readonly string[], prefix: readonly string[]): Promise<string> {
  using dir = new TempDir();
  const program = dir.of("program.ts");
  writeFileSync(
    program,
    `import { resolve } from "${source}";
for (const name of ${JSON.stringify(names)}) {
  try {
    console.log((await resolve(name)).map(({ address }) => address).join());
  } catch (error) {
    console.log(error.code);
  }
}`,
  );
  return await output(program, [], { prefix });
}

test(
  "without a network: no name server answers, what is in /etc/hosts is found",
  { skip: noNamespace },
  async () => {
    const names = ["nothing.example", "127.1", "localhost"];
    assert.equal(await outputOf(names, ["unshare", "-n"]), "EAI_AGAIN\n127.0.0.1\n127.0.0.1,::1\n");
  },
);

test("needs no permission but to call C", async () => {
  assert.match(await outputOf(["127.1", "nothing.invalid"], []), /^127\.0\.0\.1\n(ENOTFOUND|EAI_AGAIN)\n$/);
});
