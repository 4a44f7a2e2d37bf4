/**
 * A kernel that is older than the one that runs: what it does not know yet is refused as it would be, before the real
 * one sees it.
 *
 * @module
 */
import {
  IO_URING_OP_SUPPORTED,
  IORING_REGISTER_BUFFERS2,
  IORING_REGISTER_FILES2,
  IORING_REGISTER_PROBE,
  IORING_RSRC_REGISTER_SPARSE,
} from "../../src/ffi/abi.ts";
import {
  io_uring_params,
  io_uring_probe,
  io_uring_probe_op,
  io_uring_rsrc_register,
} from "../../src/ffi/structs.ts";
import { type System, system } from "../../src/ffi/system.ts";
import {
  ENTER_FLAGS,
  FEATURES,
  type Flag,
  OPCODE_KERNEL,
  REGISTER_KERNEL,
  SETUP_FLAGS,
} from "../../src/ffi/versions.ts";
import { SqeBase } from "../../src/ring/mod.ts";

const EINVAL = -22;
const UTSNAME_FIELD = 65;
const VIA_INDEX = 0x8000_0000;
/** An opcode that no kernel has. */
const NO_OPCODE = 0xff;

/** Compares two versions, as a comparator for sorting does. */
export function compareKernels(a: string, b: string): number {
  const [[major = 0, minor = 0], [otherMajor = 0, otherMinor = 0]] = [a, b].map((version) =>
    version.split(".").map(Number)
  ) as [number[], number[]];
  return major - otherMajor || minor - otherMinor;
}

/** The last kernel before that one. */
export function kernelBefore(version: string): string {
  const LAST: Readonly<Record<number, string>> = { 5: "4.20", 6: "5.19", 7: "6.19" };
  const [major = 0, minor = 0] = version.split(".").map(Number);
  return minor > 0 ? `${major}.${minor - 1}` : LAST[major]!;
}

type Prep = (this: SqeBase, op: number, ...rest: never[]) => void;

/**
 * Until disposed, this thread's kernel passes for `version`: its release, its setup flags, features, register
 * operations, enter flags and operations are those of that time. Flags of single operations are not looked at
 * (but for tables without content, which are how direct descriptors begin).
 */
export class OldKernel implements Disposable {
  readonly #system: System = system();
  readonly #undo: (() => void)[] = [];

  constructor(version: string) {
    const isYoung = (kernel: string): boolean => compareKernels(kernel, version) > 0;
    const young = (flags: readonly Flag[]): number =>
      flags.filter(([, , kernel]) => isYoung(kernel)).reduce((all, [bit]) => all | bit, 0);
    this.#replaceRelease(version);
    this.#replaceSetup(young(SETUP_FLAGS), young(FEATURES));
    this.#replaceEnter(young(ENTER_FLAGS));
    this.#replaceRegister(isYoung);
    this.#replacePreps((op) => isYoung(OPCODE_KERNEL[op] ?? "99.0"));
  }

