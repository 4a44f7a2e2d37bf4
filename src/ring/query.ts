/**
 * Asking the kernel what it has: `IORING_REGISTER_QUERY`, with a ring and without one.
 *
 * @module
 */
import {
  IO_URING_QUERY_OPCODES,
  IO_URING_QUERY_SCQ,
  IO_URING_QUERY_ZCRX,
  IORING_REGISTER_QUERY,
} from "../ffi/abi.ts";
import { UringError } from "../ffi/errors.ts";
import { addressOf } from "../ffi/pin.ts";
import {
  io_uring_query_hdr,
  io_uring_query_opcode,
  io_uring_query_scq,
  io_uring_query_zcrx,
} from "../ffi/structs.ts";
import { Argument, ioUringRegister } from "./register_base.ts";

/** A question: `struct io_uring_query_hdr`. */
export interface Query {
  /** `IO_URING_QUERY_*`. */
  readonly op: number;
  /**
   * Where the answer goes, at least one byte. It may be longer or shorter than what the kernel knows: the rest is zeroed,
   * or left out.
   */
  readonly data: Uint8Array;
}

/** What became of a {@link Query}. */
export interface QueryResult {
  /** 0, or `-errno`: `-EOPNOTSUPP` for a question that the kernel does not know. */
  readonly result: number;
  /** How many bytes of the data the kernel has filled in. */
  readonly size: number;
}

/** How the kernel is asked: through a ring, or by itself. */
type Register = (opcode: number, arg: Uint8Array, count: number) => number;

function withoutRing(opcode: number, arg: Uint8Array, count: number): number {
  return ioUringRegister(-1, opcode, arg, count);
}

/**
 * Asks several questions at once, and needs no ring: `io_uring_register_query`, Linux 6.18.
 *
 * @throws UringError `EINVAL` on older kernels.
 */
export function registerQuery(queries: readonly Query[], register: Register = withoutRing): QueryResult[] {
  if (queries.length === 0) return [];
  const { size } = io_uring_query_hdr;
  const arg = new Argument(size * queries.length);
  queries.forEach(({ op, data }, i) => {
    const at = i * size;
    if (i + 1 < queries.length) arg.setPointer(at + io_uring_query_hdr.next_entry, at + size);
    arg.set64(at + io_uring_query_hdr.query_data, addressOf(data));
    arg.set32(at + io_uring_query_hdr.query_op, op);
    arg.set32(at + io_uring_query_hdr.size_, data.length);
  });
  register(IORING_REGISTER_QUERY, arg.bytes, 0);
  // Reading them here keeps the data alive through the call, for which only addresses were passed.
  return queries.map(({ data }, i) => ({
    result: arg.view.getInt32(i * size + io_uring_query_hdr.result, true),
    size: Math.min(data.length, arg.get32(i * size + io_uring_query_hdr.size_)),
  }));
}

function ask(op: number, size: number, lacking: string): Argument {
  const answer = new Argument(size);
  const [{ result } = { result: 0 }] = registerQuery([{ op, data: answer.bytes }]);
  if (result < 0) throw new UringError(result, "io_uring_register", { hint: lacking });
  return answer;
}

/** What io_uring has in this kernel: `struct io_uring_query_opcode`. */
export interface QueryOpcodes {
  /** How many `IORING_OP_*` there are. */
  readonly requestOpcodes: number;
  /** How many `IORING_REGISTER_*` there are. */
  readonly registerOpcodes: number;
  /** All `IORING_FEAT_*`. */
  readonly featureFlags: number;
  /** All `IORING_SETUP_*`. */
  readonly ringSetupFlags: number;
  /** All `IORING_ENTER_*`. */
  readonly enterFlags: number;
  /** All `IOSQE_*`. */
  readonly sqeFlags: number;
  /** How many `IO_URING_QUERY_*` there are; 0 when the kernel does not tell. */
  readonly queryOpcodes: number;
}

/** Asks for operations and flags: `IO_URING_QUERY_OPCODES`, Linux 6.18. It needs no ring. */
export function queryOpcodes(): QueryOpcodes {
  const answer = ask(IO_URING_QUERY_OPCODES, io_uring_query_opcode.size, "IO_URING_QUERY_OPCODES");
  return {
    requestOpcodes: answer.get32(io_uring_query_opcode.nr_request_opcodes),
    registerOpcodes: answer.get32(io_uring_query_opcode.nr_register_opcodes),
    featureFlags: answer.get64(io_uring_query_opcode.feature_flags),
    ringSetupFlags: answer.get64(io_uring_query_opcode.ring_setup_flags),
    enterFlags: answer.get64(io_uring_query_opcode.enter_flags),
    sqeFlags: answer.get64(io_uring_query_opcode.sqe_flags),
    queryOpcodes: answer.get32(io_uring_query_opcode.nr_query_opcodes),
  };
}

/** What zero-copy receive has in this kernel: `struct io_uring_query_zcrx`. */
export interface QueryZcrx {
  /** All `ZCRX_REG_*`. */
  readonly registerFlags: number;
  /** All `IORING_ZCRX_AREA_*`. */
  readonly areaFlags: number;
  /** How many `ZCRX_CTRL_*` there are. */
  readonly ctrlOpcodes: number;
  /** All `ZCRX_FEATURE_*`. */
  readonly features: number;
  /** Bytes of the refill ring's header. */
  readonly rqHdrSize: number;
  /** How the header is aligned. */
  readonly rqHdrAlignment: number;
}

/** Asks for zero-copy receive: `IO_URING_QUERY_ZCRX`, Linux 6.19. It needs no ring, and no network device. */
export function queryZcrx(): QueryZcrx {
  const answer = ask(IO_URING_QUERY_ZCRX, io_uring_query_zcrx.size, "IO_URING_QUERY_ZCRX needs Linux 6.19");
  return {
    registerFlags: answer.get64(io_uring_query_zcrx.register_flags),
    areaFlags: answer.get64(io_uring_query_zcrx.area_flags),
    ctrlOpcodes: answer.get32(io_uring_query_zcrx.nr_ctrl_opcodes),
    features: answer.get32(io_uring_query_zcrx.features),
    rqHdrSize: answer.get32(io_uring_query_zcrx.rq_hdr_size),
    rqHdrAlignment: answer.get32(io_uring_query_zcrx.rq_hdr_alignment),
  };
}

/** The header of a ring's memory: `struct io_uring_query_scq`. */
export interface QueryScq {
  /** Its size in bytes. */
  readonly hdrSize: number;
  /** How it is aligned. */
  readonly hdrAlignment: number;
}

/** Asks how large the header of a ring's memory is: `IO_URING_QUERY_SCQ`, Linux 6.19. It needs no ring. */
export function queryScq(): QueryScq {
  const answer = ask(IO_URING_QUERY_SCQ, io_uring_query_scq.size, "IO_URING_QUERY_SCQ needs Linux 6.19");
  return {
    hdrSize: answer.get64(io_uring_query_scq.hdr_size),
    hdrAlignment: answer.get64(io_uring_query_scq.hdr_alignment),
  };
}
