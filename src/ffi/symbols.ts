/**
 * The C functions that the library calls, each with the type of its result and of its arguments. The runtime's
 * adapter turns a row into a function; nothing else in the library knows a C signature.
 *
 * @module
 */

/**
 * How a C argument is passed.
 *
 * - `i32`, `u32`: a number.
 * - `word`: a 64-bit integer or an address as a number (up to 2⁵³), for calls off the hot path.
 * - `bytes`: the memory of a view, or `null` for a null pointer.
 */
export type ArgType = "i32" | "u32" | "word" | "bytes";

/** How a C result comes back: a 32-bit integer, or a 64-bit one or an address as a number. */
export type ResultType = "i32" | "word";

/** A C function: its result, then its arguments. */
export interface SymbolSpec {
  /** The type of the result. */
  readonly result: ResultType;
  /** The types of the arguments in order. */
  readonly args: readonly ArgType[];
}

/** A group of functions that one shared library exports. */
export type SymbolTable = Readonly<Record<string, SymbolSpec>>;

/** The JavaScript type for an {@link ArgType}. */
export type ArgValue<T extends ArgType> = T extends "bytes" ? Uint8Array | Int32Array | null : number;

type Arguments<A extends readonly ArgType[]> = { -readonly [I in keyof A]: ArgValue<A[I]> };

/** The functions of a {@link SymbolTable}, callable. */
export type Functions<T extends SymbolTable> = {
  readonly [K in keyof T]: (...args: Arguments<T[K]["args"]>) => number;
};

/** What the kernel's three calls look like in liburing, which returns `-errno`. */
export const LIBURING = {
  // int io_uring_setup(unsigned entries, struct io_uring_params *p)
  io_uring_setup: { result: "i32", args: ["u32", "bytes"] },
  // int io_uring_register(unsigned fd, unsigned opcode, const void *arg, unsigned nr_args)
  io_uring_register: { result: "i32", args: ["i32", "u32", "bytes", "u32"] },
} as const;

/** `io_uring_setup` through libc's `syscall`, which sets `errno`. */
export const SYSCALL_SETUP = {
  // long syscall(long number, unsigned entries, struct io_uring_params *p)
  syscall: { result: "i32", args: ["i32", "u32", "bytes"] },
} as const;

/** `io_uring_register` through libc's `syscall`. */
export const SYSCALL_REGISTER = {
  // long syscall(long number, unsigned fd, unsigned opcode, const void *arg, unsigned nr_args)
  syscall: { result: "i32", args: ["i32", "i32", "u32", "bytes", "u32"] },
} as const;

/** libc functions that every ring needs; each sets `errno` and returns −1 when it fails. */
export const LIBC = {
  // void *mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset)
  mmap: { result: "word", args: ["word", "word", "i32", "i32", "i32", "word"] },
  // int munmap(void *addr, size_t length)
  munmap: { result: "i32", args: ["word", "word"] },
  // int madvise(void *addr, size_t length, int advice)
  madvise: { result: "i32", args: ["word", "word", "i32"] },
  // int close(int fd)
  close: { result: "i32", args: ["i32"] },
} as const;

/** libc functions that the waker needs; opening a symbol takes a tenth of a millisecond, so they wait for their first use. */
export const LIBC_LATER = {
  // int eventfd(unsigned int initval, int flags)
  eventfd: { result: "i32", args: ["u32", "i32"] },
  // int socketpair(int domain, int type, int protocol, int sv[2])
  socketpair: { result: "i32", args: ["i32", "i32", "i32", "bytes"] },
  // ssize_t read(int fd, void *buf, size_t count)
  read: { result: "i32", args: ["i32", "bytes", "u32"] },
  // ssize_t write(int fd, const void *buf, size_t count)
  write: { result: "i32", args: ["i32", "bytes", "u32"] },
} as const;

/** libc functions needed now and then, opened when the first of them is called. */
export const LIBC_RARE = {
  // int getsockname(int fd, struct sockaddr *addr, socklen_t *len)
  getsockname: { result: "i32", args: ["i32", "bytes", "bytes"] },
  // int getpeername(int fd, struct sockaddr *addr, socklen_t *len)
  getpeername: { result: "i32", args: ["i32", "bytes", "bytes"] },
  // int setsockopt(int fd, int level, int name, const void *value, socklen_t len)
  setsockopt: { result: "i32", args: ["i32", "i32", "i32", "bytes", "u32"] },
  // int getsockopt(int fd, int level, int name, void *value, socklen_t *len)
  getsockopt: { result: "i32", args: ["i32", "i32", "i32", "bytes", "bytes"] },
  // int posix_fadvise(int fd, off_t offset, off_t len, int advice)
  posix_fadvise: { result: "i32", args: ["i32", "word", "word", "i32"] },
  // int getrlimit(int resource, struct rlimit *rlim)
  getrlimit: { result: "i32", args: ["i32", "bytes"] },
  // int clock_gettime(clockid_t clock, struct timespec *tp)
  clock_gettime: { result: "i32", args: ["i32", "bytes"] },
  // int uname(struct utsname *buf)
  uname: { result: "i32", args: ["bytes"] },
  // int open(const char *path, int flags, ...)
  open: { result: "i32", args: ["bytes", "i32", "u32"] },
  // int pipe2(int fds[2], int flags)
  pipe2: { result: "i32", args: ["bytes", "i32"] },
  // int epoll_create1(int flags)
  epoll_create1: { result: "i32", args: ["i32"] },
  // int getpagesize(void)
  getpagesize: { result: "i32", args: [] },
} as const;

