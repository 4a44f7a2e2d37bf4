/**
 * Copies files and trees, as `cp -r` does, with a progress bar on a terminal.
 *
 * ```sh
 * bun examples/cp.ts SOURCE… DESTINATION
 * deno run --allow-ffi examples/cp.ts SOURCE… DESTINATION
 * ```
 *
 * @module
 */
import process from "node:process";
import { type CopyProgress, cp, lstat, opendir, stat } from "uring/fs";

const WIDTH = 30;
const MIB = 1024 * 1024;
const EVERY = 100;

/** What there is to copy. */
interface Work {
  files: number;
  bytes: number;
}

async function measure(path: string): Promise<Work> {
  const about = await lstat(path);
  if (!about.isDirectory()) return { files: 1, bytes: about.size };
  const work: Work = { files: 0, bytes: 0 };
  const sizes: Promise<void>[] = [];
  for await (const entry of await opendir(path, { recursive: true })) {
    if (!entry.isFile()) continue;
    work.files++;
    sizes.push(lstat(`${entry.parentPath}/${entry.name}`).then(({ size }) => void (work.bytes += size)));
  }
  await Promise.all(sizes);
  return work;
}

/** One line that is written over and over; nothing where the output is no terminal. */
class Bar {
  readonly #work: Work;
  readonly #shown: boolean = process.stderr.isTTY === true;
  #last = 0;

  constructor(work: Work) {
    this.#work = work;
  }

  show({ files, bytes }: Omit<CopyProgress, "path">, last = false): void {
    const now = performance.now();
    if (!this.#shown || !last && now - this.#last < EVERY) return;
    this.#last = now;
    const done = this.#work.bytes === 0 ? 1 : Math.min(1, bytes / this.#work.bytes);
    const filled = Math.round(done * WIDTH);
    const bar = `${"█".repeat(filled)}${"░".repeat(WIDTH - filled)}`;
    process.stderr.write(
      `\r${bar} ${(100 * done).toFixed(0).padStart(3)} %  ${
        (bytes / MIB).toFixed(1)
      } MiB  ${files}/${this.#work.files}`,
    );
    if (last) process.stderr.write("\n");
  }
}

async function isDirectory(path: string): Promise<boolean> {
  return await stat(path).then((about) => about.isDirectory(), () => false);
}

function nameOf(path: string): string {
  return path.replace(/\/+$/, "").split("/").at(-1) ?? path;
}

async function main(paths: readonly string[]): Promise<void> {
  const destination = paths.at(-1);
  const sources = paths.slice(0, -1);
  if (destination === undefined || sources.length === 0) {
    process.stderr.write("usage: cp.ts SOURCE... DESTINATION\n");
    process.exit(2);
  }
  const into = await isDirectory(destination);
  if (sources.length > 1 && !into) throw new Error(`${destination} is no directory`);
  const works = await Promise.all(sources.map(measure));
  const bar = new Bar({
    files: works.reduce((sum, { files }) => sum + files, 0),
    bytes: works.reduce((sum, { bytes }) => sum + bytes, 0),
  });
  const done = { files: 0, bytes: 0 };
  for (const source of sources) {
    let last = { files: 0, bytes: 0 };
    await cp(source, into ? `${destination}/${nameOf(source)}` : destination, {
      recursive: true,
      verbatimSymlinks: true,
      onProgress: (progress) => {
        last = progress;
        bar.show({ files: done.files + progress.files, bytes: done.bytes + progress.bytes });
      },
    });
    done.files += last.files;
    done.bytes += last.bytes;
  }
  bar.show(done, true);
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  process.stderr.write(`cp: ${(error as Error).message}\n`);
  process.exit(1);
}
