/*
 * A pass-through file system with libfuse's low-level interface, as far as files are looked up, listed and read.
 * Reads bypass the page cache of the mount.
 * usage: fuse_libfuse single|multi DIRECTORY MOUNTPOINT
 * Says "mounted" when it serves; SIGTERM ends it. twins: fuse_loop.c, examples/passthrough.ts
 */
#define _GNU_SOURCE
#define FUSE_USE_VERSION 312
#define _FILE_OFFSET_BITS 64
#include <fuse3/fuse_lowlevel.h>

#include "passthrough.h"

#define MOST (1u << 20)

static struct inode *inode_of(fuse_ino_t ino)
{
	return ino == FUSE_ROOT_ID ? &root : (struct inode *)ino;
}

static int look_up(fuse_ino_t parent, const char *name, struct fuse_entry_param *entry)
{
	struct inode *found = NULL;
	int error;

	memset(entry, 0, sizeof(*entry));
	entry->attr_timeout = entry->entry_timeout = CACHE_SECONDS;
	error = inode_look_up(inode_of(parent), name, &entry->attr, &found);
	entry->ino = (fuse_ino_t)found;
	return error;
}

static void lookup_op(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param entry;
	int error = look_up(parent, name, &entry);

	if (error)
		fuse_reply_err(req, error);
	else
		fuse_reply_entry(req, &entry);
}

static void forget_op(fuse_req_t req, fuse_ino_t ino, uint64_t lookups)
{
	inode_forget(inode_of(ino), lookups);
	fuse_reply_none(req);
}

static void forget_multi_op(fuse_req_t req, size_t count, struct fuse_forget_data *all)
{
	for (size_t i = 0; i < count; i++)
		inode_forget(inode_of(all[i].ino), all[i].nlookup);
	fuse_reply_none(req);
}

static void getattr_op(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *file)
{
	struct stat about;

	(void)file;
	if (fstatat(inode_of(ino)->fd, "", &about, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0)
		fuse_reply_err(req, errno);
	else
		fuse_reply_attr(req, &about, CACHE_SECONDS);
}

static void open_op(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *file)
{
	int fd = inode_open(inode_of(ino), file->flags);

	if (fd < 0) {
		fuse_reply_err(req, errno);
		return;
	}
	file->fh = (uint64_t)fd;
	file->direct_io = 1;
	fuse_reply_open(req, file);
}

static void release_op(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *file)
{
	(void)ino;
	close((int)file->fh);
	fuse_reply_err(req, 0);
}

/* Small reads go through memory in libfuse, too, whatever it is given: splicing pays for large ones only. */
static void read_op(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *file)
{
	static __thread char bytes[MOST] __attribute__((aligned(4096)));
	ssize_t count = pread((int)file->fh, bytes, size < MOST ? size : MOST, offset);

	(void)ino;
	if (count < 0)
		fuse_reply_err(req, errno);
	else
		fuse_reply_buf(req, bytes, (size_t)count);
}

static void opendir_op(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *file)
{
	struct directory *opened = directory_open(inode_of(ino));

	if (!opened) {
		fuse_reply_err(req, errno);
		return;
	}
	file->fh = (uint64_t)opened;
	fuse_reply_open(req, file);
}

static size_t add_entry(fuse_req_t req, fuse_ino_t ino, char *at, size_t room, struct dirent *entry, int plus)
{
	struct fuse_entry_param found = { .attr = { .st_ino = entry->d_ino, .st_mode = (mode_t)entry->d_type << 12 } };
	size_t size;

	if (!plus)
		return fuse_add_direntry(req, at, room, entry->d_name, &found.attr, entry->d_off);
	if (!is_dots(entry->d_name) && look_up(ino, entry->d_name, &found) != 0)
		return 0;
	size = fuse_add_direntry_plus(req, at, room, entry->d_name, &found, entry->d_off);
	if (size > room && found.ino != 0)
		inode_forget(inode_of(found.ino), 1);
	return size;
}

static void list(fuse_req_t req, fuse_ino_t ino, size_t room, off_t offset, struct fuse_file_info *file, int plus)
{
	struct directory *opened = (struct directory *)file->fh;
	char *bytes = malloc(room);
	size_t used = 0;

	if (!bytes)
		die("out of memory");
	for (struct dirent *entry; (entry = directory_at(opened, offset)) != NULL; offset = directory_next(opened)) {
		size_t size = add_entry(req, ino, bytes + used, room - used, entry, plus);

		if (size > room - used)
			break;
		used += size;
	}
	fuse_reply_buf(req, bytes, used);
	free(bytes);
}

static void readdir_op(fuse_req_t req, fuse_ino_t ino, size_t room, off_t offset, struct fuse_file_info *file)
{
	list(req, ino, room, offset, file, 0);
}

static void readdirplus_op(fuse_req_t req, fuse_ino_t ino, size_t room, off_t offset, struct fuse_file_info *file)
{
	list(req, ino, room, offset, file, 1);
}

static void releasedir_op(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *file)
{
	(void)ino;
	directory_close((struct directory *)file->fh);
	fuse_reply_err(req, 0);
}

static const struct fuse_lowlevel_ops operations = {
	.lookup = lookup_op,
	.forget = forget_op,
	.forget_multi = forget_multi_op,
	.getattr = getattr_op,
	.open = open_op,
	.release = release_op,
	.read = read_op,
	.opendir = opendir_op,
	.readdir = readdir_op,
	.readdirplus = readdirplus_op,
	.releasedir = releasedir_op,
};

int main(int argc, char **argv)
{
	char *words[] = { argv[0], "-o", "allow_other,default_permissions", NULL };
	struct fuse_args args = FUSE_ARGS_INIT(3, words);
	struct fuse_session *session;
	int failed;

	if (argc != 4)
		die("usage: fuse_libfuse single|multi DIRECTORY MOUNTPOINT");
	open_root(argv[2]);
	session = fuse_session_new(&args, &operations, sizeof(operations), NULL);
	if (!session || fuse_set_signal_handlers(session) != 0 || fuse_session_mount(session, argv[3]) != 0)
		die("cannot mount at %s", argv[3]);
	/* The kernel holds back the first request until INIT is answered. */
	printf("mounted\n");
	fflush(stdout);
	if (strcmp(argv[1], "multi") == 0) {
		struct fuse_loop_config *config = fuse_loop_cfg_create();

		fuse_loop_cfg_set_clone_fd(config, 1);
		failed = fuse_session_loop_mt(session, config);
		fuse_loop_cfg_destroy(config);
	} else {
		failed = fuse_session_loop(session);
	}
	fuse_session_unmount(session);
	fuse_remove_signal_handlers(session);
	fuse_session_destroy(session);
	fuse_opt_free_args(&args);
	return failed < 0;
}
