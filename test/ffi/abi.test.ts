/** The generated tables against their data, and against what the system's C headers say. */
import assert from "node:assert/strict";
import process from "node:process";
import { loadAbi, stale } from "../../scripts/gen-abi.ts";
import type { StructFacts } from "../../scripts/gen-abi.ts";
import * as abi from "../../src/ffi/abi.ts";
import * as aarch64 from "../../src/ffi/abi_aarch64.ts";
import * as x86_64 from "../../src/ffi/abi_x86_64.ts";
import * as structs from "../../src/ffi/structs.ts";
import * as nvme from "../../src/nvme/abi.ts";
import * as versions from "../../src/ffi/versions.ts";
import * as ublk from "../../src/ublk/abi.ts";
import { evaluate, missingCompiler } from "../support/cc.ts";
import type { Expression } from "../support/cc.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";

checkLeaks();

const HEADERS = [
  ..."dirent.h fcntl.h limits.h poll.h signal.h stdio.h time.h unistd.h".split(" "),
  ..."sys/types.h sys/epoll.h sys/eventfd.h sys/file.h sys/inotify.h sys/mman.h sys/resource.h".split(" "),
  ..."sys/socket.h sys/stat.h sys/statfs.h sys/syscall.h sys/uio.h sys/un.h sys/wait.h sys/xattr.h".split(
    " ",
  ),
  ..."netdb.h netinet/in.h netinet/tcp.h netinet/udp.h".split(" "),
  ..."linux/falloc.h linux/filter.h linux/fs.h linux/fuse.h linux/futex.h linux/net_tstamp.h linux/errqueue.h linux/openat2.h linux/time_types.h"
    .split(" "),
  "linux/io_uring.h",
  "linux/io_uring/query.h",
];
const noCompiler = missingCompiler(["stdio.h", "linux/io_uring.h"]);
const noUblkHeader = missingCompiler(["stdio.h", "linux/ublk_cmd.h"]);

const data = loadAbi();
const ours = process.arch === "arm64" ? aarch64 : x86_64;
const ourFacts = process.arch === "arm64" ? data.arch.aarch64 : data.arch.x86_64;

/** Compares our values with C's, wherever C knows the name; gives back how many it knew. */
function compareWithC(
  headers: readonly string[],
  expected: ReadonlyMap<string, [c: string, value: bigint]>,
): number {
  const expressions: Expression[] = [...expected].map(([name, [c]]) => ({ name, c }));
  const actual = evaluate(headers, expressions);
  for (const [name, value] of actual) assert.equal(expected.get(name)![1], value, name);
  return actual.size;
}

function constantsOf(module: Readonly<Record<string, unknown>>): Map<string, [string, bigint]> {
  const found = new Map<string, [string, bigint]>();
  for (const [name, value] of Object.entries(module)) {
    // Every version of the headers moves these.
    if (/^IORING_\w+_LAST$|^__/.test(name)) continue;
    if (typeof value === "number") found.set(name, [name, BigInt(value)]);
    // C prints it as a signed value.
    if (typeof value === "bigint") found.set(name, [name, BigInt.asIntN(64, value)]);
  }
  return found;
}

function layoutOf(
  module: Readonly<Record<string, unknown>>,
  facts: Readonly<Record<string, StructFacts>>,
): Map<string, [string, bigint]> {
  const found = new Map<string, [string, bigint]>();
  for (const [name, { fields }] of Object.entries(facts)) {
    const layout = module[name] as Readonly<Record<string, number>>;
    const type = name.endsWith("_t") ? name : `struct ${name}`;
    found.set(`sizeof ${name}`, [`sizeof(${type})`, BigInt(layout["size"]!)]);
    found.set(`alignof ${name}`, [`_Alignof(${type})`, BigInt(layout["align"]!)]);
    for (const field of Object.keys(fields)) {
      // What is reserved shrinks as newer headers find a use for it.
      if (/resv|pad|reserved/.test(field)) continue;
      const key = field === "size" || field === "align" ? `${field}_` : field;
      found.set(`${name}.${field}`, [`offsetof(${type}, ${field})`, BigInt(layout[key]!)]);
      const size = layout[`${key}_size`];
      if (size !== undefined) {
        found.set(`sizeof ${name}.${field}`, [`sizeof(((${type} *)0)->${field})`, BigInt(size)]);
      }
    }
  }
  return found;
}

