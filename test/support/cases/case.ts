/**
 * What an entry of the table of operations is.
 *
 * @module
 */
import type { Uring } from "../../../src/mod.ts";
import { Fd, type TempDir } from "../descriptors.ts";
import { failure } from "../operations.ts";

/** One method of `Uring`, shown to work on whatever ring it is given. */
export interface OperationCase {
  /** The method. */
  readonly method: keyof Uring & string;
  /** What is shown, where a method has several entries. */
  readonly what?: string;
  /** The operation that it takes: an `IORING_OP_*`. */
  readonly op: number;
  /** What errors call it, where that is not the method's name. */
  readonly called?: string;
  /** The Linux version that it takes, where that is younger than the operation. */
  readonly kernel?: string;
  /** Why it cannot be shown here, or `false`. */
  readonly skip?: string | false;
  /**
   * Does it and checks what came of it. All that comes before takes older operations only, and nothing stays behind when
   * the operation fails: descriptors go through {@link owned} or are made without the library.
   */
  readonly run: (uring: Uring, dir: TempDir) => Promise<void>;
}

/** A descriptor that an operation made, closed at the end of the block. */
export async function owned(made: Promise<number>): Promise<Fd> {
  return new Fd(await made);
}

/** Checks that a promise rejects with this; what it rejects with otherwise is the failure of the case. */
export async function rejected(promise: Promise<unknown>, code: string): Promise<void> {
  const error = await failure(promise);
  if (error.code !== code) throw error;
}
