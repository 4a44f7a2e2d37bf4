/**
 * A thread of `workers.ts`: told a port, it listens there and answers with the port; told to stop, it answers when nothing
 * is left of it. What is not a number is an error.
 */
import { listen, type Listener, UringError } from "uring/net";
import { GRACE_MS } from "../common/server.ts";
import { echoing } from "../common/echoing.ts";

/** The thread's side of a `Worker`. */
interface Thread {
  onmessage: ((event: MessageEvent<number | "stop">) => void) | null;
  postMessage(message: number | string): void;
}
const thread = globalThis as unknown as Thread;

let listener: Listener | null = null;

thread.onmessage = async ({ data }) => {
  try {
    if (data === "stop") {
      await listener?.drain(GRACE_MS);
      thread.postMessage(0);
      return;
    }
    listener = listen({ ...echoing, port: data, hostname: "127.0.0.1", reusePort: true });
    thread.postMessage(listener.port);
  } catch (error) {
    if (!(error instanceof UringError)) throw error;
    thread.postMessage(error.message);
  }
};
thread.postMessage(0);
