/** The commands: each reads its arguments out of the request and appends its reply. */
import process from "node:process";
import { type Replies, type Requests } from "./resp.ts";
import { Store } from "./store.ts";

const OK = bytesOf("+OK\r\n");
const PONG = bytesOf("+PONG\r\n");
const NOTHING = bytesOf("$-1\r\n");
const ZERO = bytesOf(":0\r\n");
const ONE = bytesOf(":1\r\n");

const LF = 10;
const NOT_AN_INTEGER = "ERR value is not an integer or out of range";
const NO_MEMORY = "OOM there is no more memory";
const SYNTAX = "ERR syntax error";
const WRONG_EXPIRY = "ERR invalid expire time";

const started = Date.now();
const decoder = new TextDecoder();

function bytesOf(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

/** What a command needs. */
export class Context {
  readonly store: Store = new Store();
  /** Milliseconds since 1970; as of the packet that the request came in. */
  now = 0;
  connections = 0;
  commands = 0;
  readonly requests: Requests;
  readonly replies: Replies;

  constructor(requests: Requests, replies: Replies) {
    this.requests = requests;
    this.replies = replies;
  }

  /** The record that argument `i` is the key of; 0 without one. */
  find(i: number): number {
    const { bytes, starts, ends } = this.requests;
    return this.store.find(bytes, starts[i]!, ends[i]!, this.now);
  }

  /** Adds argument 1 as a key, or gives its record another value. */
  put(handle: number, value: Uint8Array, start: number, end: number, expires: number): boolean {
    const { requests: { bytes, starts, ends }, store } = this;
    if (handle === 0) return store.add(bytes, starts[1]!, ends[1]!, value, start, end, expires);
    store.setExpires(handle, expires);
    return store.replace(handle, value, start, end);
  }

  /** Argument `i` in capital letters. */
  word(i: number): string {
    const { bytes, starts, ends } = this.requests;
    return decoder.decode(bytes.subarray(starts[i]!, ends[i]!)).toUpperCase();
  }

  /** Argument `i` as a number; null if it is none that a `number` is exact for. */
  integer(i: number): number | null {
    const { bytes, starts, ends } = this.requests;
    return integerOf(bytes, starts[i]!, ends[i]!);
  }

  /** The value that was found last. */
  reply(): void {
    const { store } = this;
    this.replies.raw(store.bytes, store.start, store.end);
  }

  delete(i: number): boolean {
    const handle = this.find(i);
    if (handle !== 0) this.store.delete(handle);
    return handle !== 0;
  }
}

function integerOf(bytes: Uint8Array, start: number, end: number): number | null {
  const text = end - start <= 17 ? decoder.decode(bytes.subarray(start, end)) : "";
  const value = /^(0|-?[1-9]\d*)$/.test(text) ? Number(text) : NaN;
  return Number.isSafeInteger(value) ? value : null;
}

type Run = (context: Context) => void;

/** A command, and how many arguments it takes at least and at most, its name counted. */
interface Command {
  readonly name: string;
  readonly least: number;
  readonly most: number;
  readonly run: Run;
}

function get(context: Context): void {
  if (context.find(1) === 0) context.replies.raw(NOTHING);
  else context.reply();
}

function set(context: Context): void {
  const { requests, replies } = context;
  let expires = Infinity;
  let only = "";
  for (let i = 3; i < requests.count; i++) {
    const word = context.word(i);
    if ((word === "NX" || word === "XX") && only === "") {
      only = word;
    } else if ((word === "EX" || word === "PX") && expires === Infinity && i + 1 < requests.count) {
      const time = context.integer(++i);
      if (time === null) return replies.error(NOT_AN_INTEGER);
      if (time <= 0) return replies.error(`${WRONG_EXPIRY} in 'set' command`);
      expires = context.now + (word === "EX" ? 1000 * time : time);
    } else {
      return replies.error(SYNTAX);
    }
  }
  const handle = context.find(1);
  if (only !== "" && (only === "NX") !== (handle === 0)) return replies.raw(NOTHING);
  const { bytes, starts, ends } = requests;
  if (context.put(handle, bytes, starts[2]!, ends[2]!, expires)) replies.raw(OK);
  else replies.error(NO_MEMORY);
}

function increment(by: number): Run {
  return (context) => {
    const { replies, store } = context;
    const handle = context.find(1);
    // The value lies between the line with its length and the end of its own.
    const old = handle === 0
      ? 0
      : integerOf(store.bytes, store.bytes.indexOf(LF, store.start) + 1, store.end - 2);
    if (old === null || !Number.isSafeInteger(old + by)) return replies.error(NOT_AN_INTEGER);
    const value = bytesOf(String(old + by));
    const expires = handle === 0 ? Infinity : store.expires(handle);
    if (context.put(handle, value, 0, value.length, expires)) replies.integer(old + by);
    else replies.error(NO_MEMORY);
  };
}

function mget(context: Context): void {
  const { count } = context.requests;
  context.replies.array(count - 1);
  for (let i = 1; i < count; i++) {
    if (context.find(i) === 0) context.replies.raw(NOTHING);
    else context.reply();
  }
}

/** For each key 1 or 0, added up. */
function countKeys(what: (context: Context, i: number) => boolean): Run {
  return (context) => {
    let count = 0;
    for (let i = 1; i < context.requests.count; i++) if (what(context, i)) count++;
    context.replies.integer(count);
  };
}

function expire(unit: number): Run {
  return (context) => {
    const time = context.integer(2);
    if (time === null) return context.replies.error(NOT_AN_INTEGER);
    const handle = context.find(1);
    if (handle === 0) return context.replies.raw(ZERO);
    if (time <= 0) context.store.delete(handle);
    else context.store.setExpires(handle, context.now + unit * time);
    context.replies.raw(ONE);
  };
}

function timeToLive(unit: number): Run {
  return (context) => {
    const handle = context.find(1);
    if (handle === 0) return context.replies.integer(-2);
    const expires = context.store.expires(handle);
    context.replies.integer(expires === Infinity ? -1 : Math.round((expires - context.now) / unit));
  };
}

/** Argument 1, said back. */
function say({ requests: { bytes, starts, ends }, replies }: Context): void {
  replies.bulk(bytes, starts[1]!, ends[1]!);
}

function ping(context: Context): void {
  if (context.requests.count === 1) context.replies.raw(PONG);
  else say(context);
}

function info({ replies, store, connections, commands, now }: Context): void {
  replies.bulk(bytesOf([
    "# Server",
    "redis_version:7.0.0",
    `server_name:uring-kv`,
    `runtime:${process.versions["bun"] === undefined ? "deno" : "bun"}`,
    `process_id:${process.pid}`,
    `uptime_in_seconds:${Math.floor((now - started) / 1000)}`,
    "# Clients",
    `connected_clients:${connections}`,
    "# Stats",
    `total_commands_processed:${commands}`,
    "# Keyspace",
    ...(store.size === 0 ? [] : [`db0:keys=${store.size}`]),
    "",
  ].join("\r\n")));
}

function config(context: Context): void {
  if (context.word(1) !== "GET" || context.requests.count !== 3) {
    return context.replies.error("ERR only CONFIG GET is known");
  }
  const settings: Readonly<Record<string, string>> = { SAVE: "", APPENDONLY: "no", DATABASES: "1" };
  const name = context.word(2);
  const value = settings[name];
  context.replies.array(value === undefined ? 0 : 2);
  if (value === undefined) return;
  context.replies.bulk(bytesOf(name.toLowerCase()));
  context.replies.bulk(bytesOf(value));
}

function flush(context: Context): void {
  context.store.clear();
  context.replies.raw(OK);
}

const COMMANDS: readonly Command[] = [
  { name: "GET", least: 2, most: 2, run: get },
  { name: "SET", least: 3, most: Infinity, run: set },
  { name: "DEL", least: 2, most: Infinity, run: countKeys((context, i) => context.delete(i)) },
  { name: "EXISTS", least: 2, most: Infinity, run: countKeys((context, i) => context.find(i) !== 0) },
  { name: "INCR", least: 2, most: 2, run: increment(1) },
  { name: "DECR", least: 2, most: 2, run: increment(-1) },
  { name: "MGET", least: 2, most: Infinity, run: mget },
  { name: "EXPIRE", least: 3, most: 3, run: expire(1000) },
  { name: "PEXPIRE", least: 3, most: 3, run: expire(1) },
  { name: "TTL", least: 2, most: 2, run: timeToLive(1000) },
  { name: "PTTL", least: 2, most: 2, run: timeToLive(1) },
  { name: "PING", least: 1, most: 2, run: ping },
  { name: "ECHO", least: 2, most: 2, run: say },
  { name: "INFO", least: 1, most: Infinity, run: info },
  { name: "CONFIG", least: 2, most: Infinity, run: config },
  { name: "COMMAND", least: 1, most: Infinity, run: (context) => context.replies.array(0) },
  { name: "DBSIZE", least: 1, most: 1, run: (context) => context.replies.integer(context.store.size) },
  { name: "FLUSHALL", least: 1, most: 2, run: flush },
];

/** A name's letters without their case, as a number that no two commands share. */
function codeOf(bytes: Uint8Array, start: number, end: number): number {
  let code = end - start;
  for (let i = start; i < end; i++) code = (Math.imul(code, 31) + (bytes[i]! & 0xdf)) | 0;
  return code;
}

const BY_CODE: ReadonlyMap<number, Command> = new Map(COMMANDS.map((command) => {
  const name = bytesOf(command.name);
  return [codeOf(name, 0, name.length), command];
}));

function isNamed(name: string, bytes: Uint8Array, start: number): boolean {
  for (let i = 0; i < name.length; i++) if (name.charCodeAt(i) !== (bytes[start + i]! & 0xdf)) return false;
  return true;
}

/** Does what the request in `context.requests` asks for. */
export function execute(context: Context): void {
  const { bytes, starts, ends, count } = context.requests;
  if (count === 0) return;
  context.commands++;
  const start = starts[0]!;
  const command = BY_CODE.get(codeOf(bytes, start, ends[0]!));
  if (
    command === undefined || command.name.length !== ends[0]! - start || !isNamed(command.name, bytes, start)
  ) {
    const name = decoder.decode(bytes.subarray(start, Math.min(ends[0]!, start + 128)));
    return context.replies.error(`ERR unknown command '${name.replaceAll(/[\r\n]/g, " ")}'`);
  }
  if (count < command.least || count > command.most) {
    const name = command.name.toLowerCase();
    return context.replies.error(`ERR wrong number of arguments for '${name}' command`);
  }
  command.run(context);
}
