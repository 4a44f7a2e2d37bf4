/**
 * Operations that wait or steer.
 *
 * @module
 */
import assert from "node:assert/strict";
import {
  EPOLL_CTL_ADD,
  EPOLLIN,
  IORING_OP_ASYNC_CANCEL,
  IORING_OP_EPOLL_CTL,
  IORING_OP_EPOLL_WAIT,
  IORING_OP_FUTEX_WAIT,
  IORING_OP_FUTEX_WAITV,
  IORING_OP_FUTEX_WAKE,
  IORING_OP_MSG_RING,
  IORING_OP_NOP,
  IORING_OP_POLL_ADD,
  IORING_OP_TIMEOUT,
  IORING_OP_WAITID,
  POLLIN,
} from "../../../src/ffi/abi.ts";
import { epollCreate, Uring } from "../../../src/mod.ts";
import { Fd } from "../descriptors.ts";
import { failure, WaitingPipe } from "../operations.ts";
import { type OperationCase, rejected } from "./case.ts";

function words(): Int32Array<SharedArrayBuffer> {
  return new Int32Array(new SharedArrayBuffer(8));
}

/** What waits, and what ends waiting. */
export const OTHER_CASES: readonly OperationCase[] = [
  { method: "nop", op: IORING_OP_NOP, run: (uring) => uring.nop() },
  {
    method: "poll",
    op: IORING_OP_POLL_ADD,
    run: async (uring) => {
      using pipe = new WaitingPipe();
      const polling = uring.poll(pipe.reader.fd, POLLIN);
      pipe.write("x");
      assert.equal(await polling, POLLIN);
    },
  },
  {
    method: "pollMultishot",
    op: IORING_OP_POLL_ADD,
    kernel: "5.13",
    run: async (uring) => {
      using pipe = new WaitingPipe();
      const polling = uring.pollMultishot(pipe.reader.fd, POLLIN);
      for (let i = 0; i < 3; i++) {
        const next = polling.next();
        pipe.write("x");
        assert.deepEqual(await next, { done: false, value: POLLIN });
      }
      await polling.return();
    },
  },
  {
    method: "timeout",
    op: IORING_OP_TIMEOUT,
    run: async (uring) => {
      const before = performance.now();
      await uring.timeout(2);
      assert.ok(performance.now() - before > 1.5);
    },
  },
  {
    method: "timeoutMultishot",
    op: IORING_OP_TIMEOUT,
    kernel: "6.4",
    run: async (uring) => {
      assert.deepEqual(await Array.fromAsync(uring.timeoutMultishot(0.1, { count: 3 })), [1, 2, 3]);
    },
  },
  {
    method: "cancel",
    op: IORING_OP_ASYNC_CANCEL,
    kernel: "5.19",
    run: async (uring) => {
      using pipe = new WaitingPipe();
      const ended = failure(uring.read(pipe.reader.fd, new Uint8Array(1)));
      try {
        assert.equal(await uring.cancel({ fd: pipe.reader.fd }), 1);
      } finally {
        // Where it cannot be cancelled, it has to end otherwise.
        pipe.writer.close();
      }
      assert.equal((await ended).code, "ECANCELED");
    },
  },
  {
    method: "epollCtl",
    op: IORING_OP_EPOLL_CTL,
    run: async (uring) => {
      using epoll = new Fd(epollCreate());
      using pipe = new WaitingPipe();
      await uring.epollCtl(epoll.fd, EPOLL_CTL_ADD, pipe.reader.fd, { events: EPOLLIN, data: 7 });
      const again = uring.epollCtl(epoll.fd, EPOLL_CTL_ADD, pipe.reader.fd, { events: EPOLLIN, data: 7 });
      await rejected(again, "EEXIST");
    },
  },
  {
    method: "epollWait",
    op: IORING_OP_EPOLL_WAIT,
    run: async (uring) => {
      using epoll = new Fd(epollCreate());
      using pipe = new WaitingPipe();
      await uring.epollCtl(epoll.fd, EPOLL_CTL_ADD, pipe.reader.fd, { events: EPOLLIN, data: 7 });
      const waiting = uring.epollWait(epoll.fd);
      pipe.write("x");
      assert.deepEqual(await waiting, [{ events: EPOLLIN, data: 7 }]);
    },
  },
  {
    method: "futexWait",
    op: IORING_OP_FUTEX_WAIT,
    run: async (uring) => {
      const futex = words();
      assert.equal(await uring.futexWait(futex, 1, 5), "not-equal");
      const waiting = uring.futexWait(futex, 1, 0);
      await uring.nop();
      assert.equal(await uring.futexWake(futex, 1), 1);
      assert.equal(await waiting, "ok");
    },
  },
  {
    method: "futexWake",
    op: IORING_OP_FUTEX_WAKE,
    run: async (uring) => assert.equal(await uring.futexWake(words(), 0), 0),
  },
  {
    method: "futexWaitv",
    op: IORING_OP_FUTEX_WAITV,
    run: async (uring) => {
      const futex = words();
      const waiter = { words: futex, value: 0 };
      assert.equal(await uring.futexWaitv([{ words: futex, index: 0, value: 1 }]), "not-equal");
      const waiting = uring.futexWaitv([{ ...waiter, index: 0 }, { ...waiter, index: 1 }]);
      await uring.nop();
      assert.equal(await uring.futexWake(futex, 1), 1);
      assert.equal(await waiting, 1);
    },
  },
  {
    method: "waitid",
    op: IORING_OP_WAITID,
    // The parent of this process is no child of it.
    run: (uring) => rejected(uring.waitid({ pid: 1 }), "ECHILD"),
  },
  {
    method: "msgRing",
    op: IORING_OP_MSG_RING,
    run: async (uring) => {
      await using other = new Uring({ entries: 4 });
      const inbox = other.messages();
      await uring.msgRing(inbox.address, { value: 42, tag: 7 });
      assert.deepEqual(await inbox.next(), { done: false, value: { kind: "data", value: 42, tag: 7 } });
      await inbox.return();
    },
  },
  {
    method: "sendFd",
    called: "msg_ring_fd",
    op: IORING_OP_MSG_RING,
    kernel: "6.0",
    run: async (uring) => {
      await using other = new Uring({ entries: 4 });
      using pipe = new WaitingPipe();
      const inbox = other.messages();
      const direct = await uring.registerFile(pipe.reader.fd);
      await uring.sendFd(inbox.address, direct);
      await uring.close(direct);
      const { value } = await inbox.next();
      assert.ok(value?.kind === "descriptor");
      pipe.write("x");
      assert.equal(await other.read(value.descriptor, new Uint8Array(1)), 1);
      await other.close(value.descriptor);
      await inbox.return();
    },
  },
];
