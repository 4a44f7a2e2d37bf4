/**
 * Clearing up what servers that were killed have left behind.
 *
 * @module
 */
import { AT_FDCWD, AT_STATX_FORCE_SYNC, STATX_TYPE } from "../ffi/abi.ts";
import { cString } from "../ffi/cstring.ts";
import { Mapping } from "../ffi/memory.ts";
import { statx } from "../ffi/structs.ts";
import type { Engine } from "./engine.ts";
import { detachStale } from "./mounting.ts";

const ENOTCONN = -107;
const ECANCELED = -125;
const PAGE = 4096;
/** How long somebody else's server may take to answer, in milliseconds. */
const PATIENCE = 1000;
/** How many may lie on top of each other. */
const MOST = 16;

/** What asking for a mount point's attributes gives: 0 or `-errno`. */
async function askFor(engine: Engine, mountpoint: string): Promise<number> {
  const path = cString(mountpoint);
  // Whoever has mounted there may never answer: then the kernel keeps the memory.
  const memory = Mapping.anonymous(PAGE);
  const pathAt = Math.ceil(statx.size / 8) * 8;
  if (pathAt + path.length > PAGE) return 0;
  new Uint8Array(memory.buffer).set(path, pathAt);
  const { promise: tired, resolve } = Promise.withResolvers<number>();
  const timer = setTimeout(() => resolve(0), PATIENCE);
  const asked = engine.operation((sqe) =>
    // Otherwise what the kernel has cached would be the answer, for as long as the server has allowed.
    sqe.prepStatx(AT_FDCWD, memory.address + pathAt, AT_STATX_FORCE_SYNC, STATX_TYPE, memory.address)
  ).then((res) => {
    // The kernel may still write to it where nothing has come of it.
    if (res !== ECANCELED) memory.unmap();
    return res;
  });
  const result = await Promise.race([asked, tired]);
  clearTimeout(timer);
  return result;
}

/** Takes away what is mounted at a path and has no server any more ("transport endpoint is not connected"). */
export async function clearStale(engine: Engine, mountpoint: string): Promise<void> {
  for (let i = 0; i < MOST && await askFor(engine, mountpoint) === ENOTCONN; i++) detachStale(mountpoint);
}
