/**
 * What NVMe devices say about themselves.
 *
 * @module
 */
import {
  NVME_CTRL_VWC_PRESENT,
  nvme_id_ctrl,
  nvme_id_ctrl_zns,
  nvme_id_ns,
  nvme_id_ns_zns,
  nvme_lbaf,
  NVME_NIDT_CSI,
  NVME_NS_DPS_PI_FIRST,
  NVME_NS_DPS_PI_MASK,
  NVME_NS_FLBAS_META_EXT,
  nvme_ns_id_desc,
  nvme_zns_lbafe,
} from "./abi.ts";

/** A controller: `struct nvme_id_ctrl`. */
export interface ControllerInfo {
  /** The PCI vendor. */
  readonly vendorId: number;
  /** The PCI vendor of the subsystem. */
  readonly subsystemVendorId: number;
  /** The serial number. */
  readonly serialNumber: string;
  /** The model. */
  readonly modelNumber: string;
  /** The firmware's revision. */
  readonly firmware: string;
  /** Its number in the subsystem. */
  readonly controllerId: number;
  /** The NVMe version that it follows: `"1.4.0"`. */
  readonly version: string;
  /** The most bytes that one command transfers, for pages of 4 KiB; `Infinity` where there is no limit. */
  readonly maxTransfer: number;
  /** The most namespaces that there can be. */
  readonly maxNamespaces: number;
  /** Whether it has a cache that is lost with the power unless it is flushed. */
  readonly volatileWriteCache: boolean;
  /** The subsystem's qualified name. */
  readonly subsystemName: string;
  /** Optional commands: `ONCS`. */
  readonly optionalCommands: number;
  /** All 4096 bytes, for what is not above. */
  readonly bytes: Uint8Array;
}

/** How a namespace can be formatted. */
export interface BlockFormat {
  /** Bytes of data per block. */
  readonly blockSize: number;
  /** Bytes kept beside each block. */
  readonly metadataSize: number;
  /** 0 is best, 3 worst. */
  readonly performance: number;
}

/** How the zones of a zoned namespace are. */
export interface ZoneInfo {
  /** Blocks from the beginning of one zone to that of the next. */
  readonly blocks: number;
  /** How many zones may be active at once; `Infinity` where there is no limit. */
  readonly maxActive: number;
  /** How many zones may be open at once; `Infinity` where there is no limit. */
  readonly maxOpen: number;
}

/** A namespace: `struct nvme_id_ns`, and what its command set adds. */
export interface NamespaceInfo extends BlockFormat {
  /** Its number. */
  readonly nsid: number;
  /** Its size in blocks. */
  readonly blocks: number;
  /** How many blocks may be in use at once. */
  readonly capacity: number;
  /** How many blocks are in use. */
  readonly used: number;
  /** Whether metadata follows each block in the same memory, instead of lying in memory of its own. */
  readonly extended: boolean;
  /** The type of its protection information, 1 to 3; 0: none. */
  readonly protectionType: number;
  /** Whether protection information is at the beginning of the metadata. */
  readonly protectionFirst: boolean;
  /** The formats that it could have. */
  readonly formats: readonly BlockFormat[];
  /** Which of them it has. */
  readonly format: number;
  /** Its globally unique identifier as 32 hexadecimal digits, or null. */
  readonly nguid: string | null;
  /** Its extended unique identifier as 16 hexadecimal digits, or null. */
  readonly eui64: string | null;
  /** Its command set: 0 plain blocks, 2 zones. */
  readonly commandSet: number;
  /** Its zones, or null. */
  readonly zones: ZoneInfo | null;
  /** All 4096 bytes, for what is not above. */
  readonly bytes: Uint8Array;
}

const PAGE = 4096;
const NO_LIMIT = 0xffff_ffff;

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** 64 bits; rounded beyond 2⁵³. */
export function u64(view: DataView, at: number): number {
  return view.getUint32(at, true) + view.getUint32(at + 4, true) * 0x1_0000_0000;
}

function ascii(bytes: Uint8Array, at: number, size: number): string {
  const text = String.fromCharCode(...bytes.subarray(at, at + size));
  return text.replace(/\0.*$/s, "").trim();
}

function identifier(bytes: Uint8Array, at: number, size: number): string | null {
  const digits = [...bytes.subarray(at, at + size)].map((byte) => byte.toString(16).padStart(2, "0")).join(
    "",
  );
  return /^0*$/.test(digits) ? null : digits;
}

/** How many bytes are 2ⁿ pages; 0 stands for no limit. */
export function transferLimit(power: number): number {
  return power === 0 ? Infinity : PAGE * 2 ** power;
}

