/** The file system in memory of the examples, used by other programs over both transports. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { Budget, Content } from "../../examples/memfs/content.ts";
import { MemoryFileSystem } from "../../examples/memfs/file_system.ts";
import { O_CREAT, O_RDWR, RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT } from "../../src/ffi/abi.ts";
import { O_TMPFILE } from "../../src/ffi/arch.ts";
import { missingFuse, mounted, shell, TRANSPORTS, tried } from "../support/fuse.ts";
import { test } from "../support/gate.ts";
import { Client } from "../support/client.ts";
import { until } from "../support/loop.ts";
import { checkLeaks } from "../support/leaks.ts";
import { content } from "../support/content.ts";

checkLeaks();

const skip = missingFuse();
const MEBIBYTE = 2 ** 20;
const OPTIONS = { names: "latin1", allowOther: true, defaultPermissions: true } as const;

for (const transport of TRANSPORTS.length > 0 ? TRANSPORTS : ["classic"] as const) {
  const memory = (
    body: (path: string, fs: MemoryFileSystem, client: Client) => Promise<void>,
    more: { limit?: number; writebackCache?: boolean } = {},
  ) =>
  async (): Promise<void> => {
    const { limit = 64 * MEBIBYTE, ...options } = more;
    const fs = new MemoryFileSystem(limit);
    await using client = await Client.start();
    await mounted(fs, { ...OPTIONS, transport, ...options }, (path) => body(path, fs, client));
  };
  const memoryTest = (name: string, ...args: Parameters<typeof memory>): void =>
    test(`${transport}: ${name}`, { skip }, memory(...args));

  memoryTest("files, directories, links and their attributes", async (path) => {
    const said = await shell(
      `mkdir -m 750 d; echo hi >d/a; ln d/a d/b; ln -s d/a l; cat l; readlink l; stat -c '%h %s %a %F' d/b d l
      chown 3:4 d/a; chmod 4711 d/a; touch -d '1999-01-02 03:04:05.678901234 UTC' d/a
      TZ=UTC stat -c '%a %u %g %y' d/b; mv d/b d/c; ls d; rm d/a; cat d/c; stat -c %h d/c d
      mkdir d/e; stat -c %h d; mv d/e f; stat -c %h d; rmdir f; mkfifo p; test -p p; ls -A`,
      path,
    );
    assert.deepEqual(said.trim().split("\n"), [
      "hi",
      "d/a",
      "2 3 644 regular file",
      "2 0 750 directory",
      "1 3 777 symbolic link",
      "4711 3 4 1999-01-02 03:04:05.678901234 +0000",
      "a",
      "c",
      "hi",
      "1",
      "2",
      "3",
      "2",
      "d",
      "l",
      "p",
    ]);
  });

  memoryTest("what must fail does, as elsewhere", async (path) => {
    await shell("mkdir -p d/e; echo x >f; ln -s loop loop", path);
    const failures: [string, RegExp][] = [
      ["cat nothing", /No such file/],
      ["rmdir d", /not empty/],
      ["mkdir d", /exists/],
      ["rmdir f", /Not a directory/],
      ["cat f/x", /Not a directory/],
      ["cat loop", /Too many levels/],
      ["mv -T f d", /directory/],
      [`touch ${"x".repeat(256)}`, /name too long/],
      ["ln d g", /hard link not allowed/],
    ];
    for (const [line, message] of failures) {
      const { status, err } = await tried(line, path);
      assert.notEqual(status, 0, line);
      assert.match(err, message, line);
    }
    await shell(`touch ${"x".repeat(255)}`, path);
  });

  memoryTest("names of any bytes", async (path, _, client) => {
    const names = [[0xff], [0xfe, 0x80, 0x0a], [0xe2, 0x98, 0x83], [0x20], [0x2d, 0x6c], [0xc3, 0x28, 0x01]];
    await client.run(
      async ({ Buffer, uring }, path, names, flags) => {
        for (const [i, name] of names.entries()) {
          const file = new Uint8Array([...Buffer.from(`${path}/`), ...name]);
          await uring.close(await uring.openat(file, { flags, mode: 0o600 }));
          await uring.symlinkat(file, new Uint8Array([...file, 0xf0, i + 1]));
        }
      },
      path,
      names,
      O_CREAT | O_RDWR,
    );
    const listed = (await shell("find . -mindepth 1 -print0", path)).split("\0").slice(0, -1);
    const wanted = names.flatMap((name, i) => [name, [...name, 0xf0, i + 1]]);
    assert.deepEqual(
      listed.sort(),
      wanted.map((name) => `./${Buffer.from(name).toString("latin1")}`).sort(),
    );
    const targets = await shell("find . -type l -printf '%l\\0'", path);
    assert.deepEqual(
      targets.split("\0").slice(0, -1).sort(),
      names.map((name) => `${path}/${Buffer.from(name).toString("latin1")}`).sort(),
    );
    await shell('find . -mindepth 1 -delete; test -z "$(ls)"', path);
  });

  memoryTest("holes take no space, are found, and can be made", async (path, _, client) => {
    await client.run(
      ({ assert, fs }, path, data, large) => {
        const fd = fs.openSync(`${path}/sparse`, "w+");
        fs.writeSync(fd, data, 0, data.length, 5 * 2 ** 20);
        fs.writeSync(fd, large, 0, large.length, 20 * 2 ** 20);
        fs.ftruncateSync(fd, 30 * 2 ** 20);
        const buffer = new Uint8Array(100);
        assert.equal(fs.readSync(fd, buffer, 0, 100, 5 * 2 ** 20 - 50), 100);
        assert.deepEqual(buffer.subarray(50, 60), data);
        assert.ok(buffer.subarray(0, 50).every((byte) => byte === 0));
        fs.closeSync(fd);
      },
      path,
      content(10),
      content(200_000),
    );
    const [size, blocks] = (await shell("stat -c '%s %b' sparse", path)).split(" ").map(Number);
    assert.equal(size, 30 * MEBIBYTE);
    assert.ok(blocks! > 390 && blocks! < 700, String(blocks));
    // A copy with holes is a sign that cp has found them.
    await shell("cp --sparse=auto sparse copy; cmp sparse copy", path);
    assert.ok(Number(await shell("stat -c %b copy", path)) < 2 * blocks!);
    await shell("fallocate --punch-hole --offset 20MiB --length 1MiB sparse", path);
    assert.ok(Number(await shell("stat -c %b sparse", path)) < 200);
    await shell(
      "test $(tail -c +20971521 sparse | tr -d '\\0' | wc -c) = 0; test $(stat -c %s sparse) = 31457280",
      path,
    );
  });

  memoryTest("a directory of 10,000 entries, also while it changes", async (path, fs) => {
    await shell(
      "mkdir d; cd d; seq -f '%05g' 0 9999 | xargs touch; test $(ls | wc -l) = 10000; test $(ls -lU | wc -l) = 10001",
      path,
    );
    // 10,000 files, their directory and the root.
    assert.equal(fs.size, 10_002);
    assert.equal((await shell("ls d | sort | uniq | wc -l", path)).trim(), "10000");
    await shell('find d -type f -delete; test -z "$(ls -A d)"; rmdir d', path);
  }, {});

  memoryTest("extended attributes", async (path, _, client) => {
    await shell("touch f", path);
    await client.run(
      async ({ assert, uring }, file, value) => {
        const set = (name: string, length: number, flags = 0): Promise<void> =>
          uring.setxattr(file, name, value.subarray(0, length), { flags });
        await set("user.one", 1000);
        await set("user.two", 0);
        await set("user.large", 60_000);
        const buffer = new Uint8Array(65536);
        assert.equal(await uring.getxattr(file, "user.one", { buffer }), 1000);
        assert.deepEqual(buffer.subarray(0, 1000), value.subarray(0, 1000));
        assert.equal(await uring.getxattr(file, "user.large", { buffer }), 60_000);
        assert.equal(await uring.getxattr(file, "user.two", { buffer }), 0);
        await assert.rejects(uring.getxattr(file, "user.one", { buffer: new Uint8Array(10) }), {
          code: "ERANGE",
        });
        await assert.rejects(uring.getxattr(file, "user.three", { buffer }), { code: "ENODATA" });
        await assert.rejects(set("user.one", 1, 1), { code: "EEXIST" });
        await assert.rejects(set("user.new", 1, 2), { code: "ENODATA" });
      },
      `${path}/f`,
      content(60_000),
    );
    await shell("cp --preserve=xattr f g", path);
    const copied = await client.run(({ uring }, file) => uring.getxattr(file, "user.large"), `${path}/g`);
    assert.deepEqual(copied, content(60_000));
  });

  memoryTest("rename with flags", async (path, _, client) => {
    await shell("echo a >a; mkdir b; echo c >b/c", path);
    const rename = (from: string, to: string, flags: number): Promise<void> =>
      client.run(
        ({ uring }, from, to, flags) => uring.renameat(from, to, { flags }),
        `${path}/${from}`,
        `${path}/${to}`,
        flags,
      );
    await assert.rejects(rename("a", "b", RENAME_NOREPLACE), { code: "EEXIST" });
    await assert.rejects(rename("a", "z", RENAME_WHITEOUT), { code: "EINVAL" });
    await rename("a", "b", RENAME_EXCHANGE);
    assert.equal(await shell("cat b a/c; stat -c %h .", path), "a\nc\n3\n");
    await rename("b", "new", RENAME_NOREPLACE);
    assert.equal(await shell("ls", path), "a\nnew\n");
  });

  memoryTest("files without a name live as long as they are open", async (path, fs, client) => {
    const before = fs.size;
    await client.run(
      ({ assert, fs }, path, flags, data) => {
        const temporary = fs.openSync(path, flags, 0o600);
        const removed = fs.openSync(`${path}/f`, "w+");
        fs.unlinkSync(`${path}/f`);
        for (const fd of [temporary, removed]) {
          fs.writeSync(fd, data, 0, data.length, 0);
          const buffer = new Uint8Array(100_000);
          assert.equal(fs.readSync(fd, buffer, 0, 100_000, 0), 100_000);
          assert.deepEqual(buffer, data);
          fs.closeSync(fd);
        }
      },
      path,
      O_TMPFILE | O_RDWR,
      content(100_000),
    );
    assert.equal(await shell("ls", path), "");
    // The kernel forgets them when it gets to it.
    await until(() => fs.size === before, "forgotten");
    assert.equal(fs.statfs().bfree, 64 * 256);
  });

  memoryTest("ENOSPC where there is no memory left, and statfs", async (path) => {
    const { status, err } = await tried("head -c 9000000 /dev/zero >f", path);
    assert.notEqual(status, 0);
    assert.match(err, /No space left/);
    assert.ok(Number(await shell("stat -f -c %a .", path)) < 20);
    await shell("rm f; head -c 1000000 /dev/zero >f", path);
    assert.equal((await shell("stat -f -c '%s %b %l' .", path)).trim(), "4096 2048 255");
  }, { limit: 8 * MEBIBYTE });

  memoryTest("permissions and groups are those of files everywhere", async (path) => {
    await shell(
      "echo x >secret; chmod 600 secret; mkdir -m 2775 shared; chgrp 77 shared; mkdir shared/d",
      path,
    );
    const nobody = `setpriv --reuid=65534 --regid=65534 --clear-groups sh -c`;
    assert.match((await tried(`${nobody} 'cat secret'`, path)).err, /Permission denied/);
    assert.match((await tried(`${nobody} 'echo >new'`, path)).err, /Permission denied/);
    assert.equal(await shell("stat -c '%g %a' shared/d", path), "77 2755\n");
    await shell(`umask 077; mkdir -m 1777 tmp; ${nobody} 'umask 027; touch tmp/f; mkdir tmp/d'`, path);
    assert.equal(await shell("stat -c '%u %a' tmp/f tmp/d", path), "65534 640\n65534 750\n");
  });

  memoryTest("written back later: the same bytes", async (path) => {
    const said = await shell(
      `head -c 5000000 /dev/urandom >f; sum=$(sha256sum <f); dd if=/dev/zero of=f bs=1 count=3 seek=4999998 conv=notrunc \\
        status=none; stat -c %s f; cp f g; sync; cmp f g; truncate -s 4999998 f; test "$(head -c 4999998 g | sha256sum)" = \\
        "$(sha256sum <f)"; test "$sum" != "$(sha256sum <g)"; stat -c %s f`,
      path,
    );
    assert.equal(said, "5000001\n4999998\n");
  }, { writebackCache: true });
}

test("content: reads give what was written, random pieces and holes", () => {
  const budget = new Budget(10 * MEBIBYTE);
  const file = new Content(budget);
  let wanted = new Uint8Array(400_000);
  let size = 0;
  let seed = 1;
  const random = (most: number): number => (seed = (seed * 48271) % 0x7fff_ffff) % most;
  for (let i = 0; i < 2000; i++) {
    const offset = random(300_000);
    const length = 1 + random(i % 10 === 0 ? 100_000 : 500);
    switch (random(5)) {
      case 0: {
        file.truncate(offset);
        if (offset < size) wanted.fill(0, offset);
        size = offset;
        break;
      }
      case 1:
        file.punch(offset, length);
        wanted.fill(0, offset, offset + length);
        break;
      default: {
        const data = content(length, i);
        assert.equal(file.write(data, offset), length);
        wanted.set(data, offset);
        size = Math.max(size, offset + length);
      }
    }
    assert.equal(file.size, size);
    const from = random(300_000);
    const got = new Uint8Array(random(70_000)).fill(7);
    const count = file.read(got, from);
    assert.equal(count, Math.max(0, Math.min(got.length, size - from)));
    assert.deepEqual(got.subarray(0, count), wanted.subarray(from, from + count));
  }
  wanted = new Uint8Array(0);
  file.clear();
  assert.equal(budget.used, 0);
});
