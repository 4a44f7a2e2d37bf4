/** What handlers are asked, and what clients make of their answers. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { type AttributeChanges, type FileSystem, type Name, ROOT_NODE } from "../../src/fuse/mod.ts";
import { Client } from "../support/client.ts";
import { content } from "../support/content.ts";
import { FILE, missingFuse, mounted, oneFile, shell, start, TRANSPORTS, tried } from "../support/fuse.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { until } from "../support/loop.ts";

checkLeaks();

const skip = missingFuse();
const DIRECTORY = 0o040755;
const MEBIBYTE = 2 ** 20;

/** A file system that writes down what it is asked, and refuses. */
function recording(): { asked: unknown[][]; fs: FileSystem } {
  const asked: unknown[][] = [];
  const fs: Record<string, unknown> = {
    getattr: (node: number) => ({ mode: node === ROOT_NODE ? DIRECTORY : 0o100644, size: 100 }),
    lookup: (_: number, name: string) =>
      name === "f" ? { node: FILE, attributes: { mode: 0o100644, size: 100 } } : null,
    open: () => ({ handle: 5 }),
    opendir: () => 6,
  };
  const names = [
    ..."setattr symlink mknod mkdir unlink rmdir rename link create flush fsync fsyncdir release releasedir"
      .split(" "),
    ..."setxattr getxattr removexattr listxattr fallocate lseek copyFileRange tmpfile".split(" "),
  ];
  for (const name of names) {
    fs[name] = (...args: unknown[]) => {
      const { umask } = args.pop() as { umask: number };
      asked.push([
        name,
        ...args.map((arg) => arg instanceof Uint8Array ? [...arg] : arg),
        ...umask === 0 ? [] : [`umask ${umask}`],
      ]);
      throw Object.assign(new Error(), { code: "EDOM" });
    };
  }
  return { asked, fs: fs as unknown as FileSystem };
}

