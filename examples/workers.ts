/**
 * A TCP server that sends back what it receives, on several cores: a thread for each, with a ring of its own.
 *
 *     bun examples/workers.ts PORT
 *     deno run --allow-ffi --allow-read examples/workers.ts PORT --workers 4 --spread dealt
 *
 * `hashed`: every thread listens at the same port (`reusePort`), and the kernel spreads the connections over them, by their
 * addresses. `local`: likewise, but by the CPU that a connection comes in on, which is the cheapest. `dealt`: the first thread
 * accepts all of them and hands each to the next Worker, from ring to ring, which evens out what few connections do that last
 * long.
 *
 * As many Workers as there are CPUs unless told otherwise. (Deno reads a Worker's program when it starts: hence the second
 * permission.) It listens on 127.0.0.1; port 0 picks a free one. SIGINT and SIGTERM stop it.
 */
import { listen } from "uring/net";
import { echoing } from "./common/echoing.ts";
import { GRACE_MS, main, portOf, type Serving, StartError } from "./common/server.ts";
import type { Answer, Question } from "./workers/thread.ts";

const HOSTNAME = "127.0.0.1";
const MOST = 256;

/** A Worker, spoken to in turns: each question has one answer. */
class Thread {
  readonly #worker = new Worker(new URL("./workers/thread.ts", import.meta.url), { type: "module" });
  #resolve: ((answer: Answer) => void) | null = null;
  #reject: ((error: Error) => void) | null = null;

  constructor() {
    this.#worker.onmessage = ({ data }: MessageEvent<Answer>) => {
      if (data.error === undefined) this.#resolve?.(data);
      else this.#reject?.(new StartError(data.error));
    };
    this.#worker.onerror = (event) => {
      event.preventDefault();
      this.#reject?.(new Error((event as ErrorEvent).message));
    };
  }

  /** Waits until the thread is there: what is told earlier may be lost. */
  ready(): Promise<Answer> {
    return new Promise((resolve, reject) => [this.#resolve, this.#reject] = [resolve, reject]);
  }

  ask(question: Question): Promise<Answer> {
    const answer = this.ready();
    this.#worker.postMessage(question);
    return answer;
  }

  end(): void {
    this.#worker.terminate();
  }
}

/** Runs `serve` beside so many threads, and ends them after what it gives, or after its failure. */
async function withThreads(
  count: number,
  serve: (threads: readonly Thread[]) => Promise<Serving>,
): Promise<Serving> {
  const threads = Array.from({ length: count }, () => new Thread());
  const end = (): void => threads.forEach((thread) => thread.end());
  try {
    await Promise.all(threads.map((thread) => thread.ready()));
    const { address, stop } = await serve(threads);
    return {
      address,
      async stop() {
        await stop();
        await Promise.all(threads.map((thread) => thread.ask("stop")));
        end();
      },
    };
  } catch (error) {
    end();
    throw error;
  }
}

async function serveTogether(threads: readonly Thread[], port: number, local: boolean): Promise<Serving> {
  let bound = port;
  for (const [index, thread] of threads.entries()) {
    // The first picks the port if it is free to.
    const answer = await thread.ask({ port: bound, cpu: local ? index : undefined });
    bound = answer.port!;
  }
  return { address: `${HOSTNAME}:${bound}`, stop: async () => {} };
}

async function serveDealt(threads: readonly Thread[], port: number): Promise<Serving> {
  const answers = await Promise.all(threads.map((thread) => thread.ask("inbox")));
  const handTo = answers.flatMap(({ inbox }) => inbox ?? []);
  const { backlog } = echoing;
  const listener = listen({ port, hostname: HOSTNAME, backlog, handTo });
  return { address: `${HOSTNAME}:${listener.port}`, stop: () => listener.drain(GRACE_MS) };
}

const WAYS: Readonly<Record<string, typeof serveDealt>> = {
  hashed: (threads, port) => serveTogether(threads, port, false),
  local: (threads, port) => serveTogether(threads, port, true),
  dealt: serveDealt,
};

await main({
  name: "workers",
  usage: "PORT [--workers COUNT] [--spread hashed|local|dealt]",
  positionals: 1,
  options: ["workers", "spread"],
  serve({ positionals: [text], options: { workers = navigator.hardwareConcurrency, spread = "hashed" } }) {
    const [count, port, way] = [Number(workers), portOf(text), WAYS[spread]];
    if (!Number.isInteger(count) || count < 1 || count > MOST) throw new RangeError(`1 to ${MOST} workers`);
    if (way === undefined) throw new RangeError(`no way "${spread}"`);
    return withThreads(count, (threads) => way(threads, port));
  },
});
