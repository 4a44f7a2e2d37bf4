/*
 * The C end of the conversation with bench/main.ts; bench/programs/rounds.ts is its twin in TypeScript.
 *
 * The harness keeps this process alive and asks, one line at a time:
 *   warm CASE MIN_OPS MIN_MS ROUND_MS   run the case until it is warm, settle how many operations a round takes
 *   run CASE                            one measured round
 *   once CASE OPS                       so many operations, measured, and none before
 *   check CASE OPS                      so many operations, and a digest of what was read or written
 * Each is answered with one line: "ready OPS", "done OPS NANOSECONDS" (also to once) or "checked DIGEST". Between two
 * lines the process sleeps in read(2).
 */
#ifndef URING_BENCH_ROUNDS_H
#define URING_BENCH_ROUNDS_H

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ROUNDS_CASES_MAX 32

/*
 * While rounds_checking is set, bodies add what they have read or done to the digest, in such a way that the order does
 * not matter: all contenders of a case must come to the same.
 */
static int rounds_checking;
static uint32_t rounds_digest;

/* Runs `ops` operations (a multiple of `parameter`) of the case named by its parameter: a batch or a depth. */
typedef void rounds_body(unsigned parameter, uint64_t ops);

__attribute__((noreturn, format(printf, 1, 2))) static inline void die(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
	exit(1);
}

static inline uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* The same generator, with the same seed, chooses the pages in the TypeScript programs. */
static inline uint32_t next_random(uint32_t x)
{
	x ^= x << 13;
	x ^= x >> 17;
	x ^= x << 5;
	return x;
}

static inline uint64_t rounds_up(uint64_t ops, unsigned parameter)
{
	return (ops + parameter - 1) / parameter * parameter;
}

static inline uint64_t rounds_timed(rounds_body *body, unsigned parameter, uint64_t ops)
{
	uint64_t start = now_ns();

	body(parameter, ops);
	return now_ns() - start;
}

static inline uint64_t rounds_warm(rounds_body *body, unsigned parameter, uint64_t min_ops, uint64_t min_ns,
				   uint64_t round_ns)
{
	uint64_t ops = rounds_up(64, parameter), total_ops = 0, total_ns = 0, ns;

	for (;;) {
		ns = rounds_timed(body, parameter, ops);
		total_ops += ops;
		total_ns += ns;
		if (total_ops >= min_ops && total_ns >= min_ns && ns >= round_ns / 4)
			break;
		if (ns < round_ns / 2)
			ops *= 2;
	}
	return rounds_up((uint64_t)((double)ops * (double)round_ns / (double)ns), parameter);
}

static inline int rounds_serve(rounds_body *body)
{
	struct {
		unsigned parameter;
		uint64_t ops;
	} cases[ROUNDS_CASES_MAX];
	unsigned known = 0, parameter, i;
	unsigned long long min_ops, min_ms, round_ms, ops;
	uint64_t ns;
	char line[256];

	setvbuf(stdout, NULL, _IOLBF, 0);
	while (fgets(line, sizeof(line), stdin)) {
		if (sscanf(line, "warm %u %llu %llu %llu", &parameter, &min_ops, &min_ms, &round_ms) == 4) {
			if (parameter == 0 || known == ROUNDS_CASES_MAX)
				die("cannot take another case: %s", line);
			cases[known].parameter = parameter;
			cases[known].ops = rounds_warm(body, parameter, min_ops, min_ms * 1000000u,
						       round_ms * 1000000u);
			printf("ready %llu\n", (unsigned long long)cases[known].ops);
			known++;
		} else if (sscanf(line, "run %u", &parameter) == 1) {
			for (i = 0; i < known && cases[i].parameter != parameter; i++)
				;
			if (i == known)
				die("a case that was never warmed: %s", line);
			/* A tenth first, unmeasured: other processes had the caches since the last round. */
			body(parameter, rounds_up(cases[i].ops / 10, parameter));
			ns = rounds_timed(body, parameter, cases[i].ops);
			printf("done %llu %llu\n", (unsigned long long)cases[i].ops, (unsigned long long)ns);
		} else if (sscanf(line, "once %u %llu", &parameter, &ops) == 2) {
			ns = rounds_timed(body, parameter, ops);
			printf("done %llu %llu\n", ops, (unsigned long long)ns);
		} else if (sscanf(line, "check %u %llu", &parameter, &ops) == 2) {
			rounds_checking = 1;
			rounds_digest = 0;
			body(parameter, ops);
			rounds_checking = 0;
			printf("checked %u\n", rounds_digest);
		} else {
			die("not understood: %s", line);
		}
	}
	return 0;
}

#endif
