/**
 * The thread of a {@link Peer}: plain system calls, at the same time as the ring works.
 *
 * @module
 */
import { SHUT_WR } from "../../src/ffi/abi.ts";
import { check } from "../../src/ffi/errors.ts";
import { system } from "../../src/ffi/system.ts";
import { libc } from "./libc.ts";
import { type PeerTask, Turns } from "./peer.ts";
import { Random } from "./random.ts";
import { sleep } from "./rings.ts";
import { ADDRESS_SIZE, loopback, send, tcp } from "./sockets.ts";

const self = globalThis as unknown as {
  onmessage: ((event: MessageEvent<{ task: PeerTask; words: Int32Array }>) => void) | null;
  postMessage(answer: string | null): void;
};

function dial(port: number): number {
  const { fd } = tcp();
  check(libc().connect(fd, loopback(port).bytes, ADDRESS_SIZE), "connect");
  return fd;
}

function filled(size: number, value: number): Uint8Array {
  return new Uint8Array(new ArrayBuffer(size)).fill(value);
}

/** Connects and hangs up, again and again, at once or in rounds. */
function connects(task: PeerTask & { kind: "connects" }, turns: Turns): void {
  const { port, count, rounds, byte } = task;
  for (let round = 0; round < rounds; round++) {
    const open: number[] = [];
    for (let i = 0; i < count; i++) {
      const fd = dial(port);
      if (byte !== undefined) send(fd, filled(1, byte));
      if (rounds > 1) open.push(fd);
      else system().close(fd);
    }
    if (rounds === 1) return;
    turns.done();
    turns.await();
    for (const fd of open) system().close(fd);
  }
}

/** Once in each round, writes to the socket of the round, and shuts it down where that is asked for. */
function writes(task: PeerTask & { kind: "writes" }, turns: Turns): void {
  const data = filled(task.size, 0x5a);
  for (let round = 0; round < task.rounds; round++) {
    const [fd, count] = turns.await();
    for (let i = 0; i < count; i++) send(fd, data);
    if (task.shutdown) check(libc().shutdown(fd, SHUT_WR), "shutdown");
    turns.done();
  }
}

/** Once in each round, writes a byte to so many descriptors out of all. */
function triggers(task: PeerTask & { kind: "triggers" }, turns: Turns): void {
  const random = new Random(1);
  const byte = filled(1, 89);
  for (let round = 0; round < task.rounds; round++) {
    turns.await();
    const left = [...task.fds];
    for (let i = 0; i < task.count; i++) {
      const [fd] = left.splice(random.below(left.length), 1);
      check(system().write(fd!, byte, 1), "write");
    }
    turns.done();
  }
}

/** Sends pieces, the number of each in every byte, with a pause now and then. */
function streams({ fd, count, size }: PeerTask & { kind: "streams" }): void {
  for (let i = 0; i < count; i++) {
    send(fd, filled(size, i & 0xff));
    if (i % 64 === 63) sleep(1);
  }
  check(libc().shutdown(fd, SHUT_WR), "shutdown");
}

/** Connects, receives to the end, and writes how many bytes came as text. */
function receives({ port, answer }: PeerTask & { kind: "receives" }): void {
  const fd = dial(port);
  const buffer = filled(4096, 0);
  let total = 0;
  for (;;) {
    const length = check(libc().recv(fd, buffer, buffer.length, 0), "recv");
    if (length === 0) break;
    total += length;
  }
  system().close(fd);
  const text = new TextEncoder().encode(`${total}`);
  check(system().write(answer, text, text.length), "write");
}

/** Writes a text a little later, and closes what it was written to. */
function pours({ fd, text, close }: PeerTask & { kind: "pours" }): void {
  sleep(5);
  const bytes = new TextEncoder().encode(text);
  check(system().write(fd, bytes, bytes.length), "write");
  if (close) check(system().close(fd), "close");
}

function perform(task: PeerTask, turns: Turns): void {
  if (task.kind === "connects") connects(task, turns);
  else if (task.kind === "writes") writes(task, turns);
  else if (task.kind === "triggers") triggers(task, turns);
  else if (task.kind === "streams") streams(task);
  else if (task.kind === "receives") receives(task);
  else if (task.kind === "pours") pours(task);
}

self.onmessage = ({ data }): void => {
  try {
    perform(data.task, new Turns(data.words, 1));
    self.postMessage("done");
  } catch (error) {
    self.postMessage(error instanceof Error ? error.stack ?? error.message : String(error));
  }
};

// A message that is sent while the modules still load may be lost.
self.postMessage(null);
