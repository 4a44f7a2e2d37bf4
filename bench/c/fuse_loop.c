/*
 * A pass-through file system without a library, as far as files are looked up, listed and read: one thread that reads a
 * request from /dev/fuse and writes its answer back. Reads bypass the page cache of the mount.
 * usage: fuse_loop DIRECTORY MOUNTPOINT
 * Says "mounted" when it serves; SIGTERM ends it. twins: fuse_libfuse.c, examples/passthrough.ts
 */
#define _GNU_SOURCE
#include <linux/fuse.h>
#include <stddef.h>
#include <sys/uio.h>

#include "passthrough.h"

#define MOST (1u << 20)
#define ROOM (MOST + 4096)

static int device;
static volatile sig_atomic_t ending;
static char answer[ROOM] __attribute__((aligned(4096)));

static void on_signal(int number)
{
	(void)number;
	ending = 1;
}

static struct inode *inode_of(uint64_t node)
{
	return node == FUSE_ROOT_ID ? &root : (struct inode *)node;
}

static void reply(const struct fuse_in_header *in, int error, const void *bytes, size_t length)
{
	struct fuse_out_header out = { (uint32_t)(sizeof(out) + length), -error, in->unique };
	struct iovec parts[2] = { { &out, sizeof(out) }, { (void *)bytes, length } };

	/* ENOENT: whoever asked was interrupted. */
	if (writev(device, parts, length == 0 ? 1 : 2) < 0 && errno != ENOENT && errno != ENODEV)
		die("writev: %s", strerror(errno));
}

static void fill_attributes(struct fuse_attr *to, const struct stat *from)
{
	*to = (struct fuse_attr){
		.ino = from->st_ino,
		.size = (uint64_t)from->st_size,
		.blocks = (uint64_t)from->st_blocks,
		.atime = (uint64_t)from->st_atim.tv_sec,
		.mtime = (uint64_t)from->st_mtim.tv_sec,
		.ctime = (uint64_t)from->st_ctim.tv_sec,
		.atimensec = (uint32_t)from->st_atim.tv_nsec,
		.mtimensec = (uint32_t)from->st_mtim.tv_nsec,
		.ctimensec = (uint32_t)from->st_ctim.tv_nsec,
		.mode = from->st_mode,
		.nlink = (uint32_t)from->st_nlink,
		.uid = from->st_uid,
		.gid = from->st_gid,
		.rdev = (uint32_t)from->st_rdev,
		.blksize = (uint32_t)from->st_blksize,
	};
}

static int look_up(uint64_t parent, const char *name, struct fuse_entry_out *entry)
{
	struct inode *found = NULL;
	struct stat about;
	int error = inode_look_up(inode_of(parent), name, &about, &found);

	if (error)
		return error;
	*entry = (struct fuse_entry_out){
		.nodeid = (uint64_t)found,
		.entry_valid = CACHE_SECONDS,
		.attr_valid = CACHE_SECONDS,
	};
	fill_attributes(&entry->attr, &about);
	return 0;
}

static void do_init(const struct fuse_in_header *in, const struct fuse_init_in *wish)
{
	struct fuse_init_out out = {
		.major = FUSE_KERNEL_VERSION,
		.minor = FUSE_KERNEL_MINOR_VERSION < wish->minor ? FUSE_KERNEL_MINOR_VERSION : wish->minor,
		.max_readahead = wish->max_readahead,
		.flags = wish->flags & (FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO |
					FUSE_PARALLEL_DIROPS | FUSE_MAX_PAGES),
		.max_background = 64,
		.congestion_threshold = 48,
		.max_write = MOST,
		.time_gran = 1,
		.max_pages = MOST / 4096,
	};

	reply(in, 0, &out, sizeof(out));
}

