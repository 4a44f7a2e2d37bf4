/**
 * C functions that the library itself does not need: what a test holds against the ring's own operations.
 *
 * @module
 */
import type { Functions, SymbolTable } from "../../src/ffi/symbols.ts";
import { adapter, system } from "../../src/ffi/system.ts";

const TABLE = {
  // int socket(int domain, int type, int protocol)
  socket: { result: "i32", args: ["i32", "i32", "i32"] },
  // int bind(int fd, const struct sockaddr *addr, socklen_t len)
  bind: { result: "i32", args: ["i32", "bytes", "u32"] },
  // int listen(int fd, int backlog)
  listen: { result: "i32", args: ["i32", "i32"] },
  // int connect(int fd, const struct sockaddr *addr, socklen_t len)
  connect: { result: "i32", args: ["i32", "bytes", "u32"] },
  // int accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags)
  accept4: { result: "i32", args: ["i32", "bytes", "bytes", "i32"] },
  // ssize_t send(int fd, const void *buf, size_t len, int flags)
  send: { result: "i32", args: ["i32", "bytes", "word", "i32"] },
  // ssize_t recv(int fd, void *buf, size_t len, int flags)
  recv: { result: "i32", args: ["i32", "bytes", "word", "i32"] },
  // int shutdown(int fd, int how)
  shutdown: { result: "i32", args: ["i32", "i32"] },
  // int dup(int fd)
  dup: { result: "i32", args: ["i32"] },
  // off_t lseek(int fd, off_t offset, int whence)
  lseek: { result: "word", args: ["i32", "word", "i32"] },
  // int poll(struct pollfd *fds, nfds_t nfds, int timeout)
  poll: { result: "i32", args: ["bytes", "word", "i32"] },
  // int epoll_create1(int flags)
  epoll_create1: { result: "i32", args: ["i32"] },
  // int epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
  epoll_ctl: { result: "i32", args: ["i32", "i32", "i32", "bytes"] },
  // int epoll_wait(int epfd, struct epoll_event *events, int maxevents, int timeout)
  epoll_wait: { result: "i32", args: ["i32", "bytes", "i32", "i32"] },
  // int timerfd_create(int clockid, int flags)
  timerfd_create: { result: "i32", args: ["i32", "i32"] },
  // int timerfd_settime(int fd, int flags, const struct itimerspec *new_value, struct itimerspec *old_value)
  timerfd_settime: { result: "i32", args: ["i32", "i32", "bytes", "bytes"] },
  // int signalfd(int fd, const sigset_t *mask, int flags)
  signalfd: { result: "i32", args: ["i32", "bytes", "i32"] },
  // int pthread_sigmask(int how, const sigset_t *set, sigset_t *oldset)
  pthread_sigmask: { result: "i32", args: ["i32", "bytes", "bytes"] },
  // pthread_t pthread_self(void)
  pthread_self: { result: "word", args: [] },
  // int pthread_kill(pthread_t thread, int sig)
  pthread_kill: { result: "i32", args: ["word", "i32"] },
  // int ioctl(int fd, unsigned long request, ...)
  ioctl: { result: "i32", args: ["i32", "word", "bytes"] },
  // int statx(int dirfd, const char *path, int flags, unsigned mask, struct statx *buf)
  statx: { result: "i32", args: ["i32", "bytes", "i32", "u32", "bytes"] },
  // int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *, const posix_spawnattr_t *,
  //   char *const argv[], char *const envp[])
  posix_spawn: { result: "i32", args: ["bytes", "bytes", "bytes", "bytes", "bytes", "bytes"] },
  // pid_t waitpid(pid_t pid, int *status, int options)
  waitpid: { result: "i32", args: ["i32", "bytes", "i32"] },
  // int kill(pid_t pid, int sig)
  kill: { result: "i32", args: ["i32", "i32"] },
  // long syscall(long number, ...): for those with up to two small arguments
  syscall: { result: "i32", args: ["i32", "i32", "u32"] },
  // int ftruncate(int fd, off_t length)
  ftruncate: { result: "i32", args: ["i32", "word"] },
  // int memfd_create(const char *name, unsigned flags)
  memfd_create: { result: "i32", args: ["bytes", "u32"] },
  // int fanotify_init(unsigned flags, unsigned event_f_flags)
  fanotify_init: { result: "i32", args: ["u32", "u32"] },
  // int fanotify_mark(int fd, unsigned flags, uint64_t mask, int dirfd, const char *path)
  fanotify_mark: { result: "i32", args: ["i32", "u32", "word", "i32", "bytes"] },
} as const;

let opened: Functions<typeof TABLE> | undefined;

/** The functions; each returns the C result, or `-errno` where C would return −1. */
export function libc(): Functions<typeof TABLE> {
  return opened ??= openLibc(TABLE);
}

/** More functions of libc, which may lack them. */
export function openLibc<T extends SymbolTable>(table: T): Functions<T> {
  const { libc: library } = system();
  const errno = new Int32Array(adapter.bufferAt(adapter.errnoAddress(library), 4));
  const wrapped: Record<string, (...args: never[]) => number> = {};
  for (const [name, call] of Object.entries(adapter.open(library, table))) {
    const raw = call as (...args: never[]) => number;
    wrapped[name] = (...args) => {
      const result = raw(...args);
      return result === -1 || result >= 2 ** 63 ? -errno[0]! : result;
    };
  }
  return wrapped as unknown as Functions<T>;
}