  [Symbol.dispose](): void {
    for (const undo of this.#undo.splice(0).reverse()) undo();
  }

  /** Puts something else in a method's place. */
  #replace<T extends object, K extends keyof T>(target: T, name: K, make: (real: T[K]) => T[K]): void {
    const own = Object.getOwnPropertyDescriptor(target, name);
    const real = target[name];
    Object.defineProperty(target, name, { value: make(real), configurable: true, writable: true });
    this.#undo.push(() => {
      if (own === undefined) delete target[name];
      else Object.defineProperty(target, name, own);
    });
  }

  #replaceRelease(version: string): void {
    this.#replace(this.#system.rare, "uname", (real) => (names) => {
      const result = real(names);
      const field = names!.subarray(2 * UTSNAME_FIELD, 3 * UTSNAME_FIELD) as Uint8Array;
      field.fill(0);
      new TextEncoder().encodeInto(`${version}.0-pretended`, field);
      return result;
    });
  }

  #replaceSetup(youngFlags: number, youngFeatures: number): void {
    this.#replace(this.#system, "setup", (real) => (entries, bytes) => {
      const params = new DataView(bytes.buffer, bytes.byteOffset);
      if ((params.getUint32(io_uring_params.flags, true) & youngFlags) !== 0) return EINVAL;
      const result = real(entries, bytes);
      const features = params.getUint32(io_uring_params.features, true);
      params.setUint32(io_uring_params.features, features & ~youngFeatures, true);
      return result;
    });
  }

  #replaceEnter(young: number): void {
    this.#replace(this.#system, "enter", (real) => (fd, toSubmit, minComplete, flags) => {
      return (flags & young) !== 0 ? EINVAL : real(fd, toSubmit, minComplete, flags);
    });
    this.#replace(this.#system, "enterArg", (real) => (fd, toSubmit, minComplete, flags, ...arg) => {
      return (flags & young) !== 0 ? EINVAL : real(fd, toSubmit, minComplete, flags, ...arg);
    });
    this.#replace(this.#system, "enterOffset", (real) => (fd, toSubmit, minComplete, flags, ...arg) => {
      return (flags & young) !== 0 ? EINVAL : real(fd, toSubmit, minComplete, flags, ...arg);
    });
  }

  #replaceRegister(isYoung: (kernel: string) => boolean): void {
    this.#replace(this.#system, "register", (real) => (fd, opcode, arg, count) => {
      const operation = (opcode & ~VIA_INDEX) >>> 0;
      const kernel = REGISTER_KERNEL[operation];
      if (kernel === undefined || isYoung(kernel)) return EINVAL;
      if (isYoung("5.19") && asksForSparse(operation, arg)) return EINVAL;
      const result = real(fd, opcode, arg, count);
      if (operation === IORING_REGISTER_PROBE && result >= 0) forget(arg as Uint8Array, isYoung);
      return result;
    });
  }

  /** Entries get an opcode that no kernel knows in place of one that this kernel does not know yet. */
  #replacePreps(isYoung: (op: number) => boolean): void {
    const prototype = SqeBase.prototype as unknown as Record<"prepRw" | "fillBare", Prep>;
    for (const name of ["prepRw", "fillBare"] as const) {
      this.#replace(prototype, name, (real) =>
        function (this: SqeBase, op: number, ...rest: never[]): void {
          real.call(this, isYoung(op) ? NO_OPCODE : op, ...rest);
        });
    }
    const opcode = Object.getOwnPropertyDescriptor(SqeBase.prototype, "opcode")!;
    Object.defineProperty(SqeBase.prototype, "opcode", {
      ...opcode,
      set(this: SqeBase, op: number): void {
        opcode.set!.call(this, isYoung(op) ? NO_OPCODE : op);
      },
    });
    this.#undo.push(() => Object.defineProperty(SqeBase.prototype, "opcode", opcode));
  }
}

/** Whether a table of nothing but empty slots is asked for. */
function asksForSparse(operation: number, arg: Uint8Array | Int32Array | null): boolean {
  if (operation !== IORING_REGISTER_FILES2 && operation !== IORING_REGISTER_BUFFERS2) return false;
  const flags = new DataView(arg!.buffer, arg!.byteOffset).getUint32(io_uring_rsrc_register.flags, true);
  return (flags & IORING_RSRC_REGISTER_SPARSE) !== 0;
}

/** Takes the operations that are too young out of what a probe has found. */
function forget(bytes: Uint8Array, isYoung: (kernel: string) => boolean): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  for (let i = 0; i < view.getUint8(io_uring_probe.ops_len); i++) {
    const at = io_uring_probe.size + i * io_uring_probe_op.size;
    const kernel = OPCODE_KERNEL[view.getUint8(at + io_uring_probe_op.op)];
    if (kernel !== undefined && !isYoung(kernel)) continue;
    const flags = view.getUint16(at + io_uring_probe_op.flags, true);
    view.setUint16(at + io_uring_probe_op.flags, flags & ~IO_URING_OP_SUPPORTED, true);
  }
}
