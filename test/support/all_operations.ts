/**
 * Every operation of io_uring as an entry that does something, to show that a ring refuses it.
 *
 * @module
 */
import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import * as abi from "../../src/ffi/abi.ts";
import { open_how } from "../../src/ffi/structs.ts";
import { check } from "../../src/ffi/errors.ts";
import { system } from "../../src/ffi/system.ts";
import { Mapping, type Sqe } from "../../src/ring/mod.ts";
import { Fd, Pipe, type TempDir } from "./descriptors.ts";
import { libc } from "./libc.ts";
import { type Block, block, blockOf, iovecs, path, timespec } from "./rings.ts";
import { Connection, loopback, tcp } from "./sockets.ts";

/** What the entries work on: files, pipes and sockets that are ready for it. */
export class Things implements Disposable {
  readonly dir: TempDir;
  readonly file: Fd;
  readonly pipe: Pipe = new Pipe();
  readonly target: Pipe = new Pipe();
  readonly sockets: Connection = Connection.unix(abi.SOCK_NONBLOCK);
  readonly socket: Fd = tcp(abi.SOCK_NONBLOCK);
  readonly bound: Fd = tcp(abi.SOCK_NONBLOCK);
  readonly epoll: Fd = new Fd(check(libc().epoll_create1(0), "epoll_create1"));
  readonly memory: Mapping = Mapping.anonymous(8192);
  readonly buffer: Block = blockOf("0123456789abcdef");
  readonly #stack = new DisposableStack();

  constructor(dir: TempDir) {
    this.dir = dir;
    writeFileSync(dir.of("file"), "content of the file");
    writeFileSync(dir.of("gone"), "");
    mkdirSync(dir.of("folder"));
    this.file = Fd.open(dir.of("file"), abi.O_RDWR);
    for (
      const thing of [this.file, this.pipe, this.target, this.sockets, this.socket, this.bound, this.epoll]
    ) {
      this.#stack.use(thing);
    }
    this.#stack.use(this.memory);
    this.pipe.write("in the pipe");
  }

  /** The address of a path in the directory. */
  at(name: string): number {
    return path(this.dir.of(name));
  }

  [Symbol.dispose](): void {
    this.#stack.dispose();
  }
}

type Prep = (sqe: Sqe, things: Things) => void;

function message({ buffer }: Things): number {
  const header = block(56);
  header.view.setBigUint64(16, BigInt(iovecs([buffer]).address), true);
  header.view.setBigUint64(24, 1n, true);
  return header.address;
}

function openHow(flags: number): number {
  const how = block(open_how.size);
  how.view.setBigUint64(open_how.flags, BigInt(flags), true);
  how.view.setBigUint64(open_how.mode, 0o600n, true);
  return how.address;
}

