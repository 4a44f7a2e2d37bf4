/** What servers have in common, those of files among them: their arguments, the signals that stop them, and how they fail. */
import process from "node:process";
import { parseArgs } from "node:util";
import { UringError } from "uring";
import type { Address } from "uring/net";

const LAST_PORT = 65535;

/** How long connections may take to end when a server is told to stop, in milliseconds. */
export const GRACE_MS = 100;

/** Why a server cannot start, beside what the kernel says. */
export class StartError extends Error {}

/** A server that runs. */
export interface Serving {
  /** Where it listens, to be told. */
  readonly address: string;
  /** Resolves when it has ended by itself, where that can be. */
  readonly ended?: Promise<void>;
  /** Ends it; resolves when nothing is left of it. */
  stop(): Promise<void>;
}

/** What was given on the command line. */
export interface Arguments {
  readonly positionals: readonly string[];
  /** Options that were given, `--host` among them. */
  readonly options: Readonly<Record<string, string | undefined>>;
}

/** A server as a program. */
export interface Program {
  readonly name: string;
  /** The line of usage, without the name. */
  readonly usage: string;
  /** How many arguments there are that are no options. */
  readonly positionals: number;
  /** Names of options with a value. */
  readonly options?: readonly string[];
  /** What is said before the address; default: "listening on". */
  readonly told?: string;
  /** Starts it. A `RangeError` is about the arguments. */
  serve(given: Arguments): Serving | Promise<Serving>;
}

/** `text` as a port. Throws a `RangeError`. */
export function portOf(text: string | undefined): number {
  const port = text !== undefined && /^\d{1,5}$/.test(text) ? Number(text) : NaN;
  if (!(port <= LAST_PORT)) throw new RangeError(`"${text}" is no port: 0 to ${LAST_PORT}`);
  return port;
}

/** An address as text. */
export function addressText(address: Address): string {
  if ("path" in address) return address.path.replace(/^\0/, "@");
  const { hostname, port } = address;
  return hostname.includes(":") ? `[${hostname}]:${port}` : `${hostname}:${port}`;
}

function parse({ positionals: wanted, options = [] }: Program, args: readonly string[]): Arguments {
  const named = Object.fromEntries(options.map((name) => [name, { type: "string" as const }]));
  let parsed;
  try {
    parsed = parseArgs({ args: [...args], options: named, allowPositionals: true });
  } catch (error) {
    throw new RangeError((error as Error).message);
  }
  const { positionals, values } = parsed;
  if (positionals.length !== wanted) throw new RangeError("wrong number of arguments");
  return { positionals, options: values as Arguments["options"] };
}

function signal(): Promise<void> {
  return new Promise((resolve) => {
    for (const name of ["SIGINT", "SIGTERM"] as const) process.once(name, () => resolve());
  });
}

/** Runs a server until SIGINT or SIGTERM, and returns the exit status. */
async function run(program: Program, args: readonly string[]): Promise<number> {
  const { name, usage } = program;
  if (args.includes("--help") || args.includes("-h")) {
    console.log(`usage: ${name}.ts ${usage}`);
    return 0;
  }
  let serving: Serving;
  try {
    serving = await program.serve(parse(program, args));
  } catch (error) {
    if (error instanceof RangeError) {
      console.error(`${name}: ${error.message}\nusage: ${name}.ts ${usage}`);
      return 2;
    }
    if (!(error instanceof UringError || error instanceof StartError)) throw error;
    console.error(`${name}: ${error.message}`);
    return 1;
  }
  // Who reads that it serves may stop it at once.
  const stopped = signal();
  console.log(`${program.told ?? "listening on"} ${serving.address}`);
  await Promise.race([stopped, ...serving.ended === undefined ? [] : [serving.ended]]);
  await serving.stop();
  console.log("stopped");
  return 0;
}

/** The whole of a server's program. */
export async function main(program: Program): Promise<void> {
  process.exitCode = await run(program, process.argv.slice(2));
}
