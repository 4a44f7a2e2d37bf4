/** Random waits on futexes, pipes and epoll descriptors, woken, limited and aborted at random: what was given is what came. */
import assert from "node:assert/strict";
import {
  EPOLL_CTL_ADD,
  EPOLLIN,
  IORING_OP_EPOLL_WAIT,
  IORING_OP_FUTEX_WAIT,
  IORING_OP_PIPE,
  SPLICE_F_NONBLOCK,
} from "../../src/ffi/abi.ts";
import { epollCreate, type OperationOptions, type Uring } from "../../src/mod.ts";
import { Fd, Pipe } from "../support/descriptors.ts";
import { firstReason, test } from "../support/gate.ts";
import { checkLeaks } from "../support/leaks.ts";
import { collect, makeUring, URING_KINDS, within } from "../support/loop.ts";
import { countDescriptors } from "../support/operations.ts";
import { Random } from "../support/random.ts";
import { missingOp, missingRing } from "../support/rings.ts";

checkLeaks();

const STEPS = 400;
const WORDS = 6;
const PIPES = 4;
/** How an operation may end that was limited or aborted, or found nothing to do. */
const EXPECTED = ["ETIMEDOUT", "ECANCELED", "EAGAIN"];

class Aborted extends Error {}

/** One run: what is waited for, and what was given and taken. */
class Run implements Disposable {
  readonly #uring: Uring;
  readonly #random: Random;
  readonly #words = new Int32Array(new SharedArrayBuffer(4 * WORDS));
  readonly #pipes: readonly Pipe[] = Array.from({ length: PIPES }, () => new Pipe());
  readonly #epoll: Fd = new Fd(epollCreate());
  readonly #controllers = new Set<AbortController>();
  readonly #active = new Set<Promise<void>>();
  /** Waits that ended with a wake, those that ended early, and those that wakes say they have woken. */
  #waited = 0;
  #early = 0;
  #woken = 0;
  /** Bytes that went into pipes, and that were taken out. */
  #put = 0;
  #taken = 0;

  constructor(uring: Uring, seed: number) {
    this.#uring = uring;
    this.#random = new Random(seed);
  }

