/* What the clients in C have in common: the percentiles of round trips, and the CPU time of a server. */
#ifndef URING_BENCH_CLIENT_H
#define URING_BENCH_CLIENT_H

#include "rounds.h"

/* 64 steps to each power of two, so that a percentile is exact to 1.6 %. */
#define STEP_BITS 6
#define STEPS (1u << STEP_BITS)
#define BUCKETS ((64 - STEP_BITS) * STEPS)

static uint64_t buckets[BUCKETS];
static clockid_t clocks[16];
static unsigned clock_count;

static inline unsigned bucket_of(uint64_t ns)
{
	unsigned power;

	if (ns < STEPS)
		return (unsigned)ns;
	power = 63u - (unsigned)__builtin_clzll(ns);
	return (power - STEP_BITS + 1) * STEPS + (unsigned)(ns >> (power - STEP_BITS)) - STEPS;
}

static inline uint64_t value_of(unsigned bucket)
{
	unsigned row = bucket / STEPS;

	return row == 0 ? bucket : (uint64_t)(STEPS + bucket % STEPS) << (row - 1);
}

static inline uint64_t percentile(double part)
{
	uint64_t total = 0, seen = 0;

	for (unsigned i = 0; i < BUCKETS; i++)
		total += buckets[i];
	for (unsigned i = 0; i < BUCKETS; i++) {
		seen += buckets[i];
		if (total > 0 && (double)seen >= part * (double)total)
			return value_of(i);
	}
	return 0;
}

static inline void find_clocks(char *pids)
{
	for (char *pid = strtok(pids, ","); pid; pid = strtok(NULL, ","))
		if (clock_count == sizeof(clocks) / sizeof(*clocks) ||
		    clock_getcpuclockid(atoi(pid), &clocks[clock_count++]) != 0)
			die("no process %s", pid);
}

static inline uint64_t server_cpu(void)
{
	uint64_t total = 0;

	for (unsigned i = 0; i < clock_count; i++) {
		struct timespec t;

		if (clock_gettime(clocks[i], &t) < 0)
			die("the server has gone");
		total += (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
	}
	return total;
}

#endif