/** Reads a `struct nvme_id_ctrl`. */
export function parseController(bytes: Uint8Array): ControllerInfo {
  const view = viewOf(bytes);
  const version = view.getUint32(nvme_id_ctrl.ver, true);
  return {
    vendorId: view.getUint16(nvme_id_ctrl.vid, true),
    subsystemVendorId: view.getUint16(nvme_id_ctrl.ssvid, true),
    serialNumber: ascii(bytes, nvme_id_ctrl.sn, nvme_id_ctrl.sn_size),
    modelNumber: ascii(bytes, nvme_id_ctrl.mn, nvme_id_ctrl.mn_size),
    firmware: ascii(bytes, nvme_id_ctrl.fr, 8),
    controllerId: view.getUint16(nvme_id_ctrl.cntlid, true),
    version: `${version >>> 16}.${(version >>> 8) & 0xff}.${version & 0xff}`,
    maxTransfer: transferLimit(view.getUint8(nvme_id_ctrl.mdts)),
    maxNamespaces: view.getUint32(nvme_id_ctrl.nn, true),
    volatileWriteCache: (view.getUint8(nvme_id_ctrl.vwc) & NVME_CTRL_VWC_PRESENT) !== 0,
    subsystemName: ascii(bytes, nvme_id_ctrl.subnqn, nvme_id_ctrl.subnqn_size),
    optionalCommands: view.getUint16(nvme_id_ctrl.oncs, true),
    bytes,
  };
}

/** The most bytes of one zone append, out of a `struct nvme_id_ctrl_zns`; `otherwise` where it says nothing. */
export function parseAppendLimit(bytes: Uint8Array, otherwise: number): number {
  const power = bytes[nvme_id_ctrl_zns.zasl]!;
  return power === 0 ? otherwise : Math.min(transferLimit(power), otherwise);
}

/** The command set that a list of `struct nvme_ns_id_desc` tells; 0 where it tells none. */
export function parseCommandSet(bytes: Uint8Array): number {
  for (let at = 0; at + nvme_ns_id_desc.nid < bytes.length;) {
    const length = bytes[at + nvme_ns_id_desc.nidl]!;
    if (length === 0) return 0;
    if (bytes[at + nvme_ns_id_desc.nidt] === NVME_NIDT_CSI) return bytes[at + nvme_ns_id_desc.nid]!;
    at += nvme_ns_id_desc.nid + length;
  }
  return 0;
}

function parseFormat(view: DataView, index: number): BlockFormat {
  const at = nvme_id_ns.lbaf + index * nvme_lbaf.size;
  return {
    blockSize: 2 ** view.getUint8(at + nvme_lbaf.ds),
    metadataSize: view.getUint16(at + nvme_lbaf.ms, true),
    performance: view.getUint8(at + nvme_lbaf.rp) & 3,
  };
}

/** Reads a `struct nvme_id_ns`, and a `struct nvme_id_ns_zns` where there is one. */
export function parseNamespace(
  nsid: number,
  bytes: Uint8Array,
  commandSet: number,
  zoned: Uint8Array | null,
): NamespaceInfo {
  const view = viewOf(bytes);
  const flbas = view.getUint8(nvme_id_ns.flbas);
  const dps = view.getUint8(nvme_id_ns.dps);
  // The upper two bits came later, and lie elsewhere.
  const format = (flbas & 0xf) | (((flbas >> 5) & 3) << 4);
  const count = view.getUint8(nvme_id_ns.nlbaf) + 1;
  return {
    nsid,
    blocks: u64(view, nvme_id_ns.nsze),
    capacity: u64(view, nvme_id_ns.ncap),
    used: u64(view, nvme_id_ns.nuse),
    ...parseFormat(view, format),
    extended: (flbas & NVME_NS_FLBAS_META_EXT) !== 0,
    protectionType: dps & NVME_NS_DPS_PI_MASK,
    protectionFirst: (dps & NVME_NS_DPS_PI_FIRST) !== 0,
    formats: Array.from({ length: count }, (_, i) => parseFormat(view, i)),
    format,
    nguid: identifier(bytes, nvme_id_ns.nguid, nvme_id_ns.nguid_size),
    eui64: identifier(bytes, nvme_id_ns.eui64, 8),
    commandSet,
    zones: zoned === null ? null : parseZoned(viewOf(zoned), format),
    bytes,
  };
}

function parseZoned(view: DataView, format: number): ZoneInfo {
  // Both are one less than the number; all ones are no limit.
  const limit = (at: number): number => {
    const value = view.getUint32(at, true);
    return value === NO_LIMIT ? Infinity : value + 1;
  };
  return {
    blocks: u64(view, nvme_id_ns_zns.lbafe + format * nvme_zns_lbafe.size + nvme_zns_lbafe.zsze),
    maxActive: limit(nvme_id_ns_zns.mar),
    maxOpen: limit(nvme_id_ns_zns.mor),
  };
}
