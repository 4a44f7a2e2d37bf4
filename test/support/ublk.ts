/**
 * What `linux/ublk_cmd.h` says: block devices that a program serves through a ring.
 *
 * @module
 */

/** Commands for `/dev/ublk-control`. */
export const UBLK_U_CMD_GET_DEV_INFO = 0x8020_7502;
export const UBLK_U_CMD_ADD_DEV = 0xc020_7504;
export const UBLK_U_CMD_DEL_DEV = 0xc020_7505;
export const UBLK_U_CMD_START_DEV = 0xc020_7506;
export const UBLK_U_CMD_SET_PARAMS = 0xc020_7508;
export const UBLK_U_CMD_GET_FEATURES = 0x8020_7513;
/** Commands for a device's `/dev/ublkc0`. */
export const UBLK_U_IO_FETCH_REQ = 0xc010_7520;
export const UBLK_U_IO_COMMIT_AND_FETCH_REQ = 0xc010_7521;

/** The device's driver knows commands by these numbers. */
export const UBLK_F_CMD_IOCTL_ENCODE: bigint = 1n << 6n;

export const UBLK_IO_OP_READ = 0;
export const UBLK_IO_OP_WRITE = 1;

/** The size of `struct ublksrv_ctrl_dev_info`. */
export const DEV_INFO_SIZE = 64;
/** The size of `struct ublksrv_io_desc`. */
export const IO_DESC_SIZE = 24;
const CTRL_CMD_SIZE = 32;
const IO_CMD_SIZE = 16;
/** Where in `struct ublksrv_ctrl_cmd` the address is. */
export const CTRL_ADDRESS = 8;

/** A `struct ublksrv_ctrl_cmd`; the address is put in by whoever knows it. */
export function controlCommand(devId: number, length: number, data = 0): Uint8Array {
  const bytes = new Uint8Array(new ArrayBuffer(CTRL_CMD_SIZE));
  const view = new DataView(bytes.buffer);
  view.setUint32(0, devId, true);
  view.setUint16(4, 0xffff, true);
  view.setUint16(6, length, true);
  view.setBigUint64(16, BigInt(data), true);
  return bytes;
}

/** A `struct ublksrv_io_cmd`. */
export function ioCommand(tag: number, result: number, address: number): Uint8Array {
  const bytes = new Uint8Array(new ArrayBuffer(IO_CMD_SIZE));
  const view = new DataView(bytes.buffer);
  view.setUint16(2, tag, true);
  view.setInt32(4, result, true);
  view.setBigUint64(8, BigInt(address), true);
  return bytes;
}

/** A `struct ublksrv_ctrl_dev_info` for a device with one queue. */
export function devInfo(bytes: Uint8Array, depth: number, mostBytes: number): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  view.setUint16(0, 1, true);
  view.setUint16(2, depth, true);
  view.setUint32(8, mostBytes, true);
  // Any number that is free.
  view.setUint32(12, 0xffff_ffff, true);
}

/** The device's number out of its {@link devInfo}. */
export function devIdOf(bytes: Uint8Array): number {
  return new DataView(bytes.buffer, bytes.byteOffset).getUint32(12, true);
}

/** The length of {@link params}. */
export const PARAMS_SIZE = 40;

/** The basic part of a `struct ublk_params`. */
export function params(bytes: Uint8Array, size: number, mostBytes: number): void {
  const UBLK_PARAM_TYPE_BASIC = 1;
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  view.setUint32(0, PARAMS_SIZE, true);
  view.setUint32(4, UBLK_PARAM_TYPE_BASIC, true);
  // Blocks of 512 bytes, best in pages.
  bytes.set([9, 12, 12, 9], 12);
  view.setUint32(16, mostBytes >> 9, true);
  view.setBigUint64(24, BigInt(size >> 9), true);
}
