/** docs/coverage.md against the ABI data, the API as it is at run time, and the tests. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { loadCoverage, ROOT } from "../scripts/coverage/data.ts";
import { coverage, isStale } from "../scripts/gen-coverage.ts";
import * as uring from "../src/mod.ts";
import * as ring from "../src/ring/mod.ts";
import { test } from "./support/gate.ts";
import { checkLeaks } from "./support/leaks.ts";

checkLeaks();

const data = loadCoverage();
const text = readFileSync(new URL("docs/coverage.md", ROOT), "utf8");

/** The cells of the rows whose first cell is this name. */
function rowsOf(name: string): string[][] {
  return text.split("\n")
    .filter((line) => line.startsWith(`| \`${name}\` |`) || line.startsWith(`| ${name} |`))
    .map((line) => line.slice(2, -2).split(" | ").map((cell) => cell.trim()));
}

test("the page is up to date, and everything is accounted for", () => {
  const made = coverage(data);
  assert.deepEqual(made.problems, []);
  assert.equal(isStale(made), false, "run scripts/gen-coverage.ts");
});

test("everything that the kernel's header declares is on the page, with its kernel", () => {
  const { versions, uring: header } = data.abi;
  const groups: [keyof typeof versions, string, RegExp][] = [
    ["opcodes", "opcodes", /^IORING_OP_LAST$/],
    ["register opcodes", "register opcodes", /^IORING_REGISTER_(?:LAST|USE_REGISTERED_RING)$/],
    ["setup flags", "setup flags", /^$/],
    ["enter flags", "enter flags", /^$/],
    ["features", "features", /^$/],
    ["sqe flags", "sqe flags", /_BIT$/],
    ["cqe flags", "completion flags", /^(?!IORING_CQE_F_)/],
  ];
  for (const [group, inHeader, others] of groups) {
    const names = Object.keys(header.constants[inHeader]!).filter((name) => !others.test(name));
    assert.deepEqual(names.toSorted(), Object.keys(versions[group]).sort(), group);
    for (const name of names) {
      const rows = rowsOf(name);
      assert.equal(rows.length, 1, name);
      assert.equal(rows[0]![1], versions[group][name], name);
    }
  }
});

test("every prep and function of liburing is on the page, and every test program", () => {
  const { preps, functions } = data.liburing;
  assert.equal(Object.keys(preps).length, 104);
  const kernels = Object.fromEntries([
    ...Object.entries(preps).map(([name, [, kernel]]) => [name, kernel]),
    ...Object.values(functions).flatMap((of) => Object.entries(of)),
  ]);
  for (const [name, kernel] of Object.entries(kernels)) {
    const rows = rowsOf(name.slice("io_uring_".length));
    assert.deepEqual(rows.map((cells) => cells[1]), [kernel], name);
  }
  assert.equal(Object.keys(data.programs).length, 256);
  for (const name of Object.keys(data.programs)) assert.ok(rowsOf(name).length > 0, name);
});

test("what the page names exists", () => {
  const exported: Readonly<Record<string, unknown>> = { ...ring, ...uring };
  const named = new Set(
    [...text.matchAll(/\| (`[A-Za-z][^|]*`) (?=\|)/g)].flatMap(([, cell]) =>
      cell!.split(", ").map((place) => place.replaceAll(/[`…]/g, ""))
    ),
  );
  let found = 0;
  for (const place of named) {
    const [, owner, name] = /^([A-Z]\w*)\.(\w+)$/.exec(place) ?? [];
    // Options are types, which nothing can look up at run time.
    if (owner === undefined || owner.endsWith("Options")) continue;
    const type = exported[owner] as { prototype: object } & Record<string, unknown> | undefined;
    assert.ok(type !== undefined, place);
    assert.ok(name! in type.prototype || name! in type || isField(owner, name!), place);
    found++;
  }
  assert.ok(found >= 150, `only ${found} places`);
});

/** Whether objects have it as a property of their own. */
function isField(owner: string, name: string): boolean {
  if (owner !== "Ring") return false;
  using made = new ring.Ring(1);
  return name in made;
}

test("preps write the operation that the page has them under", () => {
  const sqe = new ring.Sqe(new Int32Array(32), 0, 128);
  const methods = sqe as unknown as Readonly<Record<string, (...args: readonly unknown[]) => void>>;
  for (const [name, [opcode]] of Object.entries(data.liburing.preps)) {
    if (opcode === null) continue;
    const method = name.slice("io_uring_".length).replaceAll(/_(\w)/g, (_, letter) => letter.toUpperCase());
    sqe.bytes.fill(0xff);
    methods[method]!.apply(sqe, Array<number>(methods[method]!.length).fill(0));
    assert.equal(sqe.opcode, (ring as Readonly<Record<string, unknown>>)[opcode], name);
  }
});