test("the generated files are up to date", () => {
  assert.deepEqual(stale(), []);
});

test("both architectures have the same names", () => {
  assert.deepEqual(Object.keys(aarch64).sort(), Object.keys(x86_64).sort());
});

test("constants are those of the C headers", { skip: noCompiler }, () => {
  const count = compareWithC(HEADERS, constantsOf(abi));
  assert.ok(count >= 500, `only ${count} constants were known to the compiler`);
});

test("the architecture's constants are those of the kernel's headers", { skip: noCompiler }, () => {
  // The C library says 0 for O_LARGEFILE, hence the kernel's fcntl.h.
  const count = compareWithC(["asm/fcntl.h", "asm/unistd.h", "sys/syscall.h"], constantsOf(ours));
  assert.equal(count, Object.keys(ourFacts.constants).length);
});

test("structs are laid out as in the C headers", { skip: noCompiler }, () => {
  const expected = new Map([
    ...layoutOf(structs, { ...data.uring.structs, ...data.system.structs }),
    ...layoutOf(ours as unknown as Record<string, unknown>, ourFacts.structs),
  ]);
  const count = compareWithC(HEADERS, expected);
  assert.ok(count >= 300, `only ${count} sizes and offsets were known to the compiler`);
});

test("what Linux says of NVMe commands is what its header says", { skip: noCompiler }, () => {
  const expected = new Map([
    ...constantsOf(nvme),
    ...layoutOf(nvme as unknown as Record<string, unknown>, data.nvme.structs),
  ]);
  // Only the numbers of the calls and the command's own struct are there; the rest is in the standard.
  const count = compareWithC(["linux/types.h", "sys/ioctl.h", "linux/nvme_ioctl.h"], expected);
  assert.ok(count >= 22, `only ${count} were known to the compiler`);
});

test("what there is of ublk is as in the C header", { skip: noUblkHeader }, () => {
  const expected = new Map([
    ...constantsOf(ublk),
    ...layoutOf(ublk as unknown as Record<string, unknown>, data.ublk.structs),
  ]);
  // It grows from kernel to kernel, and tells its length.
  expected.delete("sizeof ublk_params");
  const count = compareWithC(["linux/ublk_cmd.h"], expected);
  assert.ok(count >= 70, `only ${count} values were known to the compiler`);
});

test("every feature of ublk has a version", () => {
  const names = Object.keys(ublk).filter((name) => /^UBLK_F_/.test(name)).sort();
  assert.deepEqual(ublk.UBLK_FEATURES.map(([, name]) => name).sort(), names);
});

test("every opcode and register opcode has a name and a version", () => {
  assert.equal(versions.OPCODE_NAME.length, abi.IORING_OP_LAST);
  assert.equal(versions.OPCODE_KERNEL.length, abi.IORING_OP_LAST);
  assert.equal(versions.OPCODE_NAME[abi.IORING_OP_READ], "IORING_OP_READ");
  assert.equal(versions.OPCODE_KERNEL[abi.IORING_OP_READ], "5.6");
  assert.equal(versions.REGISTER_NAME.length, abi.IORING_REGISTER_LAST);
  assert.equal(versions.REGISTER_NAME[abi.IORING_REGISTER_PBUF_RING], "IORING_REGISTER_PBUF_RING");
  assert.equal(versions.REGISTER_KERNEL[abi.IORING_REGISTER_PBUF_RING], "5.19");
});

test("every flag that has a value has a version", () => {
  const groups: [readonly versions.Flag[], RegExp][] = [
    [versions.SETUP_FLAGS, /^IORING_SETUP_/],
    [versions.FEATURES, /^IORING_FEAT_/],
    [versions.ENTER_FLAGS, /^IORING_ENTER_/],
    [versions.SQE_FLAGS, /^IOSQE_.*(?<!_BIT)$/],
    [versions.CQE_FLAGS, /^IORING_CQE_F_/],
  ];
  for (const [flags, pattern] of groups) {
    const names = Object.keys(abi).filter((name) => pattern.test(name)).sort();
    assert.deepEqual(flags.map(([, name]) => name).sort(), names);
    for (const [value, name, kernel] of flags) {
      assert.equal((abi as Readonly<Record<string, unknown>>)[name], value, name);
      assert.match(kernel, /^[5-7]\.\d+$/, name);
    }
  }
});
