/** The example that hands a directory through, with the clients that people use. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { spawnSync } from "node:child_process";
import {
  closeSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  statfsSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import process from "node:process";
import { Uring } from "uring";
import { backing } from "uring/fuse";
import { O_PATH, O_RDONLY, O_RDWR } from "uring/ring";
import { content } from "../support/content.ts";
import { TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { firstReason } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { missingXattrs } from "../support/xattrs.ts";
import {
  assertSameTree,
  copyListRemove,
  makeTree,
  useByMany,
  useFio,
  useGit,
  useSqlite,
} from "./mount_clients.ts";
import { cannotMount, lacksGnu, mounted, MountPoint, noFuseUring } from "./mounts.ts";
import { client, ended, lacks, said, type Serving, serving } from "./servers.ts";

checkLeaks({ sharedRings: 1 });

const NOBODY = 65534;
const SEEK_DATA = 3;
const SEEK_HOLE = 4;
const RENAME_NOREPLACE = 1;
const RENAME_EXCHANGE = 2;
const KEEP_SIZE_PUNCH_HOLE = 3;
const MIB = 1024 * 1024;

const skip = cannotMount();
const overUring = firstReason(skip, noFuseUring());
const gnu = lacksGnu();

/** Runs `body` with a directory and where it is mounted. */
async function through(
  body: (directory: TempDir, point: MountPoint, server: Serving) => void | Promise<void>,
  ...options: readonly string[]
): Promise<void> {
  using directory = new TempDir();
  using point = new MountPoint();
  mkdirSync(directory.of("files"));
  const args = [directory.of("files"), point.path, ...options];
  await mounted("passthrough.ts", args, point, async (server) => await body(directory, point, server));
}

const URING = ["--transport", "uring"];

for (
  const [name, reason, options] of [
    ["over io_uring", overUring, URING],
    ["over /dev/fuse", skip, ["--transport", "classic"]],
    ["over io_uring, with the kernel's cache for writes", overUring, [...URING, "--cache", "writeback"]],
  ] as const
) {
  test(
    `passthrough.ts ${name}: cp -a, ls -lR, find, diff -r, rm -r`,
    { skip: reason },
    () =>
      through(async (directory, point) => {
        await makeTree(directory.of("tree"));
        await copyListRemove(point.path, directory.of("tree"), directory.path);
        // What is put into the directory shows, and the other way round.
        await said("cp", ["-a", directory.of("tree"), directory.of("files/tree")]);
        await assertSameTree(point.of("tree"), directory.of("tree"));
      }, ...options),
  );
}

test(
  "passthrough.ts: git init, add, commit, gc, fsck, clone",
  { skip: firstReason(overUring, lacks("git")) },
  () => through((_, point) => useGit(point.path), ...URING),
);

for (const cache of ["auto", "writeback"]) {
  test(
    `passthrough.ts, cache ${cache}: databases of sqlite3 stay sound`,
    { skip: firstReason(overUring, lacks("sqlite3")) },
    () => through((_, point) => useSqlite(point.path), ...URING, "--cache", cache),
  );
}

for (
  const [cache, engines] of [["none", ["psync"]], ["auto", ["psync", "mmap"]], ["writeback", [
    "psync",
    "mmap",
  ]]] as const
) {
  test(
    `passthrough.ts, cache ${cache}: fio finds what it wrote`,
    { skip: firstReason(overUring, lacks("fio")) },
    () => through((_, point) => useFio(point.path, ...engines), ...URING, "--cache", cache),
  );
}

test(
  "passthrough.ts: a hundred clients at once",
  { skip: overUring },
  () => through((_, point) => useByMany(point.path), ...URING),
);

