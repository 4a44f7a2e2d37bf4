/** The npm package, as a program meets it that has installed it. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { test } from "./support/gate.ts";
import { checkLeaks } from "./support/leaks.ts";
import { run } from "./support/program.ts";

checkLeaks();

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const BUN = process.env["BUN"];
const NEEDS_BUN = BUN === undefined ? "BUN does not say where Bun is; scripts/test does" : false;

const PROGRAM = `
import { readFile } from "uring/fs";
import { type FileSystem, mount } from "uring/fuse";
import { connect, listen } from "uring/net";
import { Ring } from "uring/ring";
import { type OperationOptions, Uring, UringError } from "uring";

const options: OperationOptions = { timeout: 5000 };
await using uring = new Uring({ entries: 8 });
const fd: number = await uring.openat("/etc/passwd", options);
const bytes = new Uint8Array(5);
const length: number = await uring.read(fd, bytes, { offset: 0 });
await uring.close(fd);
const text: string = await readFile("/etc/passwd", "utf8");
const error: unknown = await readFile("/nowhere").catch((error: unknown) => error);
const files: FileSystem = { getattr: () => ({ mode: 0o40755 }) };
const refused: unknown = await mount("/nowhere", files).catch((error: unknown) => error);
using ring = new Ring(4);
ring.getSqe()!.prepNop();
console.log(length, text.slice(0, 5), error instanceof UringError && refused instanceof UringError, ring.submit(), typeof listen, typeof connect);
`;

const TSCONFIG = {
  compilerOptions: {
    strict: true,
    noEmit: true,
    module: "nodenext",
    target: "esnext",
    lib: ["ESNext"],
    types: ["node"],
    typeRoots: [join(ROOT, "node_modules/@types")],
  },
  files: ["program.ts"],
};

test("the package works for a program that has installed it, with its types", {
  skip: NEEDS_BUN,
}, async () => {
  const directory = mkdtempSync(join(tmpdir(), "uring-package-"));
  try {
    const modules = join(directory, "node_modules");
    mkdirSync(modules);
    execFileSync(BUN!, [join(ROOT, "scripts/build-package.ts"), join(modules, "uring")]);
    const program = join(directory, "program.ts");
    writeFileSync(program, PROGRAM);
    writeFileSync(
      join(directory, "package.json"),
      JSON.stringify({ type: "module", dependencies: { uring: "*" } }),
    );
    writeFileSync(join(directory, "tsconfig.json"), JSON.stringify(TSCONFIG));
    const { code, stdout, stderr } = await run(program, []);
    assert.deepEqual({ code, stdout }, { code: 0, stdout: "5 root: true 1 function function\n" }, stderr);
    execFileSync(join(ROOT, "node_modules/.bin/tsc"), ["-p", directory]);
  } finally {
    rmSync(directory, { recursive: true });
  }
});
