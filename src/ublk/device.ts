/**
 * Making, describing and removing a device, command by command.
 *
 * @module
 */
import { UringError } from "../ffi/errors.ts";
import {
  UBLK_ATTR_FUA,
  UBLK_ATTR_READ_ONLY,
  UBLK_ATTR_ROTATIONAL,
  UBLK_ATTR_VOLATILE_CACHE,
  UBLK_F_AUTO_BUF_REG,
  UBLK_F_CMD_IOCTL_ENCODE,
  UBLK_F_QUIESCE,
  UBLK_F_SUPPORT_ZERO_COPY,
  UBLK_F_USER_COPY,
  UBLK_F_USER_RECOVERY,
  UBLK_F_USER_RECOVERY_FAIL_IO,
  UBLK_F_USER_RECOVERY_REISSUE,
  ublk_param_basic,
  ublk_param_discard,
  ublk_param_dma_align,
  UBLK_PARAM_TYPE_BASIC,
  UBLK_PARAM_TYPE_DISCARD,
  UBLK_PARAM_TYPE_DMA_ALIGN,
  ublk_params,
  UBLK_U_CMD_ADD_DEV,
  UBLK_U_CMD_DEL_DEV,
  UBLK_U_CMD_DEL_DEV_ASYNC,
  UBLK_U_CMD_GET_PARAMS,
  UBLK_U_CMD_SET_PARAMS,
  ublksrv_ctrl_dev_info,
} from "./abi.ts";
import { type Control, type DeviceInfo, readInfo, requireFeatures } from "./control.ts";
import { type Plan, SECTOR } from "./options.ts";
import type { DiskHandlers, Recovery } from "./types.ts";

const ANY = 0xffff_ffff;
/** So many sectors one request discards or fills with zeros at the most: 2 GiB. */
const MOST_SECTORS = 2 ** 31 / SECTOR;
/** Memory of whoever asks begins at a multiple of this when it is handed on to a disk, which can do with it. */
const DMA_MASK = SECTOR - 1;
/** As far as parameters are given here. */
const PARAMS_LENGTH = ublk_params.dma + ublk_param_dma_align.size;

/** How long a device that is removed may take to go, in milliseconds. */
const REMOVE_MS = 300;

const EEXIST = 17;
const ENODEV = 19;
/** What becomes of a removal that waits: `EINTR`, `ETIMEDOUT`, and, without `DEL_DEV_ASYNC`, `EOPNOTSUPP`. */
const STILL_OPEN: readonly number[] = [4, 110, 95];

const RECOVERY_FLAGS: Readonly<Record<Recovery, number>> = {
  reissue: UBLK_F_USER_RECOVERY | UBLK_F_USER_RECOVERY_REISSUE,
  wait: UBLK_F_USER_RECOVERY,
  fail: UBLK_F_USER_RECOVERY | UBLK_F_USER_RECOVERY_FAIL_IO,
};

/** What becomes of a device with these flags when its server dies; null when it goes with it. */
export function recoveryOf(flags: number): Recovery | null {
  if ((flags & UBLK_F_USER_RECOVERY_FAIL_IO) !== 0) return "fail";
  if ((flags & UBLK_F_USER_RECOVERY_REISSUE) !== 0) return "reissue";
  return (flags & UBLK_F_USER_RECOVERY) !== 0 ? "wait" : null;
}

/** The `UBLK_F_*` bits of a disk on a driver that knows these. */
export function diskFlags(plan: Plan, known: number): number {
  let flags = UBLK_F_CMD_IOCTL_ENCODE;
  if (plan.recovery !== null) flags |= RECOVERY_FLAGS[plan.recovery] | (known & UBLK_F_QUIESCE);
  if (plan.zeroCopy !== false) {
    const auto = plan.zeroCopy === true && (known & UBLK_F_AUTO_BUF_REG) !== 0;
    flags |= (auto ? UBLK_F_AUTO_BUF_REG : UBLK_F_SUPPORT_ZERO_COPY) | (known & UBLK_F_USER_COPY);
  }
  requireFeatures("ADD_DEV", known, flags);
  return flags;
}

/** Makes a device, which is not there for clients yet. */
export async function addDevice(control: Control, plan: Plan, flags: number): Promise<DeviceInfo> {
  const memory = new Uint8Array(ublksrv_ctrl_dev_info.size);
  const view = new DataView(memory.buffer);
  const at = ublksrv_ctrl_dev_info;
  const id = plan.id ?? ANY;
  view.setUint16(at.nr_hw_queues, plan.queues, true);
  view.setUint16(at.queue_depth, plan.depth, true);
  view.setUint32(at.max_io_buf_bytes, plan.maxRequest, true);
  view.setUint32(at.dev_id, id, true);
  view.setBigUint64(at.flags, BigInt(flags), true);
  const hints = { [EEXIST]: `there is a ublk device ${id} already: deleteDisk(${id}) removes it` };
  await control.command("ADD_DEV", UBLK_U_CMD_ADD_DEV, { id, memory, hints });
  const device = readInfo(memory);
  try {
    // Older drivers take what they cannot do off the flags.
    requireFeatures("ADD_DEV", device.flags, flags);
  } catch (error) {
    await removeDevice(control, device.id);
    throw error;
  }
  return device;
}

