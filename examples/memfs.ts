/**
 * A file system in memory, mounted on a directory until SIGINT or SIGTERM:
 *
 * ```sh
 * bun examples/memfs.ts /mnt/memory
 * deno run --allow-ffi examples/memfs.ts /mnt/memory --size 4096
 * ```
 *
 * Files with holes, hard and symbolic links, extended attributes, names of any bytes. What is in it is gone when it is
 * unmounted. `--size` is in MiB (1024 unless told otherwise). Requests come over io_uring where `fuse.enable_uring` is
 * on, otherwise by `/dev/fuse`; `--transport uring` or `classic` insists. `--cache writeback` has the kernel keep what is
 * written for a while. It needs root.
 */
import { mount, type MountOptions } from "uring/fuse";
import { main, type Serving } from "./common/server.ts";
import { MemoryFileSystem } from "./memfs/file_system.ts";

const MEBIBYTE = 2 ** 20;
const DEFAULT_SIZE = "1024";
/** Nothing changes behind the kernel's back. */
const FOR_EVER = 86_400_000;

function optionsOf(given: Readonly<Record<string, string | undefined>>): MountOptions {
  const { transport, cache = "auto" } = given;
  if (transport !== undefined && transport !== "uring" && transport !== "classic") {
    throw new RangeError(`--transport is "uring" or "classic", not "${transport}"`);
  }
  if (cache !== "auto" && cache !== "writeback") {
    throw new RangeError(`--cache is "auto" or "writeback", not "${cache}"`);
  }
  return {
    ...transport === undefined ? {} : { transport },
    names: "latin1",
    subtype: "memfs",
    source: "memory",
    allowOther: true,
    defaultPermissions: true,
    writebackCache: cache === "writeback",
    cacheSymlinks: true,
    entryTimeout: FOR_EVER,
    attributeTimeout: FOR_EVER,
    negativeTimeout: FOR_EVER,
  };
}

await main({
  name: "memfs",
  usage: "MOUNTPOINT [--size MIB] [--transport uring|classic] [--cache auto|writeback]",
  positionals: 1,
  options: ["size", "transport", "cache"],
  told: "mounted at",
  async serve({ positionals, options }): Promise<Serving> {
    const size = Number(options["size"] ?? DEFAULT_SIZE);
    if (!Number.isSafeInteger(size) || size < 1) {
      throw new RangeError(`--size is MiB, not "${options["size"]}"`);
    }
    const mounted = await mount(positionals[0]!, new MemoryFileSystem(size * MEBIBYTE), optionsOf(options));
    return { address: mounted.mountpoint, ended: mounted.finished, stop: () => mounted.unmount() };
  },
});
