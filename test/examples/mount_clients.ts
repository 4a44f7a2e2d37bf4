/**
 * What people do with a file system, with the programs that they do it with. Each function takes a directory of it.
 *
 * @module
 */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import {
  chmodSync,
  closeSync,
  ftruncateSync,
  linkSync,
  lutimesSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { lstat, readdir, readFile, readlink, writeFile } from "uring/fs";
import { content } from "../support/content.ts";
import { said } from "./servers.ts";

const HOLE = 1024 * 1024;

/** Names that programs trip over. */
const NAMES: readonly Buffer[] = [
  Buffer.from("with space"),
  Buffer.from("line\nbreak"),
  Buffer.from("-dash"),
  Buffer.from("ünïcode ☃"),
  Buffer.from("x".repeat(255)),
  Buffer.from([0x66, 0xff, 0xfe, 0x80, 0x67]),
];

const below = (directory: Uint8Array, name: Uint8Array): Buffer =>
  Buffer.concat([directory, Buffer.from("/"), name]);

/** A tree with one of everything. */
export async function makeTree(path: string): Promise<void> {
  mkdirSync(`${path}/many`, { recursive: true });
  mkdirSync(`${path}/deep/a/b/c/d`, { recursive: true });
  mkdirSync(`${path}/empty`, { mode: 0o700 });
  for (let i = 0; i < 100; i++) writeFileSync(`${path}/many/file ${i}`, content(i * 37 % 9000, i));
  // Deno's own functions take bytes for text.
  for (const name of NAMES) await writeFile(below(Buffer.from(path), name), content(100));
  writeFileSync(`${path}/deep/a/b/c/d/large`, content(700_000, 1));
  writeFileSync(`${path}/nothing`, "");
  const sparse = openSync(`${path}/sparse`, "w");
  writeSync(sparse, "begin", 0);
  writeSync(sparse, "end", 2 * HOLE);
  ftruncateSync(sparse, 3 * HOLE);
  closeSync(sparse);
  chmodSync(`${path}/many/file 1`, 0o4755);
  chmodSync(`${path}/many/file 2`, 0o400);
  linkSync(`${path}/many/file 3`, `${path}/deep/another name`);
  symlinkSync("many/file 4", `${path}/link`);
  symlinkSync("/nowhere/at all", `${path}/broken`);
  lutimesSync(`${path}/link`, 1_000_000_000.25, 1_100_000_000.5);
  utimesSync(`${path}/many/file 5`, 1_200_000_000, 1_300_000_000.123456);
}

/** What `cp -a` has to keep of everything below a directory, by name. */
async function describe(path: string): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  const walk = async (directory: Buffer, prefix: string): Promise<void> => {
    for (const name of await readdir(directory, { encoding: "buffer" })) {
      const full = below(directory, name);
      const about = await lstat(full, { bigint: true });
      const key = prefix + Buffer.from(name).toString("latin1");
      const content = about.isFile()
        ? await readFile(full, "latin1")
        : about.isSymbolicLink()
        ? Buffer.from(await readlink(full, { encoding: "buffer" })).toString("latin1")
        : "";
      const { mode, uid, gid, nlink, mtimeNs } = about;
      // How many links a directory has is each file system's own affair.
      const links = about.isDirectory() ? 0n : nlink;
      found.set(key, [mode.toString(8), uid, gid, links, mtimeNs, content.length, content].join(" "));
      if (about.isDirectory()) await walk(full, `${key}/`);
    }
  };
  await walk(Buffer.from(path), "");
  return found;
}

/** Fails unless two trees are the same. */
export async function assertSameTree(actual: string, expected: string): Promise<void> {
  const [mine, theirs] = [await describe(actual), await describe(expected)];
  assert.deepEqual([...mine.keys()].sort(), [...theirs.keys()].sort());
  for (const [name, what] of theirs) {
    if (mine.get(name) === what) continue;
    // Contents would be a long message.
    const short = (text: string): string => text.slice(0, 100);
    assert.fail(`${JSON.stringify(name)} is ${short(mine.get(name)!)}, not ${short(what)}`);
  }
}

/** `cp -a` there and back, `ls -lR`, `find`, `diff -r`, `rm -r`. `source` has a {@link makeTree}. */
export async function copyListRemove(directory: string, source: string, scratch: string): Promise<void> {
  await said("cp", ["-a", source, `${directory}/copy`]);
  await assertSameTree(`${directory}/copy`, source);
  await said("cp", ["-a", `${directory}/copy`, `${scratch}/back`]);
  await assertSameTree(`${scratch}/back`, source);
  const lines = (text: string): string[] => text.split("\n").filter((line) => !line.startsWith("total"));
  const [mine, theirs] = [
    await said("sh", ["-c", `cd '${directory}/copy' && ls -lR`]),
    await said("sh", ["-c", `cd '${source}' && ls -lR`]),
  ];
  // The size of a directory is each file system's own affair, and sets the width of the columns.
  const listed = (text: string): string[] =>
    lines(text).filter((line) => !line.startsWith("d")).map((line) => line.replaceAll(/ +/g, " "));
  assert.deepEqual(listed(mine), listed(theirs));
  const names = async (path: string): Promise<string[]> =>
    (await said("sh", ["-c", `cd '${path}' && find . -print0 | tr '\\0' '\\1'`])).split("\x01").sort();
  assert.deepEqual(await names(`${directory}/copy`), await names(source));
  await said("diff", ["-r", "--no-dereference", source, `${directory}/copy`]);
  await said("rm", ["-r", `${directory}/copy`]);
  assert.deepEqual(readdirSync(directory), []);
}

