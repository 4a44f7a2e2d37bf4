/**
 * Checking and converting what callers pass.
 *
 * @module
 */
import { openFlags } from "../loop/open_flags.ts";
import type { FlagString } from "../mod.ts";
import { outOfRange, typeError } from "./errors.ts";

/** Where a file is: text, the bytes of a name that is no UTF-8, or a `file:` URL. */
export type PathLike = string | Uint8Array | URL;

/** How to open a file: Node's letters (`"r"`, `"w+"`, `"ax"`…) or `O_*` bits. */
export type Flags = FlagString | (string & Record<never, never>) | number;

/** Permissions: a number (`0o644`), or its octal digits as text. */
export type Mode = number | string;

const SLASH = /%2f/i;

/** A path as the ring takes it. */
export function pathOf(path: PathLike, name = "path"): string | Uint8Array {
  const plain = path instanceof URL ? pathOfUrl(path) : path;
  if (typeof plain !== "string" && !(plain instanceof Uint8Array)) {
    throw typeError(
      "ERR_INVALID_ARG_TYPE",
      `The "${name}" argument must be of type string or an instance of Buffer or URL. Received ${typeof plain}`,
    );
  }
  if (typeof plain === "string" ? plain.includes("\0") : plain.includes(0)) {
    throw typeError(
      "ERR_INVALID_ARG_VALUE",
      `The argument '${name}' must be a string, Uint8Array, or URL without null bytes.`,
    );
  }
  return plain;
}

function pathOfUrl(url: URL): string {
  if (url.protocol !== "file:") {
    throw typeError("ERR_INVALID_URL_SCHEME", "The URL must be of scheme file");
  }
  if (url.hostname !== "") {
    throw typeError("ERR_INVALID_FILE_URL_HOST", 'File URL host must be "localhost" or empty on linux');
  }
  if (SLASH.test(url.pathname)) {
    throw typeError("ERR_INVALID_FILE_URL_PATH", "File URL path must not include encoded / characters");
  }
  return decodeURIComponent(url.pathname);
}

/** Permissions as a number. */
export function modeOf(mode: Mode | null | undefined, otherwise: number): number {
  if (mode === undefined || mode === null) return otherwise;
  if (typeof mode === "string") {
    if (!/^[0-7]+$/.test(mode)) {
      throw typeError(
        "ERR_INVALID_ARG_VALUE",
        `The argument 'mode' must be a 32-bit unsigned integer or an octal string. Received '${mode}'`,
      );
    }
    return modeOf(parseInt(mode, 8), otherwise);
  }
  if (typeof mode !== "number") {
    throw typeError(
      "ERR_INVALID_ARG_TYPE",
      `The "mode" argument must be of type number. Received ${typeof mode}`,
    );
  }
  return integer("mode", mode, 0xffff_ffff);
}

/** An integer from `least` to `most`. */
export function integer(name: string, value: unknown, most: number, least: number = 0): number {
  if (typeof value !== "number") {
    throw typeError(
      "ERR_INVALID_ARG_TYPE",
      `The "${name}" argument must be of type number. Received ${typeof value}`,
    );
  }
  if (!Number.isInteger(value)) throw outOfRange(name, "an integer", value);
  if (value < least || value > most) throw outOfRange(name, `>= ${least} && <= ${most}`, value);
  return value;
}

/** A place in a file, as the ring takes it; −1 is the file's own. */
export function positionOf(position: number | bigint | null | undefined): number | bigint {
  if (position === undefined || position === null) return -1;
  if (typeof position === "number" ? Number.isSafeInteger(position) : typeof position === "bigint") {
    if (position < -1 || position > 2n ** 63n - 1n) {
      throw outOfRange("position", ">= -1 && <= 9223372036854775807", position);
    }
    return position;
  }
  if (typeof position === "number") throw outOfRange("position", "an integer", position);
  throw typeError(
    "ERR_INVALID_ARG_TYPE",
    `The "position" argument must be an integer or a bigint. Received ${typeof position}`,
  );
}

/** Flags as the kernel takes them. */
export function flagsOf(flags: Flags | null | undefined, otherwise: FlagString): number {
  const given: unknown = flags ?? otherwise;
  if (typeof given === "number") return integer("flags", given, 0x7fff_ffff);
  try {
    return openFlags(given as FlagString);
  } catch {
    throw typeError("ERR_INVALID_ARG_VALUE", `The argument 'flags' is invalid. Received '${String(given)}'`);
  }
}

/** Checks an option that is true or false. */
export function checkFlag(name: string, value: unknown): void {
  if (typeof value === "boolean") return;
  throw typeError(
    "ERR_INVALID_ARG_TYPE",
    `The "options.${name}" property must be of type boolean. Received ${
      value === null ? null : typeof value
    }`,
  );
}

/** Checks options that are nothing but an object. */
export function checkOptions(options: unknown): void {
  if (options === undefined) return;
  if (typeof options === "object" && options !== null && !Array.isArray(options)) return;
  throw typeError(
    "ERR_INVALID_ARG_TYPE",
    `The "options" argument must be of type object. Received ${options === null ? null : typeof options}`,
  );
}

/** Options that may be given as an encoding alone. */
export function optionsOf<O extends object>(options: O | string | null | undefined): Partial<O> {
  if (options === undefined || options === null) return {};
  if (typeof options === "string") return { encoding: options } as unknown as O;
  if (typeof options !== "object") {
    throw typeError(
      "ERR_INVALID_ARG_TYPE",
      `The "options" argument must be of type string or an instance of Object. Received ${typeof options}`,
    );
  }
  return options;
}

/** Checks that a signal is one. */
export function signalOf(signal: AbortSignal | null | undefined): AbortSignal | undefined {
  if (signal === undefined || signal === null) return undefined;
  if (signal instanceof AbortSignal) return signal;
  throw typeError("ERR_INVALID_ARG_TYPE", 'The "options.signal" property must be an instance of AbortSignal');
}

/** The bytes that a view shows. */
export function bytesOf(view: ArrayBufferView, offset = 0, length?: number): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset + offset, length ?? view.byteLength - offset);
}