test("passthrough.ts: what is made belongs to whom it was made for", {
  skip: firstReason(skip, lacks("setpriv")),
}, () =>
  through(async (directory, point) => {
    const owner = (name: string): number[] => {
      const { uid, gid, mode } = lstatSync(directory.of(`files/${name}`));
      return [uid, gid, mode & 0o7777];
    };
    mkdirSync(point.of("open"), { mode: 0o777 });
    mkdirSync(point.of("group"));
    await said("sh", ["-c", `chgrp 4711 '${point.of("group")}' && chmod 2777 '${point.of("group")}'`]);
    assert.deepEqual(owner("open"), [0, 0, 0o777 & ~process.umask()]);
    await said("chmod", ["777", point.of("open")]);
    const user = ["--reuid", String(NOBODY), "--regid", String(NOBODY), "--clear-groups", "sh", "-c"];
    const script =
      `umask 027 && cd '${point.path}' && echo x > open/file && mkdir open/dir && ln -s x open/link &&
      mkfifo open/fifo && echo x > group/file && mkdir group/dir`;
    await said("setpriv", [...user, script]);
    assert.deepEqual(owner("open/file"), [NOBODY, NOBODY, 0o640]);
    assert.deepEqual(owner("open/dir"), [NOBODY, NOBODY, 0o750]);
    assert.deepEqual(owner("open/link").slice(0, 2), [NOBODY, NOBODY]);
    assert.deepEqual(owner("open/fifo"), [NOBODY, NOBODY, 0o640]);
    assert.deepEqual(owner("group/file"), [NOBODY, 4711, 0o640]);
    assert.deepEqual(owner("group/dir"), [NOBODY, 4711, 0o2750]);
    // And may do no more than that.
    writeFileSync(point.of("secret"), "x", { mode: 0o600 });
    mkdirSync(point.of("closed"), { mode: 0o755 });
    for (
      const attempt of [
        "cat secret",
        "echo > closed/file",
        "rm -f secret",
        "chown 0 open/file",
        "chmod 777 secret",
      ]
    ) {
      const { status } = await client("setpriv", [...user, `cd '${point.path}' && ${attempt}`]);
      assert.notEqual(status, 0, attempt);
    }
    assert.equal(readFileSync(directory.of("files/secret"), "utf8"), "x");
  }));

test(
  "passthrough.ts: extended attributes",
  { skip: firstReason(skip, missingXattrs()) },
  () =>
    through(async (directory, point) => {
      const uring = Uring.shared;
      writeFileSync(point.of("file"), "");
      const file = point.of("file");
      await uring.setxattr(file, "user.one", "1");
      await uring.setxattr(file, "user.large", new Uint8Array(3000).fill(7));
      const below = directory.of("files/file");
      assert.deepEqual(await uring.getxattr(below, "user.one"), new TextEncoder().encode("1"));
      assert.deepEqual(await uring.getxattr(file, "user.large"), new Uint8Array(3000).fill(7));
      await assert.rejects(uring.setxattr(file, "user.one", "2", { flags: 1 }), { code: "EEXIST" });
      await assert.rejects(uring.setxattr(file, "user.none", "2", { flags: 2 }), { code: "ENODATA" });
      await assert.rejects(uring.getxattr(file, "user.none"), { code: "ENODATA" });
      const fd = await uring.openat(file, { flags: O_PATH });
      const names = (): string[] =>
        backing.listxattr(fd).map((name) => new TextDecoder().decode(name)).sort();
      assert.deepEqual(names(), ["user.large", "user.one"]);
      backing.removexattr(fd, "user.one");
      assert.throws(() => backing.removexattr(fd, "user.one"), { code: "ENODATA" });
      assert.deepEqual(names(), ["user.large"]);
      await uring.close(fd);
    }),
);

