/**
 * What can be said of paths by their text alone; `node:path` takes Deno ten milliseconds to load.
 *
 * @module
 */
import { system } from "../ffi/system.ts";
import { AT_FDCWD } from "../ffi/abi.ts";
import { cString } from "../ffi/cstring.ts";
import { UringError } from "../ffi/errors.ts";

const MOST = 4097;

/** Whether a path starts from the root. */
export function isAbsolute(path: string): boolean {
  return path.startsWith("/");
}

/** The directory of a path. */
export function dirname(path: string): string {
  const trimmed = path.replace(/\/+$/, "");
  const slash = trimmed.lastIndexOf("/");
  if (slash < 0) return path.startsWith("/") ? "/" : ".";
  return trimmed.slice(0, slash).replace(/\/+$/, "") || "/";
}

/** An absolute path without `.` and `..`, by its text. */
export function resolve(...paths: readonly string[]): string {
  let whole = "";
  for (const path of paths) whole = isAbsolute(path) ? path : whole === "" ? path : `${whole}/${path}`;
  if (!isAbsolute(whole)) whole = `${workingDirectory()}/${whole}`;
  const names: string[] = [];
  for (const name of whole.split("/")) {
    if (name === "..") names.pop();
    else if (name !== "" && name !== ".") names.push(name);
  }
  return `/${names.join("/")}`;
}

function workingDirectory(): string {
  const out = new Uint8Array(new ArrayBuffer(MOST));
  const length = system().files.readlinkat(AT_FDCWD, cString("/proc/self/cwd"), out, MOST);
  if (length < 0) throw new UringError(length, "getcwd");
  return new TextDecoder().decode(out.subarray(0, length));
}
