/**
 * Builds the npm package into a directory: see `scripts/package`.
 *
 * @module
 */
import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
/** Threads of the library's own: loaded by URL, so nothing imports them. */
const WORKERS: readonly string[] = ["src/ffi/bun_event_reader.ts"];
const COPIED: readonly string[] = ["LICENSE", "README.md"];

interface Manifest {
  exports: Record<string, string>;
  [key: string]: unknown;
}

function run(command: string, args: readonly string[]): void {
  const { status, stdout, stderr } = spawnSync(command, args, { cwd: ROOT, encoding: "utf8" });
  if (status !== 0) throw new Error(`${command} ${args.join(" ")} failed:\n${stdout}${stderr}`);
}

function rewrite(file: string, change: (text: string) => string): void {
  writeFileSync(file, change(readFileSync(file, "utf8")));
}

/** The entry points as modules, with what they share in chunks beside them. */
function bundle(entries: readonly string[], output: string): void {
  const options = ["--target=node", "--format=esm", "--splitting", "--external=bun:ffi"];
  run(process.execPath, ["build", ...options, "--root=src", `--outdir=${output}`, ...entries]);
  for (const worker of WORKERS) {
    run(process.execPath, [
      "build",
      ...options.slice(0, 2),
      "--external=bun:ffi",
      `--outdir=${output}`,
      worker,
    ]);
  }
  for (const name of readdirSync(output)) {
    if (!name.endsWith(".js")) continue;
    rewrite(join(output, name), (text) => text.replaceAll(/new URL\("(\.\/\w+)\.ts"/g, 'new URL("$1.js"'));
  }
}

/** A declaration for each module of the sources. */
function declare(output: string): void {
  const config = join(output, "tsconfig.json");
  mkdirSync(output, { recursive: true });
  writeFileSync(
    config,
    JSON.stringify({
      extends: join(ROOT, "tsconfig.json"),
      include: [join(ROOT, "src"), join(ROOT, "types/deno.d.ts")],
      compilerOptions: {
        noEmit: false,
        emitDeclarationOnly: true,
        rootDir: join(ROOT, "src"),
        outDir: output,
        typeRoots: [join(ROOT, "node_modules/@types")],
      },
    }),
  );
  run(join(ROOT, "node_modules/.bin/tsc"), ["-p", config]);
  rmSync(config);
  for (const name of readdirSync(output, { recursive: true, encoding: "utf8" })) {
    if (!name.endsWith(".d.ts")) continue;
    rewrite(join(output, name), (text) => text.replaceAll(/(["'])(\.\.?\/[\w./-]+)\.ts\1/g, "$1$2.js$1"));
  }
}

function manifest(output: string): void {
  const { exports, devDependencies: _dev, allowScripts: _allow, ...rest } = JSON.parse(
    readFileSync(join(ROOT, "package.json"), "utf8"),
  ) as Manifest;
  const built = Object.entries(exports).map(([name, source]) => {
    const module = source.replace(/^\.\/src\//, "").replace(/\.ts$/, "");
    return [name, { types: `./types/${module}.d.ts`, default: `./dist/${module}.js` }];
  });
  const text = JSON.stringify({ ...rest, exports: Object.fromEntries(built) }, null, 2);
  writeFileSync(join(output, "package.json"), `${text}\n`);
}

function main(): void {
  const output = process.argv[2];
  if (output === undefined) throw new Error("usage: build-package.ts DIRECTORY");
  const { exports } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as Manifest;
  rmSync(output, { recursive: true, force: true });
  bundle(Object.values(exports), join(output, "dist"));
  declare(join(output, "types"));
  manifest(output);
  for (const name of COPIED) cpSync(join(ROOT, name), join(output, name));
}

main();
