/** Importing asks the kernel for nothing, and Deno needs `--allow-ffi` and nothing else. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath, pathToFileURL } from "node:url";
import { TempDir } from "../support/descriptors.ts";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { fixture, missingStrace, output, run, RUNTIME } from "../support/program.ts";

checkLeaks();

const SRC = fileURLToPath(new URL("../../src/", import.meta.url));

/** What runs in one runtime only. */
const OTHER_RUNTIME: Readonly<Record<typeof RUNTIME, RegExp>> = {
  bun: /\/deno\.ts$/,
  deno: /\/bun(_event_reader)?\.ts$/,
};

/** All modules of the library, as URLs; the body of a thread is none. */
function modules(): string[] {
  return readdirSync(SRC, { recursive: true, encoding: "utf8" })
    .map((name) => join(SRC, name))
    .filter((path) => path.endsWith(".ts") && !OTHER_RUNTIME[RUNTIME].test(path))
    .filter((path) => !path.endsWith("_event_reader.ts"))
    .map((path) => pathToFileURL(path).href);
}

test("importing every module makes no system call of io_uring", { skip: missingStrace() }, async () => {
  using dir = new TempDir();
  const program = dir.of("imports.ts");
  const trace = dir.of("trace");
  const imports = modules();
  assert.ok(imports.length > 20);
  writeFileSync(program, imports.map((url) => `import "${url}";\n`).join("") + 'console.log("imported");\n');
  const prefix = ["strace", "-f", "-qq", "-o", trace];
  const which = ["-e", "trace=io_uring_setup,io_uring_enter,io_uring_register"];
  assert.equal(await output(program, [], { prefix: [...prefix, ...which] }), "imported\n");
  assert.doesNotMatch(readFileSync(trace, "utf8"), /io_uring/);

  // The same trace of a program that uses it shows that the trace works.
  await output(fixture("process.ts"), ["sleeps"], { prefix: [...prefix, ...which] });
  assert.match(readFileSync(trace, "utf8"), /io_uring_setup/);
});

const notDeno = RUNTIME === "deno" ? false : "Bun has no permissions";

test("with --allow-ffi alone everything works that needs the waker", { skip: notDeno }, async () => {
  const permissions = ["--allow-ffi", "--no-prompt"];
  assert.equal(
    await output(fixture("process.ts"), ["sleeps"], { permissions }),
    "slept, woken true\n",
  );
  assert.equal(
    await output(fixture("process.ts"), ["sleeps", "reader"], { permissions }),
    "slept, woken true\n",
  );
});

test("with --allow-ffi alone files and sockets work", { skip: notDeno }, async () => {
  const permissions = ["--allow-ffi", "--no-prompt"];
  assert.equal(await output(fixture("permissions.ts"), [], { permissions }), "done\n");
});

test("without --allow-ffi the error says so", { skip: notDeno }, async () => {
  const { code, stderr } = await run(fixture("process.ts"), ["sleeps"], { permissions: ["--no-prompt"] });
  assert.equal(code, 1);
  assert.match(stderr, /--allow-ffi/);
});

/** The library and a program in one module, as a bundler makes it. */
function bundle(path: string): string {
  const bun = process.env.BUN ?? process.execPath;
  const args = ["build", path, "--target=browser", "--format=esm", "--external=*/bun.ts"];
  const { status, stdout, stderr } = spawnSync(bun, args, { encoding: "utf8" });
  assert.equal(status, 0, stderr);
  return stdout;
}

const noBundler = RUNTIME === "bun" || process.env.BUN !== undefined ? false : "BUN is not set";

for (const scheme of ["data", "blob"]) {
  test(
    `a worker from a ${scheme}: URL works with --allow-ffi alone`,
    { skip: firstReason(notDeno, noBundler) },
    async () => {
      using dir = new TempDir();
      const program = dir.of("program.ts");
      const source = JSON.stringify(bundle(fixture("permissions.ts")) + '\npostMessage("worker");');
      const url = scheme === "data"
        ? `"data:text/javascript," + encodeURIComponent(source)`
        : `URL.createObjectURL(new Blob([source], { type: "text/javascript" }))`;
      writeFileSync(
        program,
        `const source = ${source};
         const worker = new Worker(${url}, { type: "module" });
         worker.onmessage = ({ data }) => { console.log(data); worker.terminate(); };`,
      );
      const permissions = ["--allow-ffi", "--no-prompt"];
      assert.equal(await output(program, [], { permissions }), "done\nworker\n");
    },
  );
}
