/** A Worker of `workers.ts`. */
import { listen, type Listener, type RingAddress, UringError } from "uring/net";
import { echoing } from "../common/echoing.ts";
import { GRACE_MS } from "../common/server.ts";

/** What it is told: to listen at a port that others share, to take the connections that it is handed, or to stop. */
export type Question =
  | { readonly port: number; readonly cpu: number | undefined }
  | "inbox"
  | "stop";

/** What it answers: its port, or where to hand connections; what went wrong. */
export interface Answer {
  readonly port?: number;
  readonly inbox?: RingAddress;
  readonly error?: string;
}

/** The thread's side of a `Worker`. */
interface Thread {
  onmessage: ((event: MessageEvent<Question>) => void) | null;
  postMessage(answer: Answer): void;
}
const thread = globalThis as unknown as Thread;

let listener: Listener | null = null;

async function answer(question: Question): Promise<Answer> {
  if (question === "stop") {
    await listener?.drain(GRACE_MS);
    return {};
  }
  if (question === "inbox") {
    listener = listen({ ...echoing, inbox: true });
    return { inbox: listener.inbox! };
  }
  const { port, cpu } = question;
  listener = listen({ ...echoing, port, cpu, hostname: "127.0.0.1", reusePort: true });
  return { port: listener.port };
}

thread.onmessage = async ({ data }) => {
  try {
    thread.postMessage(await answer(data));
  } catch (error) {
    if (!(error instanceof UringError)) throw error;
    thread.postMessage({ error: error.message });
  }
};
thread.postMessage({});