static void do_getattr(const struct fuse_in_header *in)
{
	struct fuse_attr_out out = { .attr_valid = CACHE_SECONDS };
	struct stat about;

	if (fstatat(inode_of(in->nodeid)->fd, "", &about, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0) {
		reply(in, errno, NULL, 0);
		return;
	}
	fill_attributes(&out.attr, &about);
	reply(in, 0, &out, sizeof(out));
}

static void do_open(const struct fuse_in_header *in, const struct fuse_open_in *asked)
{
	int fd = inode_open(inode_of(in->nodeid), (int)asked->flags);
	struct fuse_open_out out = { .fh = (uint64_t)fd, .open_flags = FOPEN_DIRECT_IO };

	reply(in, fd < 0 ? errno : 0, &out, fd < 0 ? 0 : sizeof(out));
}

static void do_opendir(const struct fuse_in_header *in)
{
	struct directory *opened = directory_open(inode_of(in->nodeid));
	struct fuse_open_out out = { .fh = (uint64_t)opened };

	reply(in, opened ? 0 : errno, &out, opened ? sizeof(out) : 0);
}

static void do_read(const struct fuse_in_header *in, const struct fuse_read_in *asked)
{
	ssize_t count = pread((int)asked->fh, answer, asked->size < MOST ? asked->size : MOST, (off_t)asked->offset);

	reply(in, count < 0 ? errno : 0, answer, count < 0 ? 0 : (size_t)count);
}

/* The room that an entry takes; 0 when the file is gone. It is put there if there is so much. */
static size_t add_entry(uint64_t parent, char *at, size_t room, const struct dirent *entry, int plus)
{
	size_t length = strlen(entry->d_name), before = plus ? FUSE_NAME_OFFSET_DIRENTPLUS : FUSE_NAME_OFFSET;
	size_t size = FUSE_DIRENT_ALIGN(before + length);
	struct fuse_direntplus *out = (struct fuse_direntplus *)at;
	struct fuse_dirent *plain = plus ? &out->dirent : (struct fuse_dirent *)at;

	if (size > room)
		return size;
	memset(at, 0, size);
	if (plus && !is_dots(entry->d_name) && look_up(parent, entry->d_name, &out->entry_out) != 0)
		return 0;
	plain->ino = entry->d_ino;
	plain->off = (uint64_t)entry->d_off;
	plain->namelen = (uint32_t)length;
	plain->type = entry->d_type;
	memcpy(plain->name, entry->d_name, length);
	return size;
}

static void do_readdir(const struct fuse_in_header *in, const struct fuse_read_in *asked)
{
	struct directory *opened = (struct directory *)asked->fh;
	size_t room = asked->size < MOST ? asked->size : MOST, used = 0;
	off_t offset = (off_t)asked->offset;

	for (struct dirent *entry; (entry = directory_at(opened, offset)) != NULL; offset = directory_next(opened)) {
		size_t size = add_entry(in->nodeid, answer + used, room - used, entry, in->opcode == FUSE_READDIRPLUS);

		if (size > room - used)
			break;
		used += size;
	}
	reply(in, 0, answer, used);
}

static void do_batch_forget(const struct fuse_batch_forget_in *asked)
{
	const struct fuse_forget_one *all = (const struct fuse_forget_one *)(asked + 1);

	for (uint32_t i = 0; i < asked->count; i++)
		inode_forget(inode_of(all[i].nodeid), all[i].nlookup);
}

static void do_statfs(const struct fuse_in_header *in)
{
	struct fuse_statfs_out out = { .st = { .bsize = 4096, .frsize = 4096, .namelen = 255 } };

	reply(in, 0, &out, sizeof(out));
}

static void serve(const struct fuse_in_header *in, const void *body)
{
	struct fuse_entry_out entry;
	int error;

	switch (in->opcode) {
	case FUSE_INIT:
		do_init(in, body);
		break;
	case FUSE_LOOKUP:
		error = look_up(in->nodeid, body, &entry);
		reply(in, error, &entry, error ? 0 : sizeof(entry));
		break;
	case FUSE_FORGET:
		inode_forget(inode_of(in->nodeid), ((const struct fuse_forget_in *)body)->nlookup);
		break;
	case FUSE_BATCH_FORGET:
		do_batch_forget(body);
		break;
	case FUSE_GETATTR:
		do_getattr(in);
		break;
	case FUSE_OPEN:
		do_open(in, body);
		break;
	case FUSE_OPENDIR:
		do_opendir(in);
		break;
	case FUSE_READ:
		do_read(in, body);
		break;
	case FUSE_READDIR:
	case FUSE_READDIRPLUS:
		do_readdir(in, body);
		break;
	case FUSE_RELEASE:
		close((int)((const struct fuse_release_in *)body)->fh);
		reply(in, 0, NULL, 0);
		break;
	case FUSE_RELEASEDIR:
		directory_close((struct directory *)((const struct fuse_release_in *)body)->fh);
		reply(in, 0, NULL, 0);
		break;
	case FUSE_STATFS:
		do_statfs(in);
		break;
	case FUSE_INTERRUPT:
		break;
	default:
		reply(in, ENOSYS, NULL, 0);
	}
}

int main(int argc, char **argv)
{
	static char request[ROOM] __attribute__((aligned(4096)));
	struct sigaction action = { .sa_handler = on_signal };
	char options[128];

	if (argc != 3)
		die("usage: fuse_loop DIRECTORY MOUNTPOINT");
	open_root(argv[1]);
	device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (device < 0)
		die("/dev/fuse: %s", strerror(errno));
	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions", device);
	if (mount("fuse_loop", argv[2], "fuse", MS_NOSUID | MS_NODEV, options) < 0)
		die("cannot mount at %s: %s", argv[2], strerror(errno));
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	printf("mounted\n");
	fflush(stdout);
	while (!ending) {
		ssize_t count = read(device, request, sizeof(request));

		if (count >= (ssize_t)sizeof(struct fuse_in_header))
			serve((struct fuse_in_header *)request, request + sizeof(struct fuse_in_header));
		else if (count >= 0 || errno == ENODEV)
			break;
		else if (errno != EINTR && errno != EAGAIN && errno != ENOENT)
			die("read: %s", strerror(errno));
	}
	umount2(argv[2], MNT_DETACH);
	return 0;
}
