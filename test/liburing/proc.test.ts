/** Twins of liburing's programs that read files of /proc. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { open_how } from "../../src/ffi/structs.ts";
import { system } from "../../src/ffi/system.ts";
import { AT_FDCWD, IORING_OP_OPENAT2, IOSQE_ASYNC, O_RDONLY } from "../../src/ring/mod.ts";
import { Fd } from "../support/descriptors.ts";
import { test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { type Block, block, forEachKind, iovecs, makeRing, missingOp, once, path } from "../support/rings.ts";

checkLeaks();

const noOpenat2 = missingOp(IORING_OP_OPENAT2);
const SIZE = 8192;
const KALLSYMS = "/proc/kallsyms";

/** Why the kernel's symbols cannot be read here, or `false`. */
function missingSymbols(): string | false {
  try {
    Fd.open(KALLSYMS, O_RDONLY).close();
    return false;
  } catch (error) {
    return `${KALLSYMS}: ${error instanceof Error ? error.message : error}`;
  }
}

/** What one `read` of the file gives. */
function plainRead(): Uint8Array {
  using file = Fd.open(KALLSYMS, O_RDONLY);
  const bytes = new Uint8Array(new ArrayBuffer(SIZE));
  return bytes.subarray(0, system().read(file.fd, bytes, SIZE));
}

const taken = ({ bytes }: Block, length: number): Uint8Array => bytes.slice(0, length);

forEachKind(({ name, options, skip }) => {
  test(
    `liburing kallsyms: ${name}: reads as read(2) does, in each way`,
    { skip: skip || missingSymbols() },
    () => {
      using ring = makeRing(64, options);
      const expected = plainRead();
      assert.ok(expected.length > 0);
      const buffer = block(SIZE);
      const vector = iovecs([buffer]).address;
      ring.registerBuffers([{ address: buffer.address, length: SIZE }]);
      for (const flags of [0, IOSQE_ASYNC]) {
        for (const way of ["readv", "read", "readFixed"] as const) {
          using file = Fd.open(KALLSYMS, O_RDONLY);
          buffer.bytes.fill(0);
          const { res } = once(ring, (sqe) => {
            if (way === "readv") sqe.prepReadv(file.fd, vector, 1, 0);
            else if (way === "read") sqe.prepRead(file.fd, buffer.address, SIZE, 0);
            else sqe.prepReadFixed(file.fd, buffer.address, SIZE, 0, 0);
            sqe.flags = flags;
          });
          assert.equal(res, expected.length, way);
          assert.deepEqual(taken(buffer, res), expected, way);
        }
      }
      ring.unregisterBuffers();
    },
  );

  test(`liburing self: ${name}: /proc/self is this process, also for a worker thread`, {
    skip: skip || noOpenat2,
  }, () => {
    using ring = makeRing(2, options);
    const how = block(open_how.size);
    const comm = readFileSync("/proc/self/comm", "utf8");
    const file = path("/proc/self/comm");
    // An absolute name needs no directory.
    for (const directory of [-1, AT_FDCWD]) {
      for (const flags of [0, IOSQE_ASYNC]) {
        const { res } = once(ring, (sqe) => {
          sqe.prepOpenat2(directory, file, how.address);
          sqe.flags = flags;
        });
        assert.ok(res >= 0, `${res}`);
        using opened = new Fd(res);
        const bytes = new Uint8Array(new ArrayBuffer(64));
        const length = system().read(opened.fd, bytes, 64);
        assert.equal(new TextDecoder().decode(bytes.subarray(0, length)), comm);
      }
    }
  });
});