/** libc functions on files that io_uring has no operation for; each is opened when it is first called. */
export const LIBC_FILES = {
  // int faccessat(int dirfd, const char *path, int mode, int flags)
  faccessat: { result: "i32", args: ["i32", "bytes", "i32", "i32"] },
  // int fchmodat(int dirfd, const char *path, mode_t mode, int flags)
  fchmodat: { result: "i32", args: ["i32", "bytes", "u32", "i32"] },
  // int fchmod(int fd, mode_t mode)
  fchmod: { result: "i32", args: ["i32", "u32"] },
  // int fchownat(int dirfd, const char *path, uid_t owner, gid_t group, int flags)
  fchownat: { result: "i32", args: ["i32", "bytes", "u32", "u32", "i32"] },
  // int fchown(int fd, uid_t owner, gid_t group)
  fchown: { result: "i32", args: ["i32", "u32", "u32"] },
  // int utimensat(int dirfd, const char *path, const struct timespec times[2], int flags)
  utimensat: { result: "i32", args: ["i32", "bytes", "bytes", "i32"] },
  // int futimens(int fd, const struct timespec times[2])
  futimens: { result: "i32", args: ["i32", "bytes"] },
  // ssize_t readlinkat(int dirfd, const char *path, char *buf, size_t size)
  readlinkat: { result: "word", args: ["i32", "bytes", "bytes", "word"] },
  // int statfs(const char *path, struct statfs *buf)
  statfs: { result: "i32", args: ["bytes", "bytes"] },
  // ssize_t getdents64(int fd, void *entries, size_t size)
  getdents64: { result: "word", args: ["i32", "bytes", "word"] },
  // off_t lseek(int fd, off_t offset, int whence)
  lseek: { result: "word", args: ["i32", "word", "i32"] },
  // ssize_t copy_file_range(int in, off_t *in_offset, int out, off_t *out_offset, size_t length, unsigned flags)
  copy_file_range: { result: "word", args: ["i32", "bytes", "i32", "bytes", "word", "u32"] },
  // int ioctl(int fd, unsigned long request, int argument)
  ioctl: { result: "i32", args: ["i32", "word", "i32"] },
  // int fcntl(int fd, int operation, int argument)
  fcntl: { result: "i32", args: ["i32", "i32", "i32"] },
  // int statx(int dirfd, const char *path, int flags, unsigned mask, struct statx *buf)
  statx: { result: "i32", args: ["i32", "bytes", "i32", "u32", "bytes"] },
  // long syscall(SYS_openat2, int dirfd, const char *path, const struct open_how *how, size_t size)
  syscall: { result: "i32", args: ["word", "i32", "bytes", "bytes", "word"] },
  // int inotify_init1(int flags)
  inotify_init1: { result: "i32", args: ["i32"] },
  // int inotify_add_watch(int fd, const char *path, uint32_t mask)
  inotify_add_watch: { result: "i32", args: ["i32", "bytes", "u32"] },
  // int inotify_rm_watch(int fd, int watch)
  inotify_rm_watch: { result: "i32", args: ["i32", "i32"] },
} as const;

/** libc functions about the process; each is opened when it is first called. */
export const LIBC_PROCESS = {
  // int sched_getaffinity(pid_t pid, size_t size, cpu_set_t *mask)
  sched_getaffinity: { result: "i32", args: ["i32", "word", "bytes"] },
  // int setfsuid(uid_t fsuid)
  setfsuid: { result: "i32", args: ["u32"] },
  // int setfsgid(gid_t fsgid)
  setfsgid: { result: "i32", args: ["u32"] },
} as const;

/** libc functions on networks; each is opened when it is first called. */
export const LIBC_NET = {
  // unsigned int if_nametoindex(const char *name)
  if_nametoindex: { result: "i32", args: ["bytes"] },
  // int socket(int domain, int type, int protocol)
  socket: { result: "i32", args: ["i32", "i32", "i32"] },
  // int bind(int fd, const struct sockaddr *addr, socklen_t len)
  bind: { result: "i32", args: ["i32", "bytes", "u32"] },
  // int listen(int fd, int backlog)
  listen: { result: "i32", args: ["i32", "i32"] },
  // int fcntl(int fd, int cmd, int arg)
  fcntl: { result: "i32", args: ["i32", "i32", "i32"] },
  // int shutdown(int fd, int how)
  shutdown: { result: "i32", args: ["i32", "i32"] },
  // int connect(int fd, const struct sockaddr *addr, socklen_t len)
  connect: { result: "i32", args: ["i32", "bytes", "u32"] },
  // ssize_t splice(int in, off_t *in_offset, int out, off_t *out_offset, size_t length, unsigned flags)
  splice: { result: "i32", args: ["i32", "bytes", "i32", "bytes", "u32", "u32"] },
} as const;
