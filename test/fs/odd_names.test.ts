/** Names with newlines, names that are no UTF-8, the longest ones: every function takes them and gives them back. */
import assert from "node:assert/strict";
import * as fs from "../../src/fs/mod.ts";
import { TempDir } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { within } from "../support/loop.ts";
import { failure } from "../support/operations.ts";

checkLeaks({ sharedRings: 1 });

const NAMES: Readonly<Record<string, Buffer>> = {
  "a newline": Buffer.from("new\nline"),
  "no UTF-8": Buffer.from([0x62, 0xff, 0xfe, 0xc3]),
  "a surrogate's bytes": Buffer.from([0xed, 0xa0, 0x80]),
  "the longest": Buffer.alloc(255, "x"),
  "spaces and dashes": Buffer.from(" -rf *"),
};

/** A path below the directory, in bytes. */
const paths = (dir: TempDir) => (...names: (string | Uint8Array)[]): Buffer =>
  Buffer.concat(
    [dir.path, ...names].flatMap((name, i) =>
      i === 0 ? [Buffer.from(name)] : [Buffer.from("/"), Buffer.from(name)]
    ),
  );

for (const [what, name] of Object.entries(NAMES)) {
  test(`names: ${what}: files and links`, async () => {
    using dir = new TempDir();
    const at = paths(dir);
    const [file, other] = [at(name), at("other")];
    await fs.writeFile(file, "one");
    await fs.appendFile(file, " two");
    assert.equal(await fs.readFile(file, "utf8"), "one two");
    for await (const { path, data } of fs.readFiles([file])) {
      assert.deepEqual([path, data?.toString()], [file, "one two"]);
    }
    {
      await using handle = await fs.open(file, "r+");
      assert.equal((await handle.stat()).size, 7);
    }
    assert.deepEqual(await fs.readdir(dir.path, "buffer"), [name]);
    assert.equal((await fs.stat(file)).size, 7);
    await fs.access(file, fs.constants.R_OK);
    await fs.chmod(file, 0o640);
    await fs.utimes(file, 5, 6);
    await fs.lutimes(file, 5, 7);
    const { mode, mtimeMs } = await fs.lstat(file);
    assert.deepEqual([mode & 0o777, mtimeMs], [0o640, 7000]);
    assert.ok((await fs.statfs(file)).bsize > 0);
    await fs.truncate(file, 3);
    assert.deepEqual(
      await fs.realpath(file, "buffer"),
      Buffer.concat([await fs.realpath(dir.path, "buffer"), Buffer.from("/"), name]),
    );
    await fs.symlink(name, other);
    assert.deepEqual(await fs.readlink(other, "buffer"), name);
    assert.equal(await fs.readFile(other, "utf8"), "one");
    await fs.unlink(other);
    await fs.link(file, other);
    await fs.rm(file);
    await fs.copyFile(other, file);
    await fs.cp(file, at("copy"));
    await fs.rename(file, other);
    assert.equal(await fs.readFile(at("copy"), "utf8"), "one");
    const missing = await failure(fs.readFile(file));
    const path = new TextDecoder().decode(file);
    assert.deepEqual([missing.code, missing.path], ["ENOENT", path]);
    assert.equal(missing.message, `ENOENT: no such file or directory, open '${path}'`);
  });

  test(`names: ${what}: directories, and what is below them`, async () => {
    using dir = new TempDir();
    const at = paths(dir);
    await fs.mkdir(at("from", name, name), { recursive: true });
    await fs.writeFile(at("from", name, "file"), "content");
    await fs.symlink(name, at("from", "link"));
    await fs.cp(at("from"), at(name), { recursive: true, verbatimSymlinks: true });
    assert.equal(await fs.readFile(at(name, name, "file"), "utf8"), "content");
    assert.deepEqual(await fs.readlink(at(name, "link"), "buffer"), name);
    const below = await fs.readdir(at(name), { recursive: true, encoding: "buffer" });
    const slash = Buffer.from("/");
    const all = [
      name,
      Buffer.from("link"),
      Buffer.concat([name, slash, name]),
      Buffer.concat([name, slash, Buffer.from("file")]),
    ];
    const sorted = (names: Buffer[]): string[] => names.map((one) => one.toString("hex")).sort();
    assert.deepEqual(sorted(below), sorted(all));
    const dirents = await fs.readdir(at(name), { recursive: true, withFileTypes: true, encoding: "buffer" });
    const nested = dirents.find((entry) => entry.name.equals(Buffer.from("file")));
    assert.equal(nested?.parentPath, new TextDecoder().decode(at(name, name)));
    const entries: string[] = [];
    for await (const entry of await fs.opendir(at(name), { encoding: "buffer" } as never)) {
      entries.push(Buffer.from(entry.name).toString("hex"));
    }
    assert.deepEqual(entries.sort(), [name.toString("hex"), Buffer.from("link").toString("hex")].sort());
    const made = Buffer.from(await fs.mkdtemp(at(name, "t-"), "buffer") as unknown as Uint8Array);
    assert.ok((await fs.stat(made)).isDirectory());
    await fs.rmdir(made);
    for (
      const [path, changed, told] of [
        [at(name), at(name, name), name],
        [at(name), at(name, name, "file"), Buffer.concat([name, slash, Buffer.from("file")])],
        [at(name, name), at(name, name), name],
      ] as const
    ) {
      const watching = fs.watch(path, { recursive: true, encoding: "buffer" });
      const first = watching.next();
      const change = setInterval(() => void fs.utimes(changed, 1, 1).catch(() => {}), 5);
      const { value } = await within(first, "a change");
      clearInterval(change);
      assert.equal(value?.filename?.toString("hex"), told.toString("hex"));
      await watching.return(undefined);
    }
    await fs.rm(at(name), { recursive: true });
    await fs.rm(at("from"), { recursive: true });
    assert.deepEqual(await fs.readdir(dir.path), []);
  });
}
