/**
 * What is known of the running kernel.
 *
 * @module
 */
import { O_RDONLY } from "./abi.ts";
import { cString } from "./cstring.ts";
import { system } from "./system.ts";

/** The kernel's release, `[6, 18]` for 6.18.44-cloud; `[0, 0]` when it cannot be told. */
export function kernelVersion(): readonly [major: number, minor: number] {
  const UTSNAME_FIELD = 65;
  const names = new Uint8Array(new ArrayBuffer(6 * UTSNAME_FIELD));
  if (system().rare.uname(names) !== 0) return [0, 0];
  const release = new TextDecoder().decode(names.subarray(2 * UTSNAME_FIELD, 3 * UTSNAME_FIELD));
  const match = /^(\d+)\.(\d+)/.exec(release);
  return match === null ? [0, 0] : [Number(match[1]), Number(match[2])];
}

/** Whether the running kernel is at least `needed` ("5.19"). */
export function kernelHas(needed: string): boolean {
  const [major, minor] = kernelVersion();
  const [needMajor = 0, needMinor = 0] = needed.split(".").map(Number);
  return major > needMajor || (major === needMajor && minor >= needMinor);
}

let page: number | undefined;

/** The size of a page of memory in bytes. */
export function pageSize(): number {
  return page ??= system().rare.getpagesize();
}

/** The content of a small text file of /proc or /sys, or null when it cannot be read; needs no permission in Deno. */
export function readSmallFile(path: string): string | null {
  const sys = system();
  const fd = sys.rare.open(cString(path), O_RDONLY, 0);
  if (fd < 0) return null;
  const bytes = new Uint8Array(new ArrayBuffer(4096));
  const length = sys.read(fd, bytes, bytes.length);
  sys.close(fd);
  return length < 0 ? null : new TextDecoder().decode(bytes.subarray(0, length));
}