for (const transport of TRANSPORTS.length > 0 ? TRANSPORTS : ["classic"] as const) {
  const each = (name: string, body: () => Promise<void>): void =>
    test(`${transport}: ${name}`, { skip }, body);

  each("handlers are asked what the client wants", async () => {
    const { asked, fs } = recording();
    await mounted(fs, { transport }, async (path) => {
      const lines: [string, unknown[]][] = [
        ["chmod 4711 f", ["setattr", FILE, "mode"]],
        ["ln -s target new", ["symlink", 1, "new", "target"]],
        ["umask 027; mkdir new", ["mkdir", 1, "new", 0o750, "umask 23"]],
        ["umask 077; mknod new c 3 4", ["mknod", 1, "new", 0o020600, 0x304, "umask 63"]],
        ["rm -f f", ["unlink", 1, "f"]],
        ["mv f new", ["rename", 1, "f", 1, "new", 1]],
        ["ln f new", ["link", FILE, 1, "new"]],
        ["umask 0; echo >new", ["create", 1, "new", 0o100666, 0o101101]],
        ["sync f", ["fsync", FILE, 5, false]],
        ["sync -d f", ["fsync", FILE, 5, true]],
        ["sync .", ["fsyncdir", 1, 6, false]],
        ["fallocate -o 3 -l 4 f", ["fallocate", FILE, 5, 3, 4, 0]],
      ];
      for (const [line, wanted] of lines) {
        asked.length = 0;
        await tried(line, path);
        const found = asked.filter(([name]) => name === wanted[0]).map((call) =>
          call.map((arg) => typeof arg === "object" && arg !== null && "mode" in arg ? "mode" : arg)
        );
        assert.ok(
          found.some((call) => wanted.every((arg, i) => Object.is(arg, call[i]))),
          `${line}: ${JSON.stringify(asked)}`,
        );
      }
      asked.length = 0;
      const client = await Client.start();
      await client.run(
        async ({ assert, uring }, file) => {
          const refused = { code: "EDOM" };
          await assert.rejects(uring.setxattr(file, "user.a", new Uint8Array([1, 2]), { flags: 2 }), refused);
          await assert.rejects(uring.getxattr(file, "user.b", { buffer: new Uint8Array(9) }), refused);
        },
        `${path}/f`,
      );
      await client[Symbol.asyncDispose]();
      assert.deepEqual(asked.filter(([name]) => /xattr/.test(String(name))), [
        ["setxattr", FILE, "user.a", [1, 2], 2],
        ["getxattr", FILE, "user.b"],
      ]);
    });
  });

  each("attributes to be changed", async () => {
    const changes: Partial<AttributeChanges>[] = [];
    const fs = oneFile(100, {
      setattr: (_, change) => {
        changes.push(Object.fromEntries(Object.entries(change).filter(([, value]) => value !== undefined)));
        return { mode: 0o100644, size: change.size ?? 100 };
      },
    });
    await mounted(fs, { transport }, async (path) => {
      await shell(
        `chmod 600 f; chown 7:8 f; truncate -s 5000000000 f; touch -d '2001-02-03 04:05:06.000000007 UTC' f; touch f
        touch -m -d '1960-01-01 00:00:00.5 UTC' f`,
        path,
      );
    });
    const [mode, owner, size, times, now, past] = changes;
    assert.equal(mode!.mode! & 0o7777, 0o600);
    assert.deepEqual([owner!.uid, owner!.gid], [7, 8]);
    assert.equal(size!.size, 5_000_000_000);
    assert.deepEqual([times!.atimeNs, times!.mtimeNs], [981173106000000007n, 981173106000000007n]);
    assert.deepEqual([times!.atimeNow, now!.atimeNow, now!.mtimeNow], [false, true, true]);
    assert.ok(Math.abs(Number(now!.mtimeNs! / 1_000_000n) - Date.now()) < 60_000);
    assert.deepEqual([past!.mtimeNs, past!.atimeNs], [-315619199500000000n, undefined]);
  });

  each("attributes are shown as they are", async () => {
    const all = {
      mode: 0o104751,
      ino: 2n ** 63n + 5n,
      size: 2 ** 40 + 1,
      blocks: 77,
      nlink: 9,
      uid: 4_000_000_000,
      gid: 3,
      blksize: 65536,
      atimeNs: 1_234_567_890_123_456_789n,
      mtimeMs: 981173106000.25,
      ctimeNs: -1n,
    };
    const device = { mode: 0o020600n, rdev: 0x304n, mtimeMs: 5n };
    const fs = oneFile(0, {
      getattr: (node) => node === ROOT_NODE ? { mode: DIRECTORY } : node === FILE ? all : device,
      lookup: (_, name) =>
        name === "f" ? { node: FILE, attributes: all } : { node: 3, attributes: device, generation: 4 },
    });
    await mounted(fs, { transport }, async (path) => {
      const said = await shell(
        "TZ=UTC stat -c '%a %i %s %b %h %u %g %o|%x|%y|%z' f; stat -c '%F %t:%T %h %s %b' d; stat -c %i d",
        path,
      );
      assert.deepEqual(said.trim().split("\n"), [
        "4751 9223372036854775813 1099511627777 77 9 4000000000 3 65536|2009-02-13 23:31:30.123456789 +0000|" +
        "2001-02-03 04:05:06.000250000 +0000|1969-12-31 23:59:59.999999999 +0000",
        "character special file 3:4 1 0 0",
        "3",
      ]);
    });
  });

  each("who asks", async () => {
    const seen: [number, number, number][] = [];
    const fs = oneFile(4, {
      open: (_, __, { uid, gid, pid }) => {
        seen.push([uid, gid, pid]);
        return 1;
      },
      read: () => 0,
    });
    await mounted(fs, { transport, allowOther: true }, async (path) => {
      const client = start("setpriv", ["--reuid=65534", "--regid=123", "--clear-groups", "cat", `${path}/f`]);
      await client.ended;
      assert.deepEqual(seen, [[65534, 123, client.pid]]);
    });
    await mounted(fs, { transport }, async (path) => {
      const { err } = await tried("setpriv --reuid=65534 --clear-groups cat f", path);
      assert.match(err, /Permission denied/);
    });
    assert.equal(seen.length, 1);
  });

  each("names as text and as bytes", async () => {
    const seen: Name[] = [];
    const odd = [0x66, 0xff, 0xc3];
    const find = (name: Name): null => {
      seen.push(name);
      return null;
    };
    for (const names of ["utf8", "latin1", "bytes"] as const) {
      const fs: FileSystem<Name> = {
        getattr: () => ({ mode: DIRECTORY }),
        lookup: (_, name) => find(name),
        readdir: (_, __, offset, out) => {
          if (offset === 0) {
            out.add("é", 3, 0o100000, 1);
            out.add(new Uint8Array(odd), 4, 0o100000, 2);
          }
        },
      };
      await mounted(fs, { transport, names }, async (path) => {
        const bytes = (await shell("ls -U", path)).trim().split("\n");
        assert.deepEqual(bytes, [names === "latin1" ? "\xe9" : "\xc3\xa9", "f\xff\xc3"]);
        const { err } = await tried("cat é; cat $(printf 'f\\377\\303')", path);
        assert.equal(/Invalid or incomplete multibyte/.test(err), names === "utf8");
      });
    }
    assert.deepEqual(seen, [
      "é",
      "\xc3\xa9",
      "f\xff\xc3",
      new Uint8Array(Buffer.from("é")),
      new Uint8Array(odd),
    ]);
  });

  each("what is missing is missing, and does no harm", async () => {
    await mounted({ getattr: () => ({ mode: DIRECTORY }) }, { transport }, async (path) => {
      assert.match((await tried("cat f", path)).err, /No such file/);
      assert.match((await tried("ls", path)).err, /not implemented/);
      assert.match((await tried("mkdir d", path)).err, /not implemented/);
      assert.equal((await shell("stat -f -c '%s %b %f' .; sync .", path)).trim(), "4096 0 0");
    });
  });

  each("reads ahead, and asks for large pieces", async () => {
    const file = content(8 * MEBIBYTE);
    for (const maxReadahead of [undefined, 0]) {
      let largest = 0;
      let count = 0;
      const fs = oneFile(file.length, {
        read(_, __, buffer, offset) {
          count++;
          largest = Math.max(largest, buffer.length);
          const part = file.subarray(offset, offset + buffer.length);
          buffer.set(part);
          return part.length;
        },
      });
      const options = maxReadahead === undefined ? {} : { maxReadahead };
      await mounted(fs, { transport, ...options }, async (path) => {
        await shell("dd if=f bs=4096 status=none | cksum >/dev/null", path);
      });
      if (maxReadahead === 0) assert.equal(largest, 4096);
      else assert.ok(largest >= 65536 && count < 300, `${count} reads of at most ${largest} bytes`);
    }
  });

  each("large direct reads and writes come whole, and the same bytes", async () => {
    const file = new Uint8Array(6 * MEBIBYTE);
    const sizes = new Set<number>();
    const fs = oneFile(file.length, {
      open: () => ({ handle: 1, directIo: true }),
      setattr: () => ({ mode: 0o100644, size: file.length }),
      async read(_, __, buffer, offset) {
        await Promise.resolve();
        sizes.add(buffer.length);
        const part = file.subarray(offset, offset + buffer.length);
        buffer.set(part);
        return part.length;
      },
      write(_, __, data, offset) {
        sizes.add(data.length);
        file.set(data, offset);
        return data.length;
      },
    });
    await mounted(fs, { transport, maxWrite: MEBIBYTE }, async (path, { maxWrite }) => {
      assert.equal(maxWrite, MEBIBYTE);
      const said = await shell(
        `head -c 6291456 /dev/urandom >/tmp/fuse-$$; dd if=/tmp/fuse-$$ of=f bs=2M conv=notrunc status=none
        dd if=f bs=3M status=none | cmp - /tmp/fuse-$$ && echo same; rm /tmp/fuse-$$`,
        path,
      );
      assert.equal(said, "same\n");
    });
    assert.ok(sizes.has(MEBIBYTE), [...sizes].join());
    assert.equal(Math.max(...sizes), MEBIBYTE);
  });

  each("writes wait in the kernel's cache where that is wanted", async () => {
    for (const writebackCache of [false, true]) {
      let count = 0;
      const fs = oneFile(100_000, {
        setattr: () => ({ mode: 0o100644, size: 100_000 }),
        read: (_, __, buffer) => buffer.fill(0).length,
        write: (_, __, data) => {
          count++;
          return data.length;
        },
      });
      await mounted(fs, { transport, writebackCache }, async (path) => {
        await shell("dd if=/dev/zero of=f bs=10 count=500 conv=notrunc status=none", path);
      });
      assert.ok(writebackCache ? count >= 1 && count < 20 : count >= 500, `${count} writes`);
    }
  });

  each("a hundred clients at once", async () => {
    const files = new Map<number, Uint8Array>();
    let most = 0;
    let now = 0;
    const size = 50_000;
    const numbered = (name: string): number => Number(name) + 10;
    const attributes = (node: number): { mode: number; size: number } =>
      node === ROOT_NODE ? { mode: DIRECTORY, size: 0 } : { mode: 0o100644, size: files.get(node)!.length };
    const fs: FileSystem = {
      getattr: attributes,
      lookup: (_, name) =>
        files.has(numbered(name)) ? { node: numbered(name), attributes: attributes(numbered(name)) } : null,
      create(_, name) {
        const node = numbered(name);
        files.set(node, new Uint8Array(0));
        return { entry: { node, attributes: attributes(node) }, opened: node };
      },
      setattr: attributes,
      async write(node, _, data, offset) {
        most = Math.max(most, ++now);
        await new Promise((resolve) => setTimeout(resolve, 1));
        const before = files.get(node)!;
        const file = new Uint8Array(Math.max(before.length, offset + data.length));
        file.set(before);
        file.set(data, offset);
        files.set(node, file);
        now--;
        return data.length;
      },
      read(node, _, buffer, offset) {
        const part = files.get(node)!.subarray(offset, offset + buffer.length);
        buffer.set(part);
        return part.length;
      },
    };
    await mounted(fs, { transport }, async (path) => {
      await shell(
        `seq 1 100 | xargs -P 100 -I{} sh -c 'head -c ${size} /dev/zero | tr "\\0" "\\{}" >{}; cat {} | cksum >/dev/null'`,
        path,
      );
    });
    assert.equal(files.size, 100);
    for (const [node, file] of files) {
      assert.equal(file.length, size);
      const byte = Number.parseInt(String(node - 10), 8) & 0xff;
      if (/^[0-7]+$/.test(String(node - 10))) assert.ok(file.every((value) => value === byte), String(node));
    }
    assert.ok(most > 1, `at most ${most} at once`);
  });

  each("what the kernel has cached can be dropped", async () => {
    let text = "old text";
    const attributes = (node: number): { mode: number; size: number } =>
      node === FILE ? { mode: 0o100644, size: text.length } : { mode: DIRECTORY, size: 0 };
    let name = "f";
    const fs: FileSystem = {
      getattr: attributes,
      lookup: (_, wanted) => wanted === name ? { node: FILE, attributes: attributes(FILE) } : null,
      open: () => ({ handle: 1, keepCache: true }),
      read(_, __, buffer, offset) {
        const part = Buffer.from(text).subarray(offset, offset + buffer.length);
        buffer.set(part);
        return part.length;
      },
    };
    const options = { transport, entryTimeout: 1e6, attributeTimeout: 1e6, negativeTimeout: 1e6 };
    await mounted(fs, options, async (path, mount) => {
      const read = (name: string): Promise<{ out: string }> => tried(`cat ${name}`, path);
      assert.equal((await read("f")).out, "old text");
      text = "new text";
      assert.equal((await read("f")).out, "old text");
      await mount.invalidate(FILE);
      assert.equal((await read("f")).out, "new text");
      name = "g";
      assert.equal((await read("g")).out, "new text");
      assert.equal((await read("f")).out, "new text");
      await mount.invalidateEntry(ROOT_NODE, "f");
      assert.equal((await read("f")).out, "");
      // What the kernel does not know is no mistake.
      await mount.invalidate(4711);
      await mount.invalidateEntry(ROOT_NODE, "nothing");
      await assert.rejects(mount.invalidate(0), TypeError);
      await assert.rejects(mount.invalidate(1, 0.5), RangeError);
      await assert.rejects(mount.invalidateEntry(1, "x".repeat(2000)), RangeError);
    });
  });

  each("what was looked up is forgotten, each as often", async () => {
    const counts = new Map<number, number>();
    const add = (node: number, count: number): void => void counts.set(node, (counts.get(node) ?? 0) + count);
    const entry = (node: number): { node: number; attributes: { mode: number } } => {
      add(node, 1);
      return { node, attributes: { mode: 0o100644 } };
    };
    const fs: FileSystem = {
      getattr: (node) => ({ mode: node === ROOT_NODE ? DIRECTORY : 0o100644 }),
      lookup: (_, name) => /^\d+$/.test(name) ? entry(Number(name) + 2) : null,
      readdir(_, __, offset, out) {
        for (let i = offset; i < 300 && out.add(String(i), i + 2, 0o100000, i + 1); i++);
      },
      readdirplus(_, __, offset, out) {
        for (let i = offset; i < 300; i++) {
          if (!out.addEntry(String(i), { node: i + 2, attributes: { mode: 0o100644 } }, i + 1)) return;
          add(i + 2, 1);
        }
      },
      forget: (node, count) => add(node, -count),
    };
    await mounted(fs, { transport, entryTimeout: 0 }, async (path) => {
      await shell("ls -l >/dev/null; ls -l >/dev/null; stat 5 5 6 >/dev/null", path);
      assert.equal(counts.size, 300);
      await shell("echo 2 >/proc/sys/vm/drop_caches", path);
      await until(() => [...counts.values()].every((count) => count === 0), "all forgotten");
    });
  });
}
