/**
 * Mounts a directory a second time: a file system that hands everything through to the files of a directory, holes, hard
 * links, extended attributes, owners and names of any bytes included.
 *
 * ```sh
 * bun examples/passthrough.ts DIRECTORY MOUNTPOINT
 * deno run --allow-ffi examples/passthrough.ts DIRECTORY MOUNTPOINT
 * ```
 *
 * Needs root. Mount points below DIRECTORY would be handed through to themselves, and are refused. Options:
 *
 * - `--cache none|auto|writeback`: who answers reads of what was read before. `none`: this program, always. `auto` (the default):
 *   the kernel, until the file is opened anew. `writeback`: the kernel, which also gathers what is written.
 * - `--transport uring|classic`: how requests come; by default over io_uring, where `fuse.enable_uring` is switched on.
 *
 * @module
 */
import { realpath } from "uring/fs";
import { mount, type Transport } from "uring/fuse";
import { type Arguments, main, type Serving, StartError } from "./common/server.ts";
import { type Caching, passThrough } from "./passthrough/file_system.ts";

const CACHING: readonly Caching[] = ["none", "auto", "writeback"];
const TRANSPORTS: readonly Transport[] = ["uring", "classic"];
const SECOND = 1000;

function oneOf<T extends string>(
  name: string,
  value: string | undefined,
  words: readonly T[],
): T | undefined {
  if (value === undefined) return undefined;
  const found = words.find((word) => word === value);
  if (found === undefined) throw new RangeError(`--${name} is one of ${words.join(", ")}`);
  return found;
}

async function serve({ positionals, options }: Arguments): Promise<Serving> {
  const caching = oneOf("cache", options["cache"], CACHING) ?? "auto";
  const transport = oneOf("transport", options["transport"], TRANSPORTS);
  const [directory, mountpoint] = await Promise.all([realpath(positionals[0]!), realpath(positionals[1]!)]);
  if (`${mountpoint}/`.startsWith(directory === "/" ? "/" : `${directory}/`)) {
    throw new StartError(`${mountpoint} is within ${directory}`);
  }
  const { fileSystem, close } = await passThrough(directory, caching);
  const mounted = await mount(mountpoint, fileSystem, {
    ...(transport === undefined ? {} : { transport }),
    names: "bytes",
    source: directory,
    subtype: "passthrough",
    allowOther: true,
    defaultPermissions: true,
    suid: true,
    dev: true,
    atomicTruncate: true,
    entryTimeout: SECOND,
    attributeTimeout: SECOND,
    writebackCache: caching === "writeback",
  });
  return {
    address: mountpoint,
    ended: mounted.finished,
    stop: async () => {
      await mounted.unmount();
      close();
    },
  };
}

await main({
  name: "passthrough",
  usage: "DIRECTORY MOUNTPOINT [--cache none|auto|writeback] [--transport uring|classic]",
  positionals: 2,
  options: ["cache", "transport"],
  told: "mounted at",
  serve,
});
