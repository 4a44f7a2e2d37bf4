/** The commands: each reads its arguments out of the request and appends its reply. */
import process from "node:process";
import { bulk, copy, type Replies, type Requests } from "./resp.ts";
import { type Entry, Store } from "./store.ts";

const OK = bytesOf("+OK\r\n");
const PONG = bytesOf("+PONG\r\n");
const NOTHING = bytesOf("$-1\r\n");
const ZERO = bytesOf(":0\r\n");
const ONE = bytesOf(":1\r\n");

const LF = 10;
const NOT_AN_INTEGER = "ERR value is not an integer or out of range";
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

  /** The entry that argument `i` is the key of. */
  entry(i: number): Entry | null {
    const { bytes, starts, ends } = this.requests;
    return this.store.get(bytes, starts[i]!, ends[i]!, this.now);
  }

  /** Argument `i`, in memory of its own. */
  copy(i: number): Uint8Array {
    const { bytes, starts, ends } = this.requests;
    return bytes.slice(starts[i]!, ends[i]!);
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

  delete(i: number): boolean {
    const { bytes, starts, ends } = this.requests;
    return this.store.delete(bytes, starts[i]!, ends[i]!, this.now);
  }
}

function integerOf(bytes: Uint8Array, start: number, end: number): number | null {
  const text = end - start <= 17 ? decoder.decode(bytes.subarray(start, end)) : "";
  const value = /^(0|-?[1-9]\d*)$/.test(text) ? Number(text) : NaN;
  return Number.isSafeInteger(value) ? value : null;
}

/** Gives an entry another value: in the same memory if it has the same length. */
function replace(entry: Entry, bytes: Uint8Array, start: number, end: number): void {
  const { reply } = entry;
  const at = reply.indexOf(LF) + 1;
  if (reply.length - at - 2 === end - start) copy(bytes, start, end, reply, at);
  else entry.reply = bulk(bytes, start, end);
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
  const entry = context.entry(1);
  context.replies.raw(entry === null ? NOTHING : entry.reply);
}

function set(context: Context): void {
  const { requests, replies, store } = context;
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
  const entry = context.entry(1);
  if (only !== "" && (only === "NX") !== (entry === null)) return replies.raw(NOTHING);
  const { bytes, starts, ends } = requests;
  const [start, end] = [starts[2]!, ends[2]!];
  if (entry === null) {
    store.add(context.copy(1), bulk(bytes, start, end), expires);
  } else {
    replace(entry, bytes, start, end);
    entry.expires = expires;
  }
  replies.raw(OK);
}

function increment(by: number): Run {
  return (context) => {
    const { replies, store } = context;
    const entry = context.entry(1);
    const old = entry === null ? 0 : numberIn(entry.reply);
    if (old === null || !Number.isSafeInteger(old + by)) return replies.error(NOT_AN_INTEGER);
    const reply = bulk(bytesOf(String(old + by)));
    if (entry === null) store.add(context.copy(1), reply, Infinity);
    else entry.reply = reply;
    replies.integer(old + by);
  };
}

/** The number that a value is: between the line with its length and the last line's end. */
function numberIn(reply: Uint8Array): number | null {
  return integerOf(reply, reply.indexOf(LF) + 1, reply.length - 2);
}

function mget({ requests, replies, store, now }: Context): void {
  const { bytes, starts, ends, count } = requests;
  replies.array(count - 1);
  for (let i = 1; i < count; i++) {
    replies.raw(store.get(bytes, starts[i]!, ends[i]!, now)?.reply ?? NOTHING);
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
    const entry = context.entry(1);
    if (entry === null) return context.replies.raw(ZERO);
    if (time <= 0) context.delete(1);
    else entry.expires = context.now + unit * time;
    context.replies.raw(ONE);
  };
}

function timeToLive(unit: number): Run {
  return (context) => {
    const entry = context.entry(1);
    if (entry === null) return context.replies.integer(-2);
    if (entry.expires === Infinity) return context.replies.integer(-1);
    context.replies.integer(Math.round((entry.expires - context.now) / unit));
  };
}

function ping(context: Context): void {
  if (context.requests.count === 1) context.replies.raw(PONG);
  else context.replies.raw(bulk(context.copy(1)));
}

function info({ replies, store, connections, commands, now }: Context): void {
  replies.bulk([
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
  ].join("\r\n"));
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
  context.replies.bulk(name.toLowerCase());
  context.replies.bulk(value);
}

function flush(context: Context): void {
  context.store.clear();
  context.replies.raw(OK);
}

const COMMANDS: readonly Command[] = [
  { name: "GET", least: 2, most: 2, run: get },
  { name: "SET", least: 3, most: Infinity, run: set },
  { name: "DEL", least: 2, most: Infinity, run: countKeys((context, i) => context.delete(i)) },
  { name: "EXISTS", least: 2, most: Infinity, run: countKeys((context, i) => context.entry(i) !== null) },
  { name: "INCR", least: 2, most: 2, run: increment(1) },
  { name: "DECR", least: 2, most: 2, run: increment(-1) },
  { name: "MGET", least: 2, most: Infinity, run: mget },
  { name: "EXPIRE", least: 3, most: 3, run: expire(1000) },
  { name: "PEXPIRE", least: 3, most: 3, run: expire(1) },
  { name: "TTL", least: 2, most: 2, run: timeToLive(1000) },
  { name: "PTTL", least: 2, most: 2, run: timeToLive(1) },
  { name: "PING", least: 1, most: 2, run: ping },
  { name: "ECHO", least: 2, most: 2, run: (context) => context.replies.raw(bulk(context.copy(1))) },
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
