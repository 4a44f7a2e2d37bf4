/**
 * A BPF program that runs a ring's wait loop, loaded without a compiler: its few instructions are written down here, and the
 * numbers that the kernel wants of its own types and functions are read out of its type information (BTF).
 *
 * @module
 */
import { readFileSync } from "node:fs";
import process from "node:process";
import { UringError } from "../../src/ffi/errors.ts";
import { Fd } from "./descriptors.ts";
import { openLibc } from "./libc.ts";
import { type Block, block } from "./rings.ts";

const BPF_MAP_CREATE = 0;
const BPF_MAP_UPDATE_ELEM = 2;
const BPF_PROG_LOAD = 5;
const BPF_BTF_LOAD = 18;
const BPF_LINK_CREATE = 28;
const BPF_MAP_TYPE_STRUCT_OPS = 26;
const BPF_PROG_TYPE_STRUCT_OPS = 27;
const BPF_STRUCT_OPS = 44;
const BPF_F_SLEEPABLE = 1 << 4;
const BPF_F_LINK = 1 << 13;
const ATTR_SIZE = 128;
const SYS_BPF = process.arch === "arm64" ? 280 : 321;

const KIND_FUNC = 12;
const KIND_STRUCT = 4;
const TYPE_SIZE = 12;
/** Bytes behind a type, by its kind: a number for all, or for each member. */
const TAILS: Readonly<Record<number, { readonly all?: number; readonly each?: number }>> = {
  1: { all: 4 },
  3: { all: 12 },
  4: { each: 12 },
  5: { each: 12 },
  6: { each: 8 },
  13: { each: 8 },
  14: { all: 4 },
  15: { each: 12 },
  17: { all: 4 },
  19: { each: 12 },
};

/** A type of the kernel's. */
interface KernelType {
  readonly id: number;
  readonly size: number;
  /** The offset of each member in bytes. */
  readonly members: ReadonlyMap<string, number>;
}

/** Finds structs and functions of the kernel's by their names. */
function findTypes(wanted: ReadonlyMap<string, number>): Map<string, KernelType> {
  const bytes = readFileSync("/sys/kernel/btf/vmlinux");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const u32 = (at: number): number => view.getUint32(at, true);
  const header = u32(4);
  const [typesAt, typesLength, stringsAt] = [header + u32(8), u32(12), header + u32(16)];
  const text = (at: number): string => {
    const start = stringsAt + at;
    return bytes.toString("latin1", start, bytes.indexOf(0, start));
  };
  const found = new Map<string, KernelType>();
  let id = 1;
  for (let at = typesAt; at < typesAt + typesLength; id++) {
    const info = u32(at + 4);
    const [kind, count] = [(info >>> 24) & 0x1f, info & 0xffff];
    if (kind === KIND_FUNC || kind === KIND_STRUCT) {
      const name = text(u32(at));
      if (wanted.get(name) === kind) {
        const members = new Map<string, number>();
        for (let i = 0; kind === KIND_STRUCT && i < count; i++) {
          const member = at + TYPE_SIZE + 12 * i;
          members.set(text(u32(member)), (u32(member + 8) & 0xff_ffff) / 8);
        }
        found.set(name, { id, size: u32(at + 8), members });
      }
    }
    const { all = 0, each = 0 } = TAILS[kind] ?? {};
    at += TYPE_SIZE + all + each * count;
  }
  return found;
}

function bpf(command: number, what: string, fill: (attr: DataView) => void, log?: Block): number {
  const { syscall } = openLibc({
    syscall: { result: "i32", args: ["i32", "i32", "bytes", "u32"] },
  });
  const attr = block(ATTR_SIZE);
  fill(attr.view);
  const result = syscall(SYS_BPF, command, attr.bytes, ATTR_SIZE);
  if (result >= 0) return result;
  const hint = log === undefined ? undefined : new TextDecoder().decode(log.bytes).replace(/\0.*$/s, "");
  throw new UringError(result, `bpf ${what}`, { hint });
}

function pointer(attr: DataView, at: number, { address }: Block): void {
  attr.setBigUint64(at, BigInt(address), true);
}

/** Type information of one integer, which is the least that a map may have. */
function loadTypes(): Fd {
  const HEADER = 24;
  const INT = 16;
  const types = block(HEADER + INT + 8);
  const { view } = types;
  view.setUint16(0, 0xeb9f, true);
  view.setUint8(2, 1);
  [HEADER, 0, INT, INT, 5].forEach((value, i) => view.setUint32(4 + 4 * i, value, true));
  // "int", a signed integer of 4 bytes.
  [1, 1 << 24, 4, 1 << 24 | 32].forEach((value, i) => view.setUint32(HEADER + 4 * i, value, true));
  types.bytes.set(new TextEncoder().encode("\0int\0"), HEADER + INT);
  return new Fd(bpf(BPF_BTF_LOAD, "BTF_LOAD", (attr) => {
    pointer(attr, 0, types);
    attr.setUint32(16, HEADER + INT + 5, true);
  }));
}

