/**
 * The arguments of reads and writes, and their results.
 *
 * @module
 */
import type { RegisteredBuffer } from "../mod.ts";
import { bytesOf, integer, positionOf } from "./arguments.ts";
import { typeError } from "./errors.ts";
import { Page } from "./page_pool.ts";

/** A place in a file in bytes; `null` or −1: where the file is, which moves on. */
export type Position = number | bigint | null;

/** Options of `FileHandle.read` and `FileHandle.write`. */
export interface TransferOptions {
  /** Where in the buffer to begin, in bytes; default 0. */
  offset?: number | null | undefined;
  /** How many bytes; default: to the end of the buffer. */
  length?: number | null | undefined;
  /** Where in the file; default `null`. */
  position?: Position | undefined;
}

/** What `FileHandle.read` gives. */
export interface ReadResult<T> {
  /** How many bytes were read; 0: the end. */
  bytesRead: number;
  /** The buffer that they are in. */
  buffer: T;
}

/** What `FileHandle.write` gives. */
export interface WriteResult<T> {
  /** How many bytes were written, which may be fewer than asked for. */
  bytesWritten: number;
  /** What was to be written. */
  buffer: T;
}

/** What `FileHandle.readv` gives. */
export interface ReadVectorResult<T> {
  /** How many bytes were read in all; 0: the end. */
  bytesRead: number;
  /** The buffers that they are in. */
  buffers: T;
}

/** What `FileHandle.writev` gives. */
export interface WriteVectorResult<T> {
  /** How many bytes were written in all. */
  bytesWritten: number;
  /** What was to be written. */
  buffers: T;
}

/** A length for a file: what is negative is 0, as in Node. @internal */
export function lengthOf(length: number | null | undefined): number {
  if (typeof length === "number" && Number.isInteger(length) && length < 0) return 0;
  return integer("len", length ?? 0, Number.MAX_SAFE_INTEGER);
}

/** What is to be transferred of registered memory. */
export function fixedTransfer(
  buffer: Page | RegisteredBuffer,
  options: TransferOptions,
): { buffer: RegisteredBuffer; options: { start: number; length: number; offset: number | bigint } } {
  const offset = integer("offset", options.offset ?? 0, buffer.size);
  const most = buffer.size - offset;
  const length = integer("length", options.length ?? most, most);
  const [registered, start] = buffer instanceof Page ? [buffer.buffer, buffer.start] : [buffer, 0];
  return {
    buffer: registered,
    options: { start: start + offset, length, offset: positionOf(options.position) },
  };
}

/** Options given one by one, or together. */
export function transferOptions(
  second: number | TransferOptions | null | undefined,
  length: number | null | undefined,
  position: Position | undefined,
): TransferOptions {
  return typeof second === "object" && second !== null ? second : { offset: second, length, position };
}

/** What is to be transferred of a view, and where it is in the file. */
export function transferOf(
  buffer: ArrayBufferView,
  options: TransferOptions,
): [view: Uint8Array, position: number | bigint] {
  const offset = integer("offset", options.offset ?? 0, buffer.byteLength);
  const most = buffer.byteLength - offset;
  const length = integer("length", options.length ?? most, most);
  return [bytesOf(buffer, offset, length), positionOf(options.position)];
}

/** Checks that something is a view. */
export function checkView(name: string, view: unknown): asserts view is ArrayBufferView {
  if (ArrayBuffer.isView(view)) return;
  throw typeError(
    "ERR_INVALID_ARG_TYPE",
    `The "${name}" argument must be an instance of Buffer, TypedArray, or DataView. Received ${typeof view}`,
  );
}

/** Checks that something is an array of views. */
export function checkViews(views: unknown): void {
  if (Array.isArray(views) && views.every((view) => ArrayBuffer.isView(view))) return;
  throw typeError("ERR_INVALID_ARG_TYPE", 'The "buffers" argument must be an instance of ArrayBufferView[].');
}