  async watch(): Promise<void> {
    for (const { reader } of this.#pipes) {
      await this.#uring.epollCtl(this.#epoll.fd, EPOLL_CTL_ADD, reader.fd, {
        events: EPOLLIN,
        data: reader.fd,
      });
    }
  }

  #pipe(): Pipe {
    return this.#pipes[this.#random.below(PIPES)]!;
  }

  /** No limit, a short one, a signal, or both. */
  #options(): OperationOptions {
    const options: OperationOptions = {};
    const how = this.#random.below(4);
    if ((how & 1) !== 0) options.timeout = this.#random.below(8);
    if ((how & 2) !== 0) {
      const controller = new AbortController();
      this.#controllers.add(controller);
      options.signal = controller.signal;
    }
    return options;
  }

  /** Keeps track of an operation; only what was limited or aborted may fail. */
  #start<T>(promise: Promise<T>, done: (value: T) => void, early: () => void = () => {}): void {
    const tracked = promise.then(done, (error: unknown) => {
      if (!(error instanceof Aborted)) {
        assert.ok(EXPECTED.includes((error as { code: string }).code), String(error));
      }
      early();
    }).finally(() => this.#active.delete(tracked));
    this.#active.add(tracked);
  }

  readonly #steps: readonly (() => void)[] = [
    () => this.#wait(),
    () => this.#wait(),
    () => this.#waitv(),
    () => {
      const index = this.#random.below(WORDS);
      this.#start(this.#uring.futexWake(this.#words, index, this.#random.below(4)), (woken) => {
        this.#woken += woken;
      });
    },
    () => {
      const { writer } = this.#pipe();
      const length = 1 + this.#random.below(3000);
      this.#start(this.#uring.write(writer.fd, new Uint8Array(length)), (written) => {
        this.#put += written;
      });
    },
    () => {
      const { reader } = this.#pipe();
      this.#start(this.#uring.read(reader.fd, new Uint8Array(2000)), (length) => {
        this.#taken += length;
      });
    },
    () => {
      const [from, to] = [this.#pipe(), this.#pipe()];
      if (from === to) return;
      const flags = SPLICE_F_NONBLOCK;
      this.#start(
        this.#uring.splice(from.reader.fd, to.writer.fd, 1000, { flags, ...this.#options() }),
        () => {},
      );
    },
    () => {
      const [from, to] = [this.#pipe(), this.#pipe()];
      if (from === to) return;
      const flags = SPLICE_F_NONBLOCK;
      // What a copy that was aborted has added would not be told.
      this.#start(this.#uring.tee(from.reader.fd, to.writer.fd, 500, { flags }), (length) => {
        this.#put += length;
      });
    },
    () => {
      this.#start(this.#uring.epollWait(this.#epoll.fd, this.#options()), (events) => {
        const known = this.#pipes.map(({ reader }) => reader.fd);
        for (const { data } of events) assert.ok(known.includes(Number(data)));
      });
    },
    () => {
      const close = async ({ reader, writer }: { reader: number; writer: number }): Promise<void> => {
        await Promise.all([this.#uring.close(reader), this.#uring.close(writer)]);
      };
      this.#start(this.#uring.pipe(this.#options()).then(close), () => {});
    },
    () => {
      const [controller] = this.#controllers;
      if (controller === undefined) return;
      this.#controllers.delete(controller);
      controller.abort(new Aborted());
    },
  ];

  #wait(): void {
    const index = this.#random.below(WORDS);
    this.#start(
      this.#uring.futexWait(this.#words, index, 0, this.#options()),
      (result) => {
        assert.equal(result, "ok");
        this.#waited++;
      },
      () => this.#early++,
    );
  }

  #waitv(): void {
    const first = this.#random.below(WORDS - 2);
    const waiters = [0, 1, 2].map((i) => ({ words: this.#words, index: first + i, value: 0 }));
    this.#start(
      this.#uring.futexWaitv(waiters, this.#options()),
      (which) => {
        assert.ok(typeof which === "number" && which >= 0 && which < 3, String(which));
        this.#waited++;
      },
      () => this.#early++,
    );
  }

  step(): void {
    this.#steps[this.#random.below(this.#steps.length)]!();
  }

  /** Aborts what can be, wakes and feeds the rest, and looks at the accounts. */
  async end(): Promise<void> {
    for (const controller of this.#controllers) controller.abort(new Aborted());
    while (this.#active.size > 0) {
      for (let i = 0; i < WORDS; i++) {
        const woken = await this.#uring.futexWake(this.#words, i);
        this.#woken += woken;
      }
      for (const { reader, writer } of this.#pipes) {
        // Those who wait already are first to take what is put, and first to put where there is room.
        const limit = { timeout: 2 };
        const taken = await this.#uring.read(reader.fd, new Uint8Array(100_000), limit).catch(() => 0);
        this.#taken += taken;
        const put = await this.#uring.write(writer.fd, new Uint8Array(100), limit).catch(() => 0);
        this.#put += put;
      }
      await this.#uring.timeout(1);
    }
    for (const { reader } of this.#pipes) {
      for (let left = 1; left > 0; this.#taken += left) {
        left = await this.#uring.read(reader.fd, new Uint8Array(100_000), { timeout: 5 }).catch(() => 0);
      }
    }
    assert.equal(this.#taken, this.#put, "bytes");
    // Some that were woken had been aborted just before, and a wait for several words can be woken by each of them.
    assert.ok(this.#woken >= this.#waited, `${this.#waited} waits ended by ${this.#woken} wakes`);
    assert.ok(this.#waited > 0 && this.#early > 0, `${this.#waited} were woken, ${this.#early} ended early`);
  }

  [Symbol.dispose](): void {
    for (const pipe of this.#pipes) pipe[Symbol.dispose]();
    this.#epoll.close();
  }
}

const noOps = [IORING_OP_EPOLL_WAIT, IORING_OP_FUTEX_WAIT, IORING_OP_PIPE].map(missingOp);
const CHOSEN = [
  "the default",
  "2 entries and 2 completions",
  "no flags",
  "DEFER_TASKRUN",
  "SQPOLL, 4 entries",
];

for (const [seed, name] of CHOSEN.entries()) {
  const options = URING_KINDS[name]!;
  const noRing = options.flags === undefined ? false : missingRing({ flags: options.flags });
  test(`${name}: nothing is lost, nothing comes twice`, { skip: firstReason(noRing, ...noOps) }, async () => {
    await using uring = makeUring(options);
    await uring.timeout(1);
    const before = countDescriptors(/^pipe:/);
    {
      using run = new Run(uring, seed + 1);
      await run.watch();
      for (let i = 0; i < STEPS; i++) {
        run.step();
        if (i % 8 === 7) await uring.nop();
        if (i % 100 === 50) collect();
      }
      await within(run.end(), "the end of all waits");
    }
    assert.equal(uring.stats.inFlight, 0);
    assert.equal(countDescriptors(/^pipe:/), before);
  });
}