/** Makes the entry of each operation, by its number. */
export const ALL_OPERATIONS: ReadonlyMap<number, Prep> = new Map<number, Prep>([
  [abi.IORING_OP_NOP, (sqe) => sqe.prepNop()],
  [abi.IORING_OP_READV, (sqe, t) => sqe.prepReadv(t.file.fd, iovecs([t.buffer]).address, 1, 0)],
  [abi.IORING_OP_WRITEV, (sqe, t) => sqe.prepWritev(t.file.fd, iovecs([t.buffer]).address, 1, 0)],
  [abi.IORING_OP_FSYNC, (sqe, t) => sqe.prepFsync(t.file.fd, 0)],
  [abi.IORING_OP_READ_FIXED, (sqe, t) => sqe.prepReadFixed(t.file.fd, t.memory.address, 8, 0, 0)],
  [abi.IORING_OP_WRITE_FIXED, (sqe, t) => sqe.prepWriteFixed(t.file.fd, t.memory.address, 8, 0, 0)],
  [abi.IORING_OP_POLL_ADD, (sqe, t) => sqe.prepPollAdd(t.pipe.reader.fd, abi.POLLIN)],
  [abi.IORING_OP_POLL_REMOVE, (sqe) => sqe.prepPollRemove(1)],
  [abi.IORING_OP_SYNC_FILE_RANGE, (sqe, t) => sqe.prepSyncFileRange(t.file.fd, 8, 0, 0)],
  [abi.IORING_OP_SENDMSG, (sqe, t) => sqe.prepSendmsg(t.sockets.a.fd, message(t), 0)],
  [abi.IORING_OP_RECVMSG, (sqe, t) => sqe.prepRecvmsg(t.sockets.b.fd, message(t), abi.MSG_DONTWAIT)],
  [abi.IORING_OP_TIMEOUT, (sqe) => sqe.prepTimeout(timespec(1), 0, 0)],
  [abi.IORING_OP_TIMEOUT_REMOVE, (sqe) => sqe.prepTimeoutRemove(1, 0)],
  [abi.IORING_OP_ACCEPT, (sqe, t) => sqe.prepAccept(t.bound.fd, 0, 0, 0)],
  [abi.IORING_OP_ASYNC_CANCEL, (sqe) => sqe.prepCancel64(1, 0)],
  [abi.IORING_OP_LINK_TIMEOUT, (sqe) => sqe.prepLinkTimeout(timespec(1), 0)],
  [abi.IORING_OP_CONNECT, (sqe, t) => sqe.prepConnect(t.socket.fd, loopback(1).address, 16)],
  [abi.IORING_OP_FALLOCATE, (sqe, t) => sqe.prepFallocate(t.file.fd, 0, 0, 100_000)],
  [
    abi.IORING_OP_OPENAT,
    (sqe, t) => sqe.prepOpenat(abi.AT_FDCWD, t.at("made"), abi.O_CREAT | abi.O_RDWR, 0o600),
  ],
  [abi.IORING_OP_CLOSE, (sqe, t) => sqe.prepClose(t.file.fd)],
  [abi.IORING_OP_FILES_UPDATE, (sqe) => sqe.prepFilesUpdate(blockOf("\xff\xff\xff\xff").address, 1, 0)],
  [
    abi.IORING_OP_STATX,
    (sqe, t) => sqe.prepStatx(abi.AT_FDCWD, t.at("file"), 0, abi.STATX_ALL, block(256).address),
  ],
  [abi.IORING_OP_READ, (sqe, t) => sqe.prepRead(t.file.fd, t.buffer.address, 7, 0)],
  [abi.IORING_OP_WRITE, (sqe, t) => sqe.prepWrite(t.file.fd, t.buffer.address, 7, 0)],
  [abi.IORING_OP_FADVISE, (sqe, t) => sqe.prepFadvise(t.file.fd, 0, 0, abi.POSIX_FADV_NORMAL)],
  [abi.IORING_OP_MADVISE, (sqe, t) => sqe.prepMadvise(t.memory.address, 4096, abi.MADV_NORMAL)],
  [abi.IORING_OP_SEND, (sqe, t) => sqe.prepSend(t.sockets.a.fd, t.buffer.address, 4, 0)],
  [abi.IORING_OP_RECV, (sqe, t) => sqe.prepRecv(t.sockets.b.fd, t.buffer.address, 4, abi.MSG_DONTWAIT)],
  [
    abi.IORING_OP_OPENAT2,
    (sqe, t) => sqe.prepOpenat2(abi.AT_FDCWD, t.at("made"), openHow(abi.O_CREAT | abi.O_RDWR)),
  ],
  [
    abi.IORING_OP_EPOLL_CTL,
    (sqe, t) => sqe.prepEpollCtl(t.epoll.fd, t.pipe.reader.fd, abi.EPOLL_CTL_ADD, block(16).address),
  ],
  [abi.IORING_OP_SPLICE, (sqe, t) => sqe.prepSplice(t.pipe.reader.fd, -1, t.target.writer.fd, -1, 4, 0)],
  [abi.IORING_OP_PROVIDE_BUFFERS, (sqe, t) => sqe.prepProvideBuffers(t.memory.address, 16, 1, 5, 0)],
  [abi.IORING_OP_REMOVE_BUFFERS, (sqe) => sqe.prepRemoveBuffers(1, 5)],
  [abi.IORING_OP_TEE, (sqe, t) => sqe.prepTee(t.pipe.reader.fd, t.target.writer.fd, 4, 0)],
  [abi.IORING_OP_SHUTDOWN, (sqe, t) => sqe.prepShutdown(t.sockets.a.fd, abi.SHUT_WR)],
  [abi.IORING_OP_RENAMEAT, (sqe, t) => sqe.prepRename(t.at("gone"), t.at("renamed"))],
  [abi.IORING_OP_UNLINKAT, (sqe, t) => sqe.prepUnlink(t.at("gone"), 0)],
  [abi.IORING_OP_MKDIRAT, (sqe, t) => sqe.prepMkdir(t.at("directory"), 0o700)],
  [abi.IORING_OP_SYMLINKAT, (sqe, t) => sqe.prepSymlink(t.at("file"), t.at("symlink"))],
  [abi.IORING_OP_LINKAT, (sqe, t) => sqe.prepLink(t.at("file"), t.at("link"), 0)],
  [abi.IORING_OP_MSG_RING, (sqe, t) => sqe.prepMsgRing(t.file.fd, 1, 2, 0)],
  [abi.IORING_OP_FSETXATTR, (sqe, t) => sqe.prepFsetxattr(t.file.fd, path("user.a"), t.buffer.address, 0, 4)],
  [
    abi.IORING_OP_SETXATTR,
    (sqe, t) => sqe.prepSetxattr(path("user.a"), t.buffer.address, t.at("file"), 0, 4),
  ],
  [abi.IORING_OP_FGETXATTR, (sqe, t) => sqe.prepFgetxattr(t.file.fd, path("user.a"), t.buffer.address, 4)],
  [abi.IORING_OP_GETXATTR, (sqe, t) => sqe.prepGetxattr(path("user.a"), t.buffer.address, t.at("file"), 4)],
  [abi.IORING_OP_SOCKET, (sqe) => sqe.prepSocket(abi.AF_INET, abi.SOCK_STREAM, 0, 0)],
  [abi.IORING_OP_URING_CMD, (sqe, t) => sqe.prepUringCmd(abi.SOCKET_URING_OP_SIOCINQ, t.sockets.a.fd)],
  [abi.IORING_OP_SEND_ZC, (sqe, t) => sqe.prepSendZc(t.sockets.a.fd, t.buffer.address, 4, 0, 0)],
  [abi.IORING_OP_SENDMSG_ZC, (sqe, t) => sqe.prepSendmsgZc(t.sockets.a.fd, message(t), 0)],
  [abi.IORING_OP_READ_MULTISHOT, (sqe, t) => sqe.prepReadMultishot(t.pipe.reader.fd, 0, -1, 5)],
  [abi.IORING_OP_WAITID, (sqe) => sqe.prepWaitid(abi.P_PID, 1, block(128).address, abi.WEXITED, 0)],
  [
    abi.IORING_OP_FUTEX_WAIT,
    (sqe, t) => sqe.prepFutexWait(t.memory.address, 1, 0xffff_ffff, abi.FUTEX_32, 0),
  ],
  [
    abi.IORING_OP_FUTEX_WAKE,
    (sqe, t) => sqe.prepFutexWake(t.memory.address, 1, 0xffff_ffff, abi.FUTEX_32, 0),
  ],
  [abi.IORING_OP_FUTEX_WAITV, (sqe) => sqe.prepFutexWaitv(block(24).address, 1, 0)],
  [abi.IORING_OP_FIXED_FD_INSTALL, (sqe) => sqe.prepFixedFdInstall(0, 0)],
  [abi.IORING_OP_FTRUNCATE, (sqe, t) => sqe.prepFtruncate(t.file.fd, 0)],
  [abi.IORING_OP_BIND, (sqe, t) => sqe.prepBind(t.bound.fd, loopback(0).address, 16)],
  [abi.IORING_OP_LISTEN, (sqe, t) => sqe.prepListen(t.bound.fd, 1)],
  [abi.IORING_OP_RECV_ZC, (sqe, t) => {
    sqe.prepRw(abi.IORING_OP_RECV_ZC, t.sockets.b.fd, 0, 0, 0);
    sqe.ioprio = abi.IORING_RECV_MULTISHOT;
  }],
  [abi.IORING_OP_EPOLL_WAIT, (sqe, t) => sqe.prepEpollWait(t.epoll.fd, block(64).address, 1, 0)],
  [
    abi.IORING_OP_READV_FIXED,
    (sqe, t) => sqe.prepReadvFixed(t.file.fd, iovecs([t.buffer]).address, 1, 0, 0, 0),
  ],
  [
    abi.IORING_OP_WRITEV_FIXED,
    (sqe, t) => sqe.prepWritevFixed(t.file.fd, iovecs([t.buffer]).address, 1, 0, 0, 0),
  ],
  [abi.IORING_OP_PIPE, (sqe) => sqe.prepPipe(block(8).address, 0)],
  [abi.IORING_OP_NOP128, (sqe) => sqe.prepNop128()],
  [abi.IORING_OP_URING_CMD128, (sqe, t) => sqe.prepUringCmd128(0, t.sockets.a.fd)],
]);

/** What can be seen of the things: an operation that was done after all would have changed it. */
export function appearance({ dir, file, pipe, target }: Things): unknown {
  const bytes = new Uint8Array(new ArrayBuffer(64));
  check(libc().lseek(file.fd, 0, abi.SEEK_SET), "lseek");
  const size = check(system().read(file.fd, bytes, 64), "read");
  const waiting = pipe.read();
  pipe.write(waiting);
  return [
    readdirSync(dir.path).sort(),
    new TextDecoder().decode(bytes.subarray(0, size)),
    waiting,
    target.read(),
  ];
}
