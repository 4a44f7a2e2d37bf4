/**
 * Writes text to a file and has it on disk: open, write, fdatasync and close as one chain, one system call. The file
 * never becomes a descriptor of the process. `raw-write.ts` does the same with the raw ring.
 *
 *     bun examples/write.ts PATH [TEXT]
 *     deno run --allow-ffi examples/write.ts PATH [TEXT]
 *
 * Linux 5.15. The permissions that Deno asks for are FFI alone: the kernel opens the file, not Deno.
 */
import process from "node:process";
import { Uring, UringError } from "uring";

async function writeToDisk(uring: Uring, path: string, bytes: Uint8Array): Promise<void> {
  await uring.link((l) => {
    const file = l.direct();
    return [
      l.openat(path, { flags: "w", direct: file }),
      // A write of fewer bytes than asked for breaks the chain, so there is nothing to check.
      l.write(file, bytes, { offset: 0 }),
      l.fdatasync(file),
      l.close(file),
    ];
  });
}

async function main(args: readonly string[]): Promise<number> {
  const [path, text = "Written with io_uring.\n"] = args;
  if (path === undefined || args.length > 2) {
    console.error("usage: write.ts PATH [TEXT]");
    return 2;
  }
  const bytes = new TextEncoder().encode(text);
  await using uring = new Uring();
  try {
    await writeToDisk(uring, path, bytes);
  } catch (error) {
    if (!(error instanceof UringError)) throw error;
    console.error(`write: ${error.message}`);
    return 1;
  }
  console.log(`${bytes.length} bytes are on disk in ${path}`);
  return 0;
}

process.exitCode = await main(process.argv.slice(2));
