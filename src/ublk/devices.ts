/**
 * Devices of any server: what there is, and removing one.
 *
 * @module
 */
import { UringError } from "../ffi/errors.ts";
import { kernelHas } from "../ffi/kernel.ts";
import {
  UBLK_F_AUTO_BUF_REG,
  UBLK_F_QUIESCE,
  UBLK_F_SAFE_STOP_DEV,
  UBLK_F_SUPPORT_ZERO_COPY,
  UBLK_F_UPDATE_SIZE,
  UBLK_F_USER_COPY,
  UBLK_F_USER_RECOVERY,
  UBLK_F_USER_RECOVERY_FAIL_IO,
  UBLK_F_USER_RECOVERY_REISSUE,
} from "./abi.ts";
import { Control } from "./control.ts";
import { getSizes, recoveryOf, removeDevice } from "./device.ts";
import { checkId } from "./options.ts";
import type { DiskInfo, DiskState, Recovery, UblkFeatures } from "./types.ts";

const ENODEV = -19;
/** By `UBLK_S_DEV_*`. */
const STATES: readonly DiskState[] = ["dead", "live", "quiesced", "failing"];

/**
 * What the kernel's ublk driver can do: `UBLK_U_CMD_GET_FEATURES`, Linux 6.5.
 *
 * @throws `UringError` (rejects): `ENOENT` where there is no driver, `EACCES` or `EPERM` for others than root.
 */
export async function ublkFeatures(): Promise<UblkFeatures> {
  await using control = Control.open();
  const bits = await control.features();
  const has = (flag: number): boolean => (bits & flag) !== 0;
  const recovery: Recovery[] = [];
  if (has(UBLK_F_USER_RECOVERY_REISSUE)) recovery.push("reissue");
  if (has(UBLK_F_USER_RECOVERY)) recovery.push("wait");
  if (has(UBLK_F_USER_RECOVERY_FAIL_IO)) recovery.push("fail");
  return {
    bits,
    // The bit is as old as the driver; what it stands for is not.
    zeroCopy: has(UBLK_F_SUPPORT_ZERO_COPY) && kernelHas("6.15"),
    autoBuffers: has(UBLK_F_AUTO_BUF_REG),
    userCopy: has(UBLK_F_USER_COPY),
    recovery,
    resize: has(UBLK_F_UPDATE_SIZE),
    quiesce: has(UBLK_F_QUIESCE),
    stopUnused: has(UBLK_F_SAFE_STOP_DEV),
  };
}

/**
 * What the kernel knows of the device `/dev/ublkb<id>`, or null when there is none: `UBLK_U_CMD_GET_DEV_INFO` and
 * `UBLK_U_CMD_GET_PARAMS`.
 *
 * @throws RangeError for a number that cannot be; rejects as {@link ublkFeatures} does.
 */
export async function diskInfo(id: number): Promise<DiskInfo | null> {
  checkId(id);
  await using control = Control.open();
  try {
    const { queues, depth, maxRequest, state, flags, pid } = await control.info(id);
    const sizes = await getSizes(control, id);
    return {
      id,
      path: `/dev/ublkb${id}`,
      state: STATES[state] ?? "dead",
      ...sizes,
      queues,
      depth,
      maxRequest,
      recovery: recoveryOf(flags),
      zeroCopy: (flags & (UBLK_F_AUTO_BUF_REG | UBLK_F_SUPPORT_ZERO_COPY)) !== 0,
      pid: pid > 0 ? pid : null,
    };
  } catch (error) {
    if (error instanceof UringError && error.errno === ENODEV) return null;
    throw error;
  }
}

/**
 * Removes a device that its server has left behind, or takes it from its server: `UBLK_U_CMD_DEL_DEV`. What its clients have
 * under way fails, unless there is a server that does it. Resolves when it is gone, also when there was no such device;
 * what clients still have open keeps its number until they close it.
 *
 * @throws RangeError for a number that cannot be; rejects as {@link ublkFeatures} does.
 */
export async function deleteDisk(id: number): Promise<void> {
  checkId(id);
  await using control = Control.open();
  await removeDevice(control, id);
}
