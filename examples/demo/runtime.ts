/**
 * A reader of the demo as its parent sees it: a process under Bun or Deno, started once and asked many times.
 *
 * @module
 */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import process from "node:process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { Lists, Ready, Request, Result, Underway } from "./reader.ts";

const READER = fileURLToPath(new URL("./reader.ts", import.meta.url));

/** Which runtime. */
export type RuntimeName = "bun" | "deno";

/** The process. */
export class Runtime implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;
  readonly #ended: Promise<string>;
  /** What it can do, once {@link Runtime.start} has resolved. */
  ready: Ready = { runtime: "", ways: [] };

  private constructor(name: RuntimeName) {
    const program = process.env[name.toUpperCase()] ?? name;
    // uring needs --allow-ffi and nothing else; Deno's own APIs would ask for more in /proc and /sys.
    const args = name === "bun" ? [READER] : ["run", "--allow-all", READER];
    this.#child = spawn(program, args, { stdio: ["pipe", "pipe", "inherit"] });
    this.#ended = new Promise((resolve) => {
      this.#child.once("error", (error) => resolve(error.message));
      this.#child.once("close", (code, signal) => resolve(`it ended with ${signal ?? `status ${code}`}`));
    });
    // Its end is noticed where an answer is waited for.
    this.#child.stdin!.on("error", () => {});
    this.#lines = createInterface({ input: this.#child.stdout! })[Symbol.asyncIterator]();
  }

  /** Starts a reader and gives it its lists of files. */
  static async start(name: RuntimeName, lists: Lists): Promise<Runtime> {
    const runtime = new Runtime(name);
    runtime.ready = await runtime.#answer<Ready>(name);
    runtime.#ask({ ask: "files", lists });
    await runtime.#answer<Ready>(name);
    return runtime;
  }

  /** Its process id. */
  get pid(): number {
    return this.#child.pid!;
  }

  #ask(request: Request): void {
    this.#child.stdin!.write(`${JSON.stringify(request)}\n`);
  }

  async #answer<T>(asked: string): Promise<T> {
    const line = await this.#lines.next();
    if (line.done === true) throw new Error(`The reader failed at ${asked}: ${await this.#ended}`);
    return JSON.parse(line.value) as T;
  }

  /** Has it read the files. `underway` hears now and then how many are done. */
  async read(
    request: Omit<Request & { ask: "read" }, "ask">,
    underway: (done: number) => void,
  ): Promise<Result> {
    this.#ask({ ask: "read", ...request });
    for (;;) {
      const answer = await this.#answer<Result | Underway>(request.way);
      if (!("done" in answer)) return answer;
      underway(answer.done);
    }
  }

  /** How many bytes it has had fetched from devices until now; null where the kernel does not count them. */
  fetched(): number | null {
    const path = `/proc/${this.pid}/io`;
    if (!existsSync(path)) return null;
    const count = /^read_bytes: (\d+)$/m.exec(readFileSync(path, "utf8"))?.[1];
    return count === undefined ? null : Number(count);
  }

  /** Ends it. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.stdin!.end();
    await this.#ended;
  }
}
