/**
 * The NVMe disks of the virtual machine as character devices.
 *
 * @module
 */
import { type NamespaceOptions, NvmeNamespace } from "../../src/nvme/mod.ts";
import { type LabDisk, labDisk } from "./devices.ts";

/** The path of a disk's character device. */
export function genericPath(kind: LabDisk): string {
  return `/dev/${labDisk(kind)!.replace("nvme", "ng")}`;
}

/** Opens a disk for commands. */
export function openNamespace(kind: LabDisk, options?: NamespaceOptions): Promise<NvmeNamespace> {
  return NvmeNamespace.open(genericPath(kind), options);
}
