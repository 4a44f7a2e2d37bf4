/**
 * The zones of a namespace.
 *
 * @module
 */
import { nvme_zone_descriptor, nvme_zone_report, NVME_ZONE_TYPE_SEQWRITE_REQ } from "./abi.ts";
import { u64 } from "./identify.ts";

/** What a zone may be in the middle of. */
export type ZoneState =
  | "empty"
  | "implicitly open"
  | "explicitly open"
  | "closed"
  | "read-only"
  | "full"
  | "offline";

/** A zone: written from its beginning on, and emptied as a whole. */
export interface Zone {
  /** Its first block. */
  readonly start: number;
  /** How many of its blocks can be written. */
  readonly capacity: number;
  /** The block that is written next; of no meaning in a zone that is full, read-only or offline. */
  readonly writePointer: number;
  /** Its state. */
  readonly state: ZoneState;
  /** Whether it has to be written in order. */
  readonly sequential: boolean;
  /** The attributes: `ZA`. */
  readonly attributes: number;
}

const STATES: Readonly<Record<number, ZoneState>> = {
  1: "empty",
  2: "implicitly open",
  3: "explicitly open",
  4: "closed",
  13: "read-only",
  14: "full",
  15: "offline",
};

/** How many bytes a report of so many zones has. */
export function reportSize(zones: number): number {
  return nvme_zone_report.size + zones * nvme_zone_descriptor.size;
}

/** Reads a report. */
export function parseReport(bytes: Uint8Array): Zone[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const room = (bytes.length - nvme_zone_report.size) / nvme_zone_descriptor.size;
  const count = Math.min(u64(view, nvme_zone_report.nr_zones), room);
  return Array.from({ length: count }, (_, i) => {
    const at = nvme_zone_report.size + i * nvme_zone_descriptor.size;
    return {
      start: u64(view, at + nvme_zone_descriptor.zslba),
      capacity: u64(view, at + nvme_zone_descriptor.zcap),
      writePointer: u64(view, at + nvme_zone_descriptor.wp),
      state: STATES[view.getUint8(at + nvme_zone_descriptor.zs) >> 4] ?? "offline",
      sequential: (view.getUint8(at + nvme_zone_descriptor.zt) & 0xf) === NVME_ZONE_TYPE_SEQWRITE_REQ,
      attributes: view.getUint8(at + nvme_zone_descriptor.za),
    };
  });
}
