/*
 * The client of file systems that are mounted.
 *
 *   mount_load read FILE PAGES CLIENTS SERVER_PID WARM_MS MEASURED_MS
 *       so many threads, each of which reads pages of 4 KiB at random places, one at a time; page N begins with N
 *   mount_load list DIRECTORY FILES BYTES SERVER_PID WARM_MS MEASURED_MS MOUNTPOINT
 *       lists a directory with all attributes, again and again. FILES and BYTES are how many files there are and how large
 *       they are together. Before each time whatever the kernel knows of the file system is dropped, by remounting it
 *
 * Prints "done OPERATIONS NANOSECONDS CPU_NANOSECONDS P50": pages or files; CPU time is the server's, 0 where SERVER_PID is
 * 0, because there is none (then nothing is dropped either). P50 is the median of the reads, or of the time per file.
 */
#define _GNU_SOURCE
#include "client.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE 4096u
#define MOST_CLIENTS 256
#define QUIET_NS 2000000u
#define QUIET_TRIES 200

struct reader {
	pthread_t thread;
	uint32_t random;
	uint64_t reads;
	uint64_t took[BUCKETS];
};

static int file;
static uint32_t pages;
static uint64_t measured_from, measured_until;

static void *read_pages(void *argument)
{
	struct reader *self = argument;
	uint32_t *page = aligned_alloc(PAGE, PAGE);
	uint64_t before = now_ns();

	if (!page)
		die("out of memory");
	while (before < measured_until) {
		uint32_t wanted;
		uint64_t after;

		self->random = next_random(self->random);
		wanted = self->random % pages;
		if (pread(file, page, PAGE, (off_t)wanted * PAGE) != PAGE)
			die("pread: %s", strerror(errno));
		if (page[0] != wanted)
			die("another page: %u, not %u", page[0], wanted);
		after = now_ns();
		if (before >= measured_from && after <= measured_until) {
			self->reads++;
			self->took[bucket_of(after - before)]++;
		}
		before = after;
	}
	free(page);
	return NULL;
}

static void sleep_until(uint64_t ns)
{
	struct timespec t = { (time_t)(ns / 1000000000u), (long)(ns % 1000000000u) };

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
		;
}

static void measure_reads(unsigned clients, uint64_t warm_ns, uint64_t measured_ns)
{
	struct reader *readers = calloc(clients, sizeof(*readers));
	uint64_t cpu, reads = 0;

	if (!readers)
		die("out of memory");
	measured_from = now_ns() + warm_ns;
	measured_until = measured_from + measured_ns;
	for (unsigned i = 0; i < clients; i++) {
		readers[i].random = 0x9e3779b9u + i * 0x85ebca6bu;
		if (pthread_create(&readers[i].thread, NULL, read_pages, &readers[i]) != 0)
			die("pthread_create");
	}
	sleep_until(measured_from);
	cpu = server_cpu();
	sleep_until(measured_until);
	cpu = server_cpu() - cpu;
	for (unsigned i = 0; i < clients; i++) {
		pthread_join(readers[i].thread, NULL);
		reads += readers[i].reads;
		for (unsigned bucket = 0; bucket < BUCKETS; bucket++)
			buckets[bucket] += readers[i].took[bucket];
	}
	printf("done %lu %lu %lu %lu\n", reads, measured_ns, cpu, percentile(0.5));
}

/* What the kernel is told to forget the server is told later. */
static void wait_until_quiet(void)
{
	for (unsigned i = 0; i < QUIET_TRIES; i++) {
		uint64_t cpu = server_cpu();

		sleep_until(now_ns() + QUIET_NS);
		if (server_cpu() - cpu < QUIET_NS / 20)
			return;
	}
}

static void drop(const char *mountpoint)
{
	if (mount(NULL, mountpoint, NULL, MS_REMOUNT | MS_NOSUID | MS_NODEV, NULL) < 0)
		die("cannot remount %s: %s", mountpoint, strerror(errno));
	wait_until_quiet();
}

static void list(const char *path, uint64_t files, uint64_t bytes)
{
	DIR *dir = opendir(path);
	uint64_t found = 0, sum = 0;

	if (!dir)
		die("opendir: %s", strerror(errno));
	for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
		struct stat about;

		if (fstatat(dirfd(dir), entry->d_name, &about, AT_SYMLINK_NOFOLLOW) < 0)
			die("fstatat: %s", strerror(errno));
		if (!S_ISREG(about.st_mode))
			continue;
		found++;
		sum += (uint64_t)about.st_size;
	}
	closedir(dir);
	if (found != files || sum != bytes)
		die("%lu files of %lu bytes, not %lu of %lu", found, sum, files, bytes);
}

static void measure_lists(char **words, uint64_t files, uint64_t bytes, uint64_t warm_ns, uint64_t measured_ns)
{
	const char *path = words[2], *mountpoint = words[8];
	uint64_t begun = now_ns(), wall = 0, cpu = 0, listed = 0;

	while (wall < measured_ns) {
		uint64_t before, cpu_before, took;

		if (clock_count > 0)
			drop(mountpoint);
		cpu_before = server_cpu();
		before = now_ns();
		list(path, files, bytes);
		took = now_ns() - before;
		if (before - begun < warm_ns)
			continue;
		wall += took;
		cpu += server_cpu() - cpu_before;
		listed += files;
		buckets[bucket_of(took / files)]++;
	}
	printf("done %lu %lu %lu %lu\n", listed, wall, cpu, percentile(0.5));
}

int main(int argc, char **argv)
{
	int reads = argc == 8 && strcmp(argv[1], "read") == 0;

	if (!reads && !(argc == 9 && strcmp(argv[1], "list") == 0))
		die("usage: mount_load read FILE PAGES CLIENTS PID WARM_MS MS | list DIRECTORY FILES BYTES PID WARM_MS MS MOUNTPOINT");
	if (strcmp(argv[5], "0") != 0)
		find_clocks(argv[5]);
	uint64_t warm_ns = strtoull(argv[6], NULL, 10) * 1000000u, measured_ns = strtoull(argv[7], NULL, 10) * 1000000u;
	uint64_t first = strtoull(argv[3], NULL, 10), second = strtoull(argv[4], NULL, 10);

	if (!reads) {
		measure_lists(argv, first, second, warm_ns, measured_ns);
		return 0;
	}
	if (first == 0 || second == 0 || second > MOST_CLIENTS)
		die("no pages, or not 1 to %d clients", MOST_CLIENTS);
	pages = (uint32_t)first;
	file = open(argv[2], O_RDONLY | O_CLOEXEC);
	if (file < 0)
		die("%s: %s", argv[2], strerror(errno));
	measure_reads((unsigned)second, warm_ns, measured_ns);
	return 0;
}
