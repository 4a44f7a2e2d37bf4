/** The example that keeps files in memory, with the clients that people use. */
import { TempDir } from "../support/descriptors.ts";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { copyListRemove, makeTree, useByMany, useFio, useGit, useSqlite } from "./mount_clients.ts";
import { cannotMount, lacksGnu, mounted, MountPoint, noFuseUring } from "./mounts.ts";
import { lacks } from "./servers.ts";

checkLeaks({ sharedRings: 1 });

const skip = cannotMount();
const overUring = firstReason(skip, noFuseUring());

/** Runs `body` with a directory of the file system in memory. */
async function inMemory(body: (path: string) => Promise<void>, ...options: readonly string[]): Promise<void> {
  using point = new MountPoint();
  await mounted("memfs.ts", [point.path, ...options], point, () => body(point.path));
}

const URING = ["--transport", "uring"];

for (
  const [name, reason, options] of [
    ["over io_uring", overUring, [...URING, "--cache", "writeback"]],
    ["over /dev/fuse", skip, ["--transport", "classic"]],
  ] as const
) {
  test(
    `memfs.ts ${name}: cp -a, ls -lR, find, diff -r, rm -r`,
    { skip: firstReason(reason, lacksGnu()) },
    async () => {
      using scratch = new TempDir();
      await makeTree(scratch.of("tree"));
      await inMemory((path) => copyListRemove(path, scratch.of("tree"), scratch.path), ...options);
    },
  );
}

test(
  "memfs.ts: git init, add, commit, gc, fsck, clone",
  { skip: firstReason(overUring, lacks("git")) },
  () => inMemory(useGit, ...URING),
);

test(
  "memfs.ts: databases of sqlite3 stay sound",
  { skip: firstReason(overUring, lacks("sqlite3")) },
  () => inMemory(useSqlite, ...URING),
);

test(
  "memfs.ts: fio finds what it wrote",
  { skip: firstReason(overUring, lacks("fio")) },
  () => inMemory((path) => useFio(path, "psync", "mmap"), ...URING, "--cache", "writeback"),
);

test("memfs.ts: a hundred clients at once", { skip: overUring }, () => inMemory(useByMany, ...URING));