test("passthrough.ts: renames with flags", { skip }, () =>
  through(async (_, point) => {
    const uring = Uring.shared;
    const read = (name: string): string => readFileSync(point.of(name), "utf8");
    writeFileSync(point.of("a"), "first");
    writeFileSync(point.of("b"), "second");
    mkdirSync(point.of("dir"));
    const rename = (from: string, to: string, flags: number): Promise<void> =>
      uring.renameat(point.of(from), point.of(to), { flags });
    await assert.rejects(rename("a", "b", RENAME_NOREPLACE), { code: "EEXIST" });
    await rename("a", "b", RENAME_EXCHANGE);
    assert.deepEqual([read("a"), read("b")], ["second", "first"]);
    await rename("a", "dir/c", RENAME_NOREPLACE);
    await rename("b", "dir/c", 0);
    assert.equal(read("dir/c"), "first");
    await assert.rejects(rename("dir", "dir/c/d", 0), { code: "ENOTDIR" });
    assert.deepEqual(readdirSync(point.path), ["dir"]);
  }));

test(
  "passthrough.ts: links, and files without a name",
  { skip: firstReason(skip, gnu) },
  () =>
    through(async (directory, point) => {
      writeFileSync(point.of("a"), "content");
      linkSync(point.of("a"), point.of("b"));
      assert.equal(statSync(point.of("a")).ino, statSync(point.of("b")).ino);
      assert.equal(statSync(point.of("b")).nlink, 2);
      assert.equal(statSync(point.of("a")).ino, statSync(directory.of("files/a")).ino);
      symlinkSync("a", point.of("symbolic"));
      await said("ln", ["-P", point.of("symbolic"), point.of("symbolic too")]);
      assert.ok(lstatSync(directory.of("files/symbolic too")).isSymbolicLink());
      const script = `cd '${point.path}' && exec 3<>gone && echo one >&3 && rm gone && echo two >&3 &&
      cat /proc/self/fd/3 && stat -L -c %h /proc/self/fd/3`;
      assert.equal(await said("sh", ["-c", script]), "one\ntwo\n0\n");
      assert.deepEqual(readdirSync(point.path).sort(), ["a", "b", "symbolic", "symbolic too"]);
    }),
);

test(
  "passthrough.ts: holes, ranges, lengths",
  { skip: firstReason(skip, gnu) },
  () =>
    through(async (directory, point) => {
      const uring = Uring.shared;
      writeFileSync(point.of("file"), content(3 * MIB));
      const fd = await uring.openat(point.of("file"), { flags: O_RDWR });
      await uring.fallocate(fd, KEEP_SIZE_PUNCH_HOLE, MIB, MIB);
      const below = await uring.openat(directory.of("files/file"), { flags: O_RDONLY });
      const places = (file: number): number[] => [
        backing.seek(file, 0, SEEK_HOLE),
        backing.seek(file, MIB, SEEK_DATA),
        backing.seek(file, 2 * MIB, SEEK_HOLE),
      ];
      assert.deepEqual(places(fd), places(below));
      assert.throws(() => backing.seek(fd, 3 * MIB, SEEK_DATA), { code: "ENXIO" });
      assert.equal(statSync(point.of("file")).blocks, statSync(directory.of("files/file")).blocks);
      const copy = await uring.openat(point.of("copy"), { flags: "w+" });
      assert.ok(backing.copyFileRange(fd, MIB + 5, copy, 7, MIB) > 0);
      await uring.fsync(copy);
      await uring.fdatasync(fd);
      for (const one of [fd, below, copy]) await uring.close(one);
      truncateSync(point.of("file"), 10);
      assert.deepEqual(readFileSync(directory.of("files/file")), Buffer.from(content(10)));
      truncateSync(point.of("file"), 5000);
      assert.equal(readFileSync(point.of("file")).length, 5000);
      await said("cp", ["--sparse=always", point.of("file"), point.of("sparse")]);
      assert.deepEqual(readFileSync(directory.of("files/sparse")), readFileSync(directory.of("files/file")));
      const [mine, theirs] = [statfsSync(point.path), statfsSync(directory.path)];
      assert.deepEqual([mine.bsize, mine.blocks, mine.files], [theirs.bsize, theirs.blocks, theirs.files]);
    }),
);