function attributes(plan: Plan, handlers: DiskHandlers): number {
  let bits = 0;
  if (handlers.write === undefined) bits |= UBLK_ATTR_READ_ONLY;
  if (plan.rotational) bits |= UBLK_ATTR_ROTATIONAL;
  if (handlers.flush !== undefined) bits |= UBLK_ATTR_VOLATILE_CACHE | (plan.fua ? UBLK_ATTR_FUA : 0);
  return bits;
}

const log2 = (power: number): number => 31 - Math.clz32(power);

/** Describes a device that was made: its size, blocks and abilities. */
export async function setParameters(
  control: Control,
  device: DeviceInfo,
  plan: Plan,
  handlers: DiskHandlers,
): Promise<void> {
  const memory = new Uint8Array(PARAMS_LENGTH);
  const view = new DataView(memory.buffer);
  const basic = ublk_params.basic;
  let types = UBLK_PARAM_TYPE_BASIC;
  view.setUint32(basic + ublk_param_basic.attrs, attributes(plan, handlers), true);
  view.setUint8(basic + ublk_param_basic.logical_bs_shift, log2(plan.blockSize));
  view.setUint8(basic + ublk_param_basic.physical_bs_shift, log2(plan.physicalBlockSize));
  view.setUint8(basic + ublk_param_basic.io_min_shift, log2(plan.physicalBlockSize));
  view.setUint8(basic + ublk_param_basic.io_opt_shift, log2(plan.physicalBlockSize));
  view.setUint32(basic + ublk_param_basic.max_sectors, device.maxRequest / SECTOR, true);
  view.setBigUint64(basic + ublk_param_basic.dev_sectors, BigInt(plan.size / SECTOR), true);
  if (handlers.discard !== undefined || handlers.writeZeroes !== undefined) {
    const at = ublk_params.discard;
    types |= UBLK_PARAM_TYPE_DISCARD;
    const discarded = handlers.discard === undefined ? 0 : MOST_SECTORS;
    view.setUint32(at + ublk_param_discard.discard_granularity, plan.blockSize, true);
    view.setUint32(at + ublk_param_discard.max_discard_sectors, discarded, true);
    view.setUint32(
      at + ublk_param_discard.max_write_zeroes_sectors,
      handlers.writeZeroes === undefined ? 0 : MOST_SECTORS,
      true,
    );
    view.setUint16(at + ublk_param_discard.max_discard_segments, 1, true);
  }
  if (plan.zeroCopy !== false) {
    types |= UBLK_PARAM_TYPE_DMA_ALIGN;
    view.setUint32(ublk_params.dma + ublk_param_dma_align.alignment, DMA_MASK, true);
  }
  view.setUint32(ublk_params.len, PARAMS_LENGTH, true);
  view.setUint32(ublk_params.types, types, true);
  await control.command("SET_PARAMS", UBLK_U_CMD_SET_PARAMS, { id: device.id, memory });
}

/** The size of a device and of its blocks, in bytes; zeros while it was not described. */
export async function getSizes(control: Control, id: number): Promise<{ size: number; blockSize: number }> {
  const memory = new Uint8Array(PARAMS_LENGTH);
  const view = new DataView(memory.buffer);
  view.setUint32(ublk_params.len, PARAMS_LENGTH, true);
  await control.command("GET_PARAMS", UBLK_U_CMD_GET_PARAMS, { id, memory });
  if ((view.getUint32(ublk_params.types, true) & UBLK_PARAM_TYPE_BASIC) === 0) {
    return { size: 0, blockSize: 0 };
  }
  const basic = ublk_params.basic;
  return {
    size: Number(view.getBigUint64(basic + ublk_param_basic.dev_sectors, true)) * SECTOR,
    blockSize: 2 ** view.getUint8(basic + ublk_param_basic.logical_bs_shift),
  };
}

/**
 * Removes a device, whatever its state; one that is gone already is removed. What clients still have open is given up when
 * they close it, which is not waited for: until then its number is taken.
 */
export async function removeDevice(control: Control, id: number): Promise<void> {
  if (await ended(control.command("DEL_DEV", UBLK_U_CMD_DEL_DEV, { id, timeout: REMOVE_MS }))) return;
  // It may not even have begun.
  await ended(control.command("DEL_DEV_ASYNC", UBLK_U_CMD_DEL_DEV_ASYNC, { id }));
}

/** Whether there is no device any more; false: there is for a while. */
async function ended(removal: Promise<unknown>): Promise<boolean> {
  try {
    await removal;
    return true;
  } catch (error) {
    if (!(error instanceof UringError)) throw error;
    if (error.errno === -ENODEV) return true;
    if (STILL_OPEN.includes(-error.errno)) return false;
    throw error;
  }
}
