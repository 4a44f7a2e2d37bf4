/**
 * Operations on processes.
 *
 * @module
 */
import {
  CLD_CONTINUED,
  CLD_DUMPED,
  CLD_EXITED,
  CLD_KILLED,
  CLD_STOPPED,
  CLD_TRAPPED,
  P_ALL,
  P_PGID,
  P_PID,
  P_PIDFD,
  WEXITED,
  WNOHANG,
} from "../ffi/abi.ts";
import { pinned } from "../ffi/pin.ts";
import { siginfo_t } from "../ffi/structs.ts";
import { FutexOperations } from "./futex_ops.ts";
import { checkU32, type OperationOptions } from "./options.ts";

/** Which children {@link ProcessOperations.waitid} waits for: exactly one of these. */
export type ChildTarget =
  | { pid: number }
  | { pidfd: number }
  | { pgid: number }
  | { any: true };

/** What has become of a child. */
export type ChildState = "exited" | "killed" | "dumped" | "trapped" | "stopped" | "continued";

/** What {@link ProcessOperations.waitid} has found: the `siginfo_t` of a child. */
export interface ChildStatus {
  /** The child. */
  readonly pid: number;
  /** The user that it ran as. */
  readonly uid: number;
  /** What has become of it; `"dumped"` is `"killed"` with a core dump. */
  readonly state: ChildState;
  /** The exit code of one that has exited, otherwise null. */
  readonly exitCode: number | null;
  /** The number of the signal that killed, stopped or continued it, otherwise null. */
  readonly signal: number | null;
}

/** Options of {@link ProcessOperations.waitid}. */
export interface WaitidOptions extends OperationOptions {
  /**
   * What to wait for: `WEXITED`, `WSTOPPED`, `WCONTINUED`; with `WNOWAIT` the child stays to be waited for again. Default:
   * `WEXITED`.
   */
  flags?: number;
}

const STATES: Readonly<Record<number, ChildState>> = {
  [CLD_EXITED]: "exited",
  [CLD_KILLED]: "killed",
  [CLD_DUMPED]: "dumped",
  [CLD_TRAPPED]: "trapped",
  [CLD_STOPPED]: "stopped",
  [CLD_CONTINUED]: "continued",
};

/** Operations on processes, each one entry of the submission queue. */
export abstract class ProcessOperations extends FutexOperations {
  /** {@link ProcessOperations.waitid} that does not wait: null when no child has anything to tell. */
  waitid(child: ChildTarget, options: WaitidOptions & { noHang: true }): Promise<ChildStatus | null>;
  /**
   * Waits until a child of this process has ended (or stopped, or goes on) and resolves with how:
   * `io_uring_prep_waitid`, Linux 6.7. `ECHILD`: there is no such child, or somebody else has waited for it.
   *
   * A child that was waited for is gone. Those that the runtime has spawned it waits for itself, and is mostly first, even
   * before one who only looks (`WNOWAIT`): of these, see when they stop and go on (`WSTOPPED`, `WCONTINUED`). The end of
   * others is for whoever waits: of what C code has started, or orphans that came to a reaper.
   */
  waitid(child: ChildTarget, options?: WaitidOptions): Promise<ChildStatus>;
  waitid(child: ChildTarget, options?: WaitidOptions & { noHang?: boolean }): Promise<ChildStatus | null> {
    this.check(options);
    const flags = checkU32("flags", options?.flags ?? WEXITED);
    if ((flags & WNOHANG) !== 0) throw new RangeError("WNOHANG is { noHang: true } here");
    const [type, id] = targetOf(child);
    const memory = pinned(siginfo_t.size);
    const address = this.both(memory.bytes);
    const op = this.begin("waitid");
    op.pins = memory;
    op.finish = () => decode(memory.bytes);
    op.sqe!.prepWaitid(type, id, address, options?.noHang === true ? flags | WNOHANG : flags, 0);
    return this.promise(op, options);
  }
}

function targetOf(child: ChildTarget): readonly [type: number, id: number] {
  if ("any" in child) return [P_ALL, 0];
  const found = "pid" in child
    ? [P_PID, child.pid] as const
    : "pidfd" in child
    ? [P_PIDFD, child.pidfd] as const
    : [P_PGID, child.pgid] as const;
  const id = found[1];
  if (typeof id !== "number" || id !== (id | 0)) {
    throw new TypeError(`A child is named by pid, pidfd or pgid, a 32-bit integer, not ${id}`);
  }
  return found;
}

function decode(bytes: Uint8Array): ChildStatus | null {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const pid = view.getInt32(siginfo_t.si_pid, true);
  if (pid === 0) return null;
  const state = STATES[view.getInt32(siginfo_t.si_code, true)] ?? "trapped";
  const status = view.getInt32(siginfo_t.si_status, true);
  return {
    pid,
    uid: view.getUint32(siginfo_t.si_uid, true),
    state,
    exitCode: state === "exited" ? status : null,
    signal: state === "exited" ? null : status,
  };
}
