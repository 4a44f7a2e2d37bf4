/**
 * Asks the system's C compiler what its headers say.
 *
 * @module
 */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** An integer expression of C, and the name under which its value is asked for. */
export interface Expression {
  readonly name: string;
  readonly c: string;
}

const FLAGS = ["-w", "-D_GNU_SOURCE", "-fmax-errors=0"];

/** Why C cannot be compiled with these headers here, or `false`. */
export function missingCompiler(headers: readonly string[]): string | false {
  const source = headers.map((header) => `#include <${header}>\n`).join("") +
    "int main(void) { return 0; }\n";
  const found = spawnSync("cc", [...FLAGS, "-fsyntax-only", "-x", "c", "-"], {
    input: source,
    encoding: "utf8",
  });
  if (found.error !== undefined) return "no C compiler (cc)";
  return found.status === 0 ? false : `the C compiler lacks headers: ${found.stderr.split("\n")[0]}`;
}

/**
 * The values of `expressions` under `headers`, by name, from one program that is compiled and run. Headers that are
 * missing are left out, and so are expressions that the compiler rejects: older headers lack the newer names.
 */
export function evaluate(
  headers: readonly string[],
  expressions: readonly Expression[],
): Map<string, bigint> {
  const dir = mkdtempSync(join(tmpdir(), "uring-cc-"));
  try {
    let asked = expressions;
    for (;;) {
      const rejected = compile(dir, headers, asked);
      if (rejected.size === 0) break;
      asked = asked.filter((_, i) => !rejected.has(i));
    }
    const values = execFileSync(join(dir, "program"), { encoding: "utf8" }).trim().split("\n");
    return new Map(asked.map(({ name }, i) => [name, BigInt(values[i]!)]));
  } finally {
    rmSync(dir, { recursive: true });
  }
}

/** Compiles the program and returns the indexes of the expressions that the compiler rejects. */
function compile(dir: string, headers: readonly string[], expressions: readonly Expression[]): Set<number> {
  const lines = [
    ...headers.flatMap((header) => [`#if __has_include(<${header}>)`, `#include <${header}>`, "#endif"]),
    "#include <stddef.h>",
    "#include <stdio.h>",
    "int main(void) {",
  ];
  const first = lines.length + 1; // lines count from 1
  // One expression a line, so that an error's line tells which one it is.
  for (const { c } of expressions) lines.push(`printf("%lld\\n", (long long)(${c}));`);
  lines.push("return 0; }", "");
  const source = join(dir, "program.c");
  writeFileSync(source, lines.join("\n"));
  const result = spawnSync("cc", [...FLAGS, "-o", join(dir, "program"), source], { encoding: "utf8" });
  if (result.status === 0) return new Set();
  const errors = result.stderr.matchAll(/program\.c:(\d+):\d+: error/g);
  const rejected = [...errors].map((match) => Number(match[1]) - first);
  const valid = rejected.filter((i) => i >= 0 && i < expressions.length);
  if (valid.length === 0) throw new Error(`cc failed:\n${result.stderr}`);
  return new Set(valid);
}