test("passthrough.ts: appending, replacing, emptying", { skip }, () =>
  through(async (directory, point) => {
    const script =
      `cd '${point.path}' && echo a > file && echo b >> file && cat file && echo c > file && cat file &&
      dd if=/dev/zero of=file bs=1000 count=3 conv=notrunc,fsync 2>/dev/null && wc -c < file && set -C &&
      ! echo x > file && ( : > other ) && ls`;
    assert.equal((await client("sh", ["-c", script])).out.toString(), "a\nb\nc\n3000\nfile\nother\n");
    // What others do below is seen, too, once what is known of a file is no longer believed.
    writeFileSync(directory.of("files/below"), "x");
    assert.equal(readFileSync(point.of("below"), "utf8"), "x");
    assert.throws(() => writeFileSync(point.of("y".repeat(256)), ""), { code: "ENAMETOOLONG" });
    assert.throws(() => readFileSync(point.of("none")), { code: "ENOENT" });
    const fd = openSync(point.of("below"), "r");
    assert.equal(readSync(fd, new Uint8Array(10), 0, 10, 5), 0);
    closeSync(fd);
  }));

test(
  "passthrough.ts: a directory of 10,000 files",
  { skip: overUring },
  () =>
    through(async (directory, point) => {
      mkdirSync(directory.of("files/many"));
      await said("sh", ["-c", `cd '${directory.of("files/many")}' && seq 10000 | xargs touch`]);
      assert.equal((await said("sh", ["-c", `find '${point.of("many")}' -type f | wc -l`])).trim(), "10000");
      assert.equal(new Set(readdirSync(point.of("many"))).size, 10_000);
    }, ...URING),
);

test("passthrough.ts ends when it is unmounted by others, and when it is interrupted", { skip }, async () => {
  using directory = new TempDir();
  using point = new MountPoint();
  await mounted("passthrough.ts", [directory.path, point.path], point, () => Promise.resolve(), "SIGINT");
  const server = await serving("passthrough.ts", [directory.path, point.path]);
  await said("umount", [point.path]);
  const { status, out, err } = await server.ended;
  assert.deepEqual([status, err], [0, ""]);
  assert.match(out.toString(), /\nstopped\n$/);
});

test("passthrough.ts that is killed leaves no client waiting, and the next one takes its place", {
  skip: overUring,
}, async () => {
  using directory = new TempDir();
  using point = new MountPoint();
  writeFileSync(directory.of("file"), "content");
  const args = [directory.path, point.path];
  const server = await serving("passthrough.ts", args);
  const script = `while cat '${point.of("file")}' > /dev/null 2>&1; do :; done`;
  const clients = Array.from({ length: 4 }, () => client("sh", ["-c", script]));
  assert.equal(await said("cat", [point.of("file")]), "content");
  process.kill(server.pid, "SIGKILL");
  await server.ended;
  for (const { status } of await Promise.all(clients)) assert.equal(status, 0);
  assert.equal(point.mounts, 1);
  await mounted("passthrough.ts", args, point, async () => {
    assert.equal(await said("cat", [point.of("file")]), "content");
  });
});

test("passthrough.ts says what it cannot do", { skip }, async () => {
  using directory = new TempDir();
  using point = new MountPoint();
  const failing = async (...args: string[]): Promise<[number | string, string]> => {
    const { status, err } = await ended("passthrough.ts", args);
    return [status, err];
  };
  mkdirSync(directory.of("inside"));
  assert.deepEqual(await failing(directory.path, directory.of("inside")), [
    1,
    `passthrough: ${directory.of("inside")} is within ${directory.path}\n`,
  ]);
  assert.match((await failing(directory.of("none"), point.path))[1], /^passthrough: ENOENT: /);
  const [status, err] = await failing(directory.path, point.path, "--cache", "much");
  assert.equal(status, 2);
  assert.match(err, /--cache is one of none, auto, writeback/);
  assert.equal(spawnSync("mountpoint", ["-q", point.path]).status === 0, false);
});
