/**
 * A TCP server that sends back what it receives, on several cores: a thread for each, with a ring and a listener of its
 * own. All listen at the same port (`reusePort`), and the kernel spreads the connections over them; no thread waits for
 * another.
 *
 *     bun examples/workers.ts PORT
 *     deno run --allow-ffi --allow-read examples/workers.ts PORT --workers 4
 *
 * As many threads as there are CPUs unless told otherwise. (Deno reads a Worker's program when it starts: hence the second
 * permission.) It listens on 127.0.0.1; port 0 picks a free one. SIGINT and SIGTERM stop it.
 */
import { main, portOf, type Serving, StartError } from "./common/server.ts";

const MOST = 256;

/** A thread, spoken to in turns: each message has one answer. */
class Thread {
  readonly #worker = new Worker(new URL("./workers/thread.ts", import.meta.url), { type: "module" });
  #resolve: ((answer: number) => void) | null = null;
  #reject: ((error: Error) => void) | null = null;

  constructor() {
    this.#worker.onmessage = ({ data }: MessageEvent<number | string>) => {
      if (typeof data === "number") this.#resolve?.(data);
      else this.#reject?.(new StartError(data));
    };
    this.#worker.onerror = (event) => {
      event.preventDefault();
      this.#reject?.(new Error((event as ErrorEvent).message));
    };
  }

  /** Waits until the thread is there: what is told earlier may be lost. */
  ready(): Promise<number> {
    return new Promise((resolve, reject) => [this.#resolve, this.#reject] = [resolve, reject]);
  }

  ask(message: number | "stop"): Promise<number> {
    const answer = this.ready();
    this.#worker.postMessage(message);
    return answer;
  }

  end(): void {
    this.#worker.terminate();
  }
}

async function serve(port: number, count: number): Promise<Serving> {
  const threads = Array.from({ length: count }, () => new Thread());
  const end = (): void => threads.forEach((thread) => thread.end());
  try {
    await Promise.all(threads.map((thread) => thread.ready()));
    // The first picks the port if it is free to.
    const [first, ...others] = threads;
    const bound = await first!.ask(port);
    await Promise.all(others.map((thread) => thread.ask(bound)));
    return {
      address: `127.0.0.1:${bound}`,
      async stop() {
        await Promise.all(threads.map((thread) => thread.ask("stop")));
        end();
      },
    };
  } catch (error) {
    end();
    throw error;
  }
}

await main({
  name: "workers",
  usage: "PORT [--workers COUNT]",
  positionals: 1,
  options: ["workers"],
  serve({ positionals: [port], options }) {
    const count = Number(options["workers"] ?? navigator.hardwareConcurrency);
    if (!Number.isInteger(count) || count < 1 || count > MOST) throw new RangeError(`1 to ${MOST} workers`);
    return serve(portOf(port), count);
  },
});
