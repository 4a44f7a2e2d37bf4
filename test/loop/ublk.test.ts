/** A block device that another program serves through a ring, used and torn down while it is in use. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import process from "node:process";
import { IORING_OP_URING_CMD, IORING_SETUP_SQE128, O_RDONLY, O_RDWR } from "../../src/ffi/abi.ts";
import { O_DIRECT } from "../../src/ffi/arch.ts";
import type { Uring, UringError } from "../../src/mod.ts";
import { assertContent, content } from "../support/content.ts";
import { Fd } from "../support/descriptors.ts";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { makeUring, until, within } from "../support/loop.ts";
import { failure } from "../support/operations.ts";
import { type Ended, fixture, run } from "../support/program.ts";
import { missingOp } from "../support/rings.ts";
import {
  controlCommand,
  CTRL_ADDRESS,
  DEV_INFO_SIZE,
  UBLK_F_CMD_IOCTL_ENCODE,
  UBLK_U_CMD_DEL_DEV,
  UBLK_U_CMD_GET_DEV_INFO,
  UBLK_U_CMD_GET_FEATURES,
} from "../support/ublk.ts";

checkLeaks();

const SIZE = 4 << 20;
const PIECE = 64 * 1024;

const skip = firstReason(
  missingOp(IORING_OP_URING_CMD),
  process.getuid?.() === 0 ? false : "only root can make ublk devices",
  existsSync("/dev/ublk-control") ? false : "there is no /dev/ublk-control, the module ublk_drv",
);

/** A server in a process of its own. */
interface Server {
  readonly devId: number;
  readonly kill: () => void;
  readonly ended: Promise<Ended>;
}

async function start(): Promise<Server> {
  const { promise, resolve, reject } = Promise.withResolvers<Omit<Server, "ended">>();
  const ended = run(fixture("ublk_server.ts"), [String(SIZE)], {
    permissions: ["--allow-ffi"],
    onLine: (line, kill) => {
      const match = /^ready (\d+)$/.exec(line);
      if (match !== null) resolve({ devId: Number(match[1]), kill: () => kill("SIGTERM") });
    },
  });
  ended.then(({ stdout, stderr }) => reject(new Error(`the server has ended: ${stdout}${stderr}`)), reject);
  return { ...await within(promise, "the server"), ended };
}

/** Asks the driver something about a device. */
async function ask(
  uring: Uring,
  control: Fd,
  cmdOp: number,
  devId: number,
  memory?: Uint8Array,
): Promise<number> {
  const command = controlCommand(devId, memory?.length ?? 0);
  return await uring.uringCmd(control.fd, cmdOp, {
    command,
    memory: memory === undefined ? [] : [{ at: CTRL_ADDRESS, view: memory }],
  });
}

test("liburing uring_cmd_ublk: the driver is asked with commands", { skip }, async () => {
  await using uring = makeUring({ flags: IORING_SETUP_SQE128 });
  using control = Fd.open("/dev/ublk-control", O_RDWR);
  const features = new Uint8Array(8);
  assert.equal(await ask(uring, control, UBLK_U_CMD_GET_FEATURES, 0, features), 0);
  const bits = new DataView(features.buffer).getBigUint64(0, true);
  assert.notEqual(bits & UBLK_F_CMD_IOCTL_ENCODE, 0n);
  const nobody = ask(uring, control, UBLK_U_CMD_GET_DEV_INFO, 12345, new Uint8Array(DEV_INFO_SIZE));
  assert.equal((await failure(nobody)).code, "ENODEV");
});

for (let round = 0; round < 2; round++) {
  test(
    `liburing uring_cmd_ublk: a device is used, and its server dies in the middle, ${round}`,
    { skip },
    async () => {
      await using uring = makeUring({ flags: IORING_SETUP_SQE128 });
      using control = Fd.open("/dev/ublk-control", O_RDWR);
      const { devId, kill, ended } = await start();
      try {
        const path = `/dev/ublkb${devId}`;
        await until(() => existsSync(path), path);
        await writeAndRead(uring, path);
        const failed = await useUntilItFails(uring, path, kill);
        assert.ok(failed > 0, "nothing was in the way of what went on");
      } finally {
        kill();
        assert.equal((await ended).signal, "SIGTERM");
        assert.equal(await within(ask(uring, control, UBLK_U_CMD_DEL_DEV, devId), "removing the device"), 0);
      }
      const gone = ask(uring, control, UBLK_U_CMD_GET_DEV_INFO, devId, new Uint8Array(DEV_INFO_SIZE));
      assert.equal((await failure(gone)).code, "ENODEV");
      assert.equal(uring.stats.inFlight, 0);
    },
  );
}

async function writeAndRead(uring: Uring, path: string): Promise<void> {
  using disk = Fd.open(path, O_RDWR | O_DIRECT);
  await using buffer = uring.registerBuffer(SIZE);
  const data = content(SIZE);
  buffer.bytes.set(data);
  const pieces = Array.from(
    { length: SIZE / PIECE },
    (_, i) => ({ offset: i * PIECE, start: i * PIECE, length: PIECE }),
  );
  const written = await Promise.all(pieces.map((piece) => uring.writeFixed(disk.fd, buffer, piece)));
  assert.ok(written.every((length) => length === PIECE));
  buffer.bytes.fill(0);
  const read = await Promise.all(pieces.map((piece) => uring.readFixed(disk.fd, buffer, piece)));
  assert.ok(read.every((length) => length === PIECE));
  assertContent(buffer.bytes, SIZE, 0);
}

/** Reads and writes at once until the server is dead and all has failed; how many operations did. */
async function useUntilItFails(uring: Uring, path: string, kill: () => void): Promise<number> {
  let failed = 0;
  let done = 0;
  const use = async (job: number): Promise<void> => {
    using disk = Fd.open(path, (job % 2 === 0 ? O_RDWR : O_RDONLY) | O_DIRECT);
    await using buffer = uring.registerBuffer(PIECE);
    for (let i = 0;; i++) {
      const options = { offset: (i * 7 + job) % (SIZE / PIECE) * PIECE };
      try {
        if (job % 2 === 0) await uring.writeFixed(disk.fd, buffer, options);
        else await uring.readFixed(disk.fd, buffer, options);
        if (++done === 100) kill();
      } catch (error) {
        assert.match((error as UringError).code, /^(EIO|ENODEV|ENXIO)$/);
        failed++;
        return;
      }
    }
  };
  await within(Promise.all(Array.from({ length: 8 }, (_, job) => use(job))), "jobs on a dying device");
  return failed;
}
