/**
 * Descriptors made without the library: through libc, or by the kernel's /proc.
 *
 * @module
 */
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { EFD_CLOEXEC, EFD_NONBLOCK, O_CLOEXEC, O_NONBLOCK } from "../../src/ffi/abi.ts";
import { cString } from "../../src/ffi/cstring.ts";
import { check } from "../../src/ffi/errors.ts";
import { system } from "../../src/ffi/system.ts";

/** A descriptor that is closed at the end of its block. */
export class Fd implements Disposable {
  /** The descriptor. */
  readonly fd: number;
  #open = true;

  constructor(fd: number) {
    this.fd = fd;
  }

  /** Opens a file. The runtime's own `openSync` will not do: Deno closes what it has opened, too. */
  static open(path: string, flags: number, mode = 0o600): Fd {
    return new Fd(check(system().rare.open(cString(path), flags | O_CLOEXEC, mode), "open", { path }));
  }

  /** Closes it now. */
  close(): void {
    if (this.#open) system().close(this.fd);
    this.#open = false;
  }

  /** Says that something else has closed it. */
  release(): void {
    this.#open = false;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** A pipe: what is written to `writer` comes out of `reader`. */
export class Pipe implements Disposable {
  readonly reader: Fd;
  readonly writer: Fd;

  constructor() {
    const fds = new Int32Array(new ArrayBuffer(8));
    check(system().rare.pipe2(fds, O_CLOEXEC | O_NONBLOCK), "pipe2");
    this.reader = new Fd(fds[0]!);
    this.writer = new Fd(fds[1]!);
  }

  /** Puts bytes into the pipe. */
  write(content: string): void {
    const bytes = new TextEncoder().encode(content);
    check(system().write(this.writer.fd, bytes, bytes.length), "write");
  }

  /** Takes what is there out of the pipe; `""` when nothing is. */
  read(): string {
    const bytes = new Uint8Array(new ArrayBuffer(65536));
    const length = system().read(this.reader.fd, bytes, bytes.length);
    return length < 0 ? "" : new TextDecoder().decode(bytes.subarray(0, length));
  }

  [Symbol.dispose](): void {
    this.reader.close();
    this.writer.close();
  }
}

/** An eventfd. */
export class EventFd extends Fd {
  constructor() {
    super(check(system().eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd"));
  }

  /** Adds one to the count. */
  signal(): void {
    const one = new Uint8Array(new ArrayBuffer(8));
    new DataView(one.buffer).setBigUint64(0, 1n, true);
    check(system().write(this.fd, one, 8), "write");
  }

  /** The count since the last call. */
  take(): number {
    const bytes = new Uint8Array(new ArrayBuffer(8));
    if (system().read(this.fd, bytes, 8) < 0) return 0;
    return Number(new DataView(bytes.buffer).getBigUint64(0, true));
  }
}

/** A directory that goes at the end of its block, with all that is in it. */
export class TempDir implements Disposable {
  /** The directory's path. */
  readonly path: string = mkdtempSync(join(tmpdir(), "uring-test-"));

  /** A path in it. */
  of(name: string): string {
    return join(this.path, name);
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}

/** How many rings this process has open. */
export function openRings(): number {
  let count = 0;
  for (const name of readdirSync("/proc/self/fd")) {
    try {
      if (readlinkSync(`/proc/self/fd/${name}`) === "anon_inode:[io_uring]") count++;
    } catch {
      // The directory's own descriptor.
    }
  }
  return count;
}

/** The `flags:` line of /proc/self/fdinfo. */
export function fdFlags(fd: number): number {
  const line = /^flags:\s*([0-7]+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, "utf8"));
  return parseInt(line![1]!, 8);
}

/** Whether memory is mapped at an address. */
export function isMapped(address: number): boolean {
  return readFileSync("/proc/self/maps", "utf8").split("\n").some((line) => {
    const [from, to] = line.split(" ")[0]!.split("-").map((hex) => parseInt(hex, 16));
    return from! <= address && address < to!;
  });
}

/** The `VmFlags` of the mapping that an address lies in. */
export function vmFlags(address: number): string[] {
  let inside = false;
  for (const line of readFileSync("/proc/self/smaps", "utf8").split("\n")) {
    const range = /^([0-9a-f]+)-([0-9a-f]+) /.exec(line);
    if (range !== null) {
      inside = parseInt(range[1]!, 16) <= address && address < parseInt(range[2]!, 16);
    }
    if (inside && line.startsWith("VmFlags:")) return line.slice(8).trim().split(" ");
  }
  return [];
}
