/**
 * A file whose reads and writes can be polled for.
 *
 * @module
 */
import { writeFileSync } from "node:fs";
import { IORING_SETUP_IOPOLL, Mapping, O_DIRECT, O_RDWR } from "../../src/ring/mod.ts";
import { Fd, TempDir } from "./descriptors.ts";
import { labDisk } from "./devices.ts";
import { makeRing } from "./rings.ts";

const EOPNOTSUPP = -95;

/** What reading a file through a polled ring gives: how much, or `-errno`. */
function polledRead(fd: number): number {
  using memory = Mapping.anonymous(4096);
  using ring = makeRing(1, { flags: IORING_SETUP_IOPOLL });
  ring.getSqe()!.prepRead(fd, memory.address, 4096, 0);
  ring.submit();
  return ring.waitCqe().res;
}

/** Why there is nothing here that can be polled for, or `false`. */
export function missingPolling(): string | false {
  const disk = labDisk("plain");
  if (disk === null) return `there is no disk that can be polled for: on ${inFiles()}`;
  using fd = Fd.open(`/dev/${disk}`, O_RDWR | O_DIRECT);
  const res = polledRead(fd.fd);
  return res === 4096 ? false : `reading /dev/${disk} gives ${res}`;
}

/** What the file system of temporary files says. */
function inFiles(): string {
  using dir = new TempDir();
  writeFileSync(dir.of("file"), new Uint8Array(4096));
  try {
    using fd = Fd.open(dir.of("file"), O_RDWR | O_DIRECT);
    const res = polledRead(fd.fd);
    return `the file system of temporary files a read gives ${res === EOPNOTSUPP ? "EOPNOTSUPP" : res}`;
  } catch (error) {
    return `the file system of temporary files: ${(error as Error).message}`;
  }
}

/** Opens the disk that can be polled for; everything on it is the tests'. */
export function openPollable(): Fd {
  return Fd.open(`/dev/${labDisk("plain")!}`, O_RDWR | O_DIRECT);
}