/** A repository: made, filled, checked, packed, cloned. */
export async function useGit(directory: string): Promise<void> {
  const git = (...args: string[]): Promise<string> =>
    said("git", [
      "-C",
      directory,
      "-c",
      "user.name=test",
      "-c",
      "user.email=test@localhost",
      "-c",
      "safe.directory=*",
      ...args,
    ]);
  await git("init", "-q", "repository");
  mkdirSync(`${directory}/repository/some/where`, { recursive: true });
  for (let i = 0; i < 50; i++) {
    writeFileSync(`${directory}/repository/some/where/${i}.txt`, content(i * 50, i));
  }
  const inWork = (...args: string[]): Promise<string> => git("-C", "repository", ...args);
  await inWork("add", ".");
  await inWork("commit", "-q", "-m", "first");
  await inWork("mv", "some/where/1.txt", "moved.txt");
  writeFileSync(`${directory}/repository/some/where/2.txt`, "changed");
  await inWork("commit", "-q", "-a", "-m", "second");
  await inWork("gc", "-q");
  await inWork("fsck", "--full", "--strict");
  assert.equal(await inWork("status", "--porcelain"), "");
  await git("clone", "-q", "repository", "clone");
  assert.deepEqual(readFileSync(`${directory}/clone/moved.txt`), Buffer.from(content(50, 1)));
  await inWork("checkout", "-q", "HEAD~1");
  assert.deepEqual(readFileSync(`${directory}/repository/some/where/2.txt`), Buffer.from(content(100, 2)));
}

/** A database with a journal, and one with a log and shared memory; both sound after two writers at a time. */
export async function useSqlite(directory: string): Promise<void> {
  for (const journal of ["DELETE", "WAL"]) {
    const file = `${directory}/${journal}.db`;
    const rows = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)";
    const insert = `${rows} INSERT INTO t(x) SELECT hex(randomblob(50)) FROM n;`;
    await said("sqlite3", [
      file,
      `PRAGMA journal_mode=${journal}; CREATE TABLE t(x); CREATE INDEX i ON t(x); ${insert}`,
    ]);
    const writer = `.timeout 20000\n${insert.repeat(3)} DELETE FROM t WHERE rowid % 7 = 0;\n`;
    await Promise.all([said("sqlite3", [file], writer), said("sqlite3", [file], writer)]);
    const checked = await said("sqlite3", [
      file,
      "VACUUM; PRAGMA integrity_check; SELECT count(*) > 4500 FROM t;",
    ]);
    assert.equal(checked, "ok\n1\n");
  }
}

/** Random writes whose every block is read back and compared; `engine` is how it reads and writes. */
export async function useFio(directory: string, ...engines: readonly string[]): Promise<void> {
  for (const engine of engines) {
    await said("fio", [
      "--name=verify",
      `--directory=${directory}`,
      `--ioengine=${engine}`,
      "--rw=randrw",
      "--rwmixread=30",
      // What is mapped is written by pages.
      `--bsrange=${engine === "mmap" ? 4 : 1}k-64k`,
      "--size=2m",
      "--numjobs=3",
      "--fsync=64",
      "--verify=crc32c",
      "--do_verify=1",
      "--verify_fatal=1",
      "--group_reporting",
      "--output-format=terse",
      "--unlink=1",
      "--verify_state_save=0",
    ]);
  }
}

/** A hundred shells side by side, each with files of its own and one that all append to. */
export async function useByMany(directory: string): Promise<void> {
  const one = `set -e
    me=$1
    mkdir "d$me"
    cd "d$me"
    i=0
    while [ $i -lt 10 ]; do
      echo "$me $i" > f$i
      echo "$me" >> ../all
      i=$((i + 1))
    done
    mv f1 g1
    ln g1 h1
    rm f2
    : > f3
    read -r line < h1
    [ "$line" = "$me 1" ]
    [ ! -e f1 ]
    [ ! -e f2 ]
    [ ! -s f3 ]
    set -- *
    [ $# -eq 10 ]`;
  const clients = Array.from(
    { length: 100 },
    (_, i) => said("sh", ["-c", `cd '${directory}' && { ${one}\n}`, "sh", String(i)]),
  );
  await Promise.all(clients);
  const lines = readFileSync(`${directory}/all`, "utf8").trim().split("\n");
  assert.equal(lines.length, 1000);
  for (let i = 0; i < 100; i++) assert.equal(lines.filter((line) => line === String(i)).length, 10);
  assert.equal(readdirSync(directory).length, 101);
}
