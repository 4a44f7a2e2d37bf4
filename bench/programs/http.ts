/**
 * A server that sends the files of a directory, through one of several APIs. Usage: http.ts API DIRECTORY
 * `bun-file` (`Bun.serve` with `Bun.file`), `bun-static` (`Bun.serve` with a response that was made beforehand),
 * `deno-file` (`Deno.serve` with `Deno.open`), `deno-static`; through uring it is `examples/http.ts`.
 *
 * Prints `listening PORT` and runs until its standard input ends.
 */

import { readdirSync, readFileSync } from "node:fs";
import process from "node:process";

const [api = "", directory = ""] = process.argv.slice(2);
const HOSTNAME = "127.0.0.1";
const TYPE = { "content-type": "text/plain" };

type Handler = (request: Request) => Response | Promise<Response>;

/** The few members of the runtimes' globals that are measured. */
interface Globals {
  readonly Bun: {
    serve(options: {
      hostname: string;
      port: number;
      routes?: Readonly<Record<string, Response>>;
      fetch: Handler;
    }): { readonly port: number };
    file(path: string): Blob;
  };
  readonly Deno: {
    serve(options: { hostname: string; port: number; onListen(): void }, handler: Handler): {
      readonly addr: { readonly port: number };
    };
    open(path: string): Promise<{ readonly readable: ReadableStream<Uint8Array> }>;
  };
}
const { Bun, Deno } = globalThis as unknown as Globals;

const pathOf = (request: Request): string => directory + new URL(request.url).pathname;
const notFound = (): Response => new Response("not found\n", { status: 404 });

/** Everything in the directory, by its path. */
function contents(): Map<string, Uint8Array<ArrayBuffer>> {
  return new Map(
    readdirSync(directory).map((name) => [`/${name}`, new Uint8Array(readFileSync(`${directory}/${name}`))]),
  );
}

function bunFile(): number {
  const fetch = (request: Request): Response => new Response(Bun.file(pathOf(request)));
  return Bun.serve({ hostname: HOSTNAME, port: 0, fetch }).port;
}

function bunStatic(): number {
  const routes = Object.fromEntries(
    [...contents()].map(([path, bytes]) => [path, new Response(bytes, { headers: TYPE })]),
  );
  return Bun.serve({ hostname: HOSTNAME, port: 0, routes, fetch: notFound }).port;
}

function denoServe(handler: Handler): number {
  return Deno.serve({ hostname: HOSTNAME, port: 0, onListen() {} }, handler).addr.port;
}

function denoFile(): number {
  return denoServe(async (request) =>
    new Response((await Deno.open(pathOf(request))).readable, { headers: TYPE })
  );
}

function denoStatic(): number {
  const files = contents();
  return denoServe((request) => {
    const bytes = files.get(new URL(request.url).pathname);
    return bytes === undefined ? notFound() : new Response(bytes, { headers: TYPE });
  });
}

const APIS: Readonly<Record<string, () => number>> = {
  "bun-file": bunFile,
  "bun-static": bunStatic,
  "deno-file": denoFile,
  "deno-static": denoStatic,
};

const serve = APIS[api];
if (serve === undefined) throw new Error(`no such API: ${api}`);
console.log(`listening ${serve()}`);
process.stdin.on("end", () => process.exit(0)).resume();