/** An instruction. */
export type Instruction = readonly [
  code: number,
  dst: number,
  src: number,
  offset: number,
  immediate: number,
];

/** What a program returns for the loop to end. */
export const LOOP_STOP = 1;

/** `dst = value` */
export function move(dst: number, value: number): Instruction {
  return [0xb7, dst, 0, 0, value];
}

/** `dst = *(u64 *)(src + offset)` */
export function load(dst: number, src: number, offset: number): Instruction {
  return [0x79, dst, src, offset, 0];
}

/** The end. */
export const EXIT: Instruction = [0x95, 0, 0, 0, 0];

/** Calls a function of the kernel's. */
export interface Call {
  readonly call: string;
}

function assemble(program: readonly (Instruction | Call)[], types: ReadonlyMap<string, KernelType>): Block {
  const made = block(program.length * 8);
  program.forEach((step, i) => {
    const instruction: Instruction = "call" in step ? [0x85, 0, 2, 0, types.get(step.call)!.id] : step;
    const [code, dst, src, offset, immediate] = instruction;
    made.bytes[8 * i] = code;
    made.bytes[8 * i + 1] = dst | src << 4;
    made.view.setInt16(8 * i + 2, offset, true);
    made.view.setInt32(8 * i + 4, immediate, true);
  });
  return made;
}

function loadProgram(
  program: readonly (Instruction | Call)[],
  ops: KernelType,
  types: ReadonlyMap<string, KernelType>,
): Fd {
  const instructions = assemble(program, types);
  const license = block(4);
  license.bytes.set(new TextEncoder().encode("GPL\0"));
  const log = block(1 << 16);
  return new Fd(bpf(BPF_PROG_LOAD, "PROG_LOAD", (attr) => {
    attr.setUint32(0, BPF_PROG_TYPE_STRUCT_OPS, true);
    attr.setUint32(4, program.length, true);
    pointer(attr, 8, instructions);
    pointer(attr, 16, license);
    attr.setUint32(24, 1, true);
    attr.setUint32(28, log.bytes.length, true);
    pointer(attr, 32, log);
    attr.setUint32(44, BPF_F_SLEEPABLE, true);
    // The first member of the struct, by the struct's number.
    attr.setUint32(68, 0, true);
    attr.setUint32(108, ops.id, true);
  }, log));
}

/** A program that has a ring: it is run instead of waiting, until it is disposed of. */
export class LoopProgram implements Disposable {
  readonly #descriptors: Fd[] = [];

  /**
   * @param ring The ring's descriptor.
   * @param program What it does; the first register points at the arguments, of which the first is the ring.
   */
  constructor(ring: number, program: readonly (Instruction | Call)[]) {
    const VALUE = "bpf_struct_ops_io_uring_bpf_ops";
    const calls = program.flatMap((step): [string, number][] =>
      "call" in step ? [[step.call, KIND_FUNC]] : []
    );
    const types = findTypes(
      new Map([[VALUE, KIND_STRUCT], ["io_uring_bpf_ops", KIND_STRUCT], ...calls]),
    );
    const [value, ops] = [types.get(VALUE)!, types.get("io_uring_bpf_ops")!];
    try {
      const information = this.#keep(loadTypes());
      const map = this.#keep(
        new Fd(bpf(BPF_MAP_CREATE, "MAP_CREATE", (attr) => {
          [BPF_MAP_TYPE_STRUCT_OPS, 4, value.size, 1, BPF_F_LINK].forEach((n, i) =>
            attr.setUint32(4 * i, n, true)
          );
          attr.setUint32(48, information.fd, true);
          attr.setUint32(60, value.id, true);
        })),
      );
      const loaded = this.#keep(loadProgram(program, ops, types));
      const [key, content] = [block(4), block(value.size)];
      const data = value.members.get("data")!;
      content.view.setUint32(data + ops.members.get("loop_step")!, loaded.fd, true);
      content.view.setUint32(data + ops.members.get("ring_fd")!, ring, true);
      bpf(BPF_MAP_UPDATE_ELEM, "MAP_UPDATE_ELEM", (attr) => {
        attr.setUint32(0, map.fd, true);
        pointer(attr, 8, key);
        pointer(attr, 16, content);
      });
      this.#keep(
        new Fd(bpf(BPF_LINK_CREATE, "LINK_CREATE", (attr) => {
          attr.setUint32(0, map.fd, true);
          attr.setUint32(8, BPF_STRUCT_OPS, true);
        })),
      );
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  #keep(fd: Fd): Fd {
    this.#descriptors.push(fd);
    return fd;
  }

  [Symbol.dispose](): void {
    for (const fd of this.#descriptors.splice(0).reverse()) fd.close();
  }
}
