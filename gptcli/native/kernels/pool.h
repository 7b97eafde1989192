/* A pool of threads that work through the phases of a job together.
 *
 * A phase ends when all of its tasks are done, not when all threads have met: a thread that the
 * system has put aside without a task holds up nobody. So another process on a core costs its share
 * of that core and little more. Whoever finishes the last task of a phase opens the next one.
 * Waiting threads poll for a short time, then sleep. */

#pragma once

#include <stdint.h>

/* Does the items `begin` to `end` - 1 of a phase. `thread` is below the number of threads. */
typedef void (*RunItems)(void *job, int64_t phase, int64_t begin, int64_t end, int64_t thread);
/* How many items a phase has; 0 skips it. */
typedef int64_t (*CountItems)(const void *job, int64_t phase);

/* Runs all phases of a job on up to `threads` threads, this one included, and returns after the last
 * one; 0 is as many as the last job had. Jobs of several callers run one after the other. */
void pool_run(void *job, RunItems run, CountItems count, int64_t phases, int64_t threads);
