/** Trees: `lstat` of everything in one, and removing one. */

import type { Benchmark } from "../benchmark.ts";
import { existsSync, rmSync } from "node:fs";
import { entriesBelow, makeTree, MODULES, scratchFile, TREE_ENTRIES } from "../environment.ts";
import type { Group, Preparation, Settings } from "../harness.ts";
import { benchmark, both, contenders, own, program, PROMISES, speed, type Way } from "./files.ts";

const WALK_WAYS: readonly Way[] = [
  { api: "uring", label: "uring readdir, lstat" },
  PROMISES,
  { api: "deno-walk", label: "Deno.readDir, Deno.lstat", only: "deno" },
];

function walks(settings: Settings): Group {
  const entries = entriesBelow(MODULES);
  const c = [{ api: "tree", label: "fstatat", args: ["tree", MODULES] }];
  return {
    title: "tree",
    parameter: "entries",
    cases: [entries],
    contenders: contenders(
      { program: "files", c, what: "tree", ways: WALK_WAYS, args: [MODULES], checkedOps: () => entries },
      settings,
    ),
    comparisons: [
      speed("C", both("uring", () => ["c-tree"])),
      speed("the runtime's best", both("uring", own(WALK_WAYS), { [entries]: 1.5 })),
    ],
  };
}

const REMOVE_WAYS: readonly Way[] = [
  { api: "uring", label: "uring rm" },
  PROMISES,
  { api: "deno-remove", label: "Deno.remove", only: "deno" },
];

function removals(settings: Settings): Group {
  const path = scratchFile("tree");
  const preparation: Preparation = {
    ops: () => TREE_ENTRIES,
    prepare: () => makeTree(path),
    verify(): void {
      if (existsSync(path)) throw new Error(`${path} is still there`);
    },
  };
  const c = [{ api: "rm", label: "unlinkat", args: ["rm", path] }];
  return {
    title: "tree, removed",
    parameter: "entries",
    cases: [TREE_ENTRIES],
    contenders: [
      program("rm", "rm -r", ["rm", "-r", path], preparation),
      ...contenders(
        { program: "files", c, what: "rm", ways: REMOVE_WAYS, args: [path], preparation },
        settings,
      ),
    ],
    comparisons: [
      speed("C", both("uring", () => ["c-rm"])),
      speed("the runtime's best", both("uring", own(REMOVE_WAYS))),
    ],
  };
}

/** Walking and removing trees. */
export const tree: Benchmark = benchmark(
  "tree",
  "lstat of everything below node_modules; removing a tree of 1,040 entries",
  (settings) => [walks(settings), removals(settings)],
  () => rmSync(scratchFile("tree"), { recursive: true, force: true }),
);
