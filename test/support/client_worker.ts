/** A thread that does what it is told: see client.ts. */
import * as assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import * as fs from "node:fs";
import { Uring } from "../../src/mod.ts";
import type { ClientTools } from "./client.ts";

interface Scope {
  onmessage:
    | ((event: { data: { readonly source: string; readonly args: readonly unknown[] } }) => void)
    | null;
  postMessage(message: unknown): void;
}

const scope = globalThis as unknown as Scope;
const uring = new Uring({ entries: 16 });
const tools: ClientTools = { assert, Buffer, fs, uring };

scope.onmessage = async ({ data: { source, args } }): Promise<void> => {
  try {
    const run = new Function(`return (${source})`)() as (...args: unknown[]) => unknown;
    scope.postMessage({ result: await run(tools, ...args) });
  } catch (error) {
    const { code, message, stack } = error as { code?: string; message: string; stack?: string };
    scope.postMessage({ error: { code, message, stack } });
  }
};
scope.postMessage({ result: "ready" });
