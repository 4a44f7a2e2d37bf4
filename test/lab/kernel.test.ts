/** What the lab's kernel and devices are, which the other tests of this folder rely on. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import process from "node:process";
import { kernelHas } from "../../src/ffi/kernel.ts";
import { IORING_OP_URING_CMD128, queryOpcodes } from "../../src/ring/mod.ts";
import { labDisk } from "../support/devices.ts";
import { test } from "../support/lab.ts";
import { checkLeaks } from "../support/leaks.ts";

checkLeaks();

function fact(path: string): string {
  return readFileSync(path, "utf8").trim();
}

test("the kernel is newer than the library's youngest operation", () => {
  assert.equal(process.env["URING_LAB"], fact("/proc/sys/kernel/osrelease"));
  assert.ok(kernelHas("7.2"));
  const { requestOpcodes, registerOpcodes } = queryOpcodes();
  assert.ok(requestOpcodes > IORING_OP_URING_CMD128, `${requestOpcodes} operations`);
  assert.ok(registerOpcodes >= 38, `${registerOpcodes} register operations`);
});

test("there are disks to write to, of each kind, with queues to poll", () => {
  const names = (["plain", "integrity", "zoned"] as const).map(labDisk);
  assert.equal(new Set(names).size, 3);
  for (const name of names) {
    assert.notEqual(name, null);
    assert.equal(fact(`/sys/block/${name}/queue/io_poll`), "1");
  }
  assert.equal(fact(`/sys/block/${names[0]}/queue/logical_block_size`), "512");
  assert.equal(fact(`/sys/block/${names[1]}/queue/logical_block_size`), "4096");
  assert.equal(fact(`/sys/block/${names[2]}/queue/zoned`), "host-managed");
});

test("huge pages are set aside", () => {
  assert.ok(Number(fact("/proc/sys/vm/nr_hugepages")) >= 32);
});
