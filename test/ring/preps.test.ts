/** Preps that differ from another in a detail: that detail, on every kind of ring. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { kernelHas } from "../../src/ffi/kernel.ts";
import { Mapping } from "../../src/ffi/memory.ts";
import {
  AF_INET,
  IORING_OP_SEND,
  IORING_OP_URING_CMD,
  MADV_DONTNEED,
  MADV_NORMAL,
  O_RDWR,
  POSIX_FADV_WILLNEED,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
} from "../../src/ring/mod.ts";
import { check } from "../../src/ffi/errors.ts";
import { Fd, TempDir } from "../support/descriptors.ts";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { libc } from "../support/libc.ts";
import { ADDRESS_SIZE, Bound, loopback, portOf } from "../support/sockets.ts";
import { block, blockOf, forEachKind, makeRing, missingOp, once, text } from "../support/rings.ts";

checkLeaks();

const EINVAL = -22;
const EOPNOTSUPP = -95;
/** More than 32 bits. */
const HUGE = 2 ** 33;

const noLongAdvice = kernelHas("6.11") ? false : "lengths beyond 32 bits need Linux 6.11";
const noSendto = firstReason(missingOp(IORING_OP_SEND), kernelHas("6.1") ? false : "needs Linux 6.1");
const noCommands = missingOp(IORING_OP_URING_CMD);

forEachKind(({ name, options, skip }) => {
  test(`${name}: advice on more than 4 GiB`, { skip: firstReason(skip, noLongAdvice) }, () => {
    using ring = makeRing(4, options);
    using dir = new TempDir();
    writeFileSync(dir.of("file"), "content");
    using file = Fd.open(dir.of("file"), O_RDWR);
    assert.equal(once(ring, (sqe) => sqe.prepFadvise64(file.fd, 0, HUGE, POSIX_FADV_WILLNEED)).res, 0);
    assert.equal(readFileSync(dir.of("file"), "utf8"), "content");
    using memory = Mapping.anonymous(8192);
    const bytes = new Uint8Array(memory.buffer);
    bytes.fill(7);
    assert.equal(once(ring, (sqe) => sqe.prepMadvise64(memory.address, 4096, MADV_DONTNEED)).res, 0);
    assert.deepEqual([bytes[0], bytes[4095], bytes[4096]], [0, 0, 7]);
    // Taken for what it is, this goes round the end of all addresses; of its low half, that could not be said.
    const around = 2n ** 64n - 4096n;
    assert.equal(once(ring, (sqe) => sqe.prepMadvise64(memory.address, around, MADV_NORMAL)).res, EINVAL);
  });

  test(`${name}: sendto`, { skip: firstReason(skip, noSendto) }, () => {
    using ring = makeRing(4, options);
    using to = Bound.udp();
    using from = new Fd(check(libc().socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket"));
    const data = blockOf("hello");
    const { address } = loopback(to.port);
    const sent = once(ring, (sqe) => sqe.prepSendto(from.fd, data.address, 5, 0, address, ADDRESS_SIZE));
    assert.equal(sent.res, 5);
    const buffer = block(8);
    assert.equal(once(ring, (sqe) => sqe.prepRecv(to.fd, buffer.address, 8, 0)).res, 5);
    assert.equal(text(buffer, 5), "hello");
    assert.ok(portOf(from.fd) > 0);
  });

  test(`${name}: commands to block devices, to what is none`, { skip: firstReason(skip, noCommands) }, () => {
    using ring = makeRing(4, options);
    using dir = new TempDir();
    writeFileSync(dir.of("file"), "content");
    using file = Fd.open(dir.of("file"), O_RDWR);
    assert.equal(once(ring, (sqe) => sqe.prepCmdDiscard(file.fd, 0, 4096)).res, EOPNOTSUPP);
    assert.equal(once(ring, (sqe) => sqe.prepCmdZoneResetAll(file.fd)).res, EOPNOTSUPP);
    assert.equal(readFileSync(dir.of("file"), "utf8"), "content");
  });
});
