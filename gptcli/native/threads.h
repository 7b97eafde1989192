/* Threads that run the same phases together and share the tasks of each phase. */

#pragma once

#include <immintrin.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>

#define SPINS 4000 /* polls of a barrier before the thread yields its core */

typedef void (*Parallel)(void (*)(void *), void *, unsigned, unsigned);
typedef int (*Number)(void);

typedef struct {
    Parallel parallel;              /* GOMP_parallel */
    Number thread_num, num_threads; /* omp_get_thread_num, omp_get_num_threads */
    int64_t threads;
} Team;

/* A barrier, and the counters of tasks taken in this phase and the next. */
typedef struct {
    atomic_int arrived, round, tasks[2];
} Barrier;

static void barrier_wait(Barrier *m, int size) {
    int round = atomic_load_explicit(&m->round, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&m->arrived, 1, memory_order_acq_rel) == size - 1) {
        atomic_store_explicit(&m->arrived, 0, memory_order_relaxed);
        /* Resets this phase's counter; the next phase uses the other one. */
        atomic_store_explicit(&m->tasks[round & 1], 0, memory_order_relaxed);
        atomic_store_explicit(&m->round, round + 1, memory_order_release);
        return;
    }
    for (int64_t spins = 0; atomic_load_explicit(&m->round, memory_order_acquire) == round; spins++)
        if (spins < SPINS) _mm_pause();
        else sched_yield();
}

/* Takes the next task of this phase. */
static int64_t next_task(Barrier *m) {
    int round = atomic_load_explicit(&m->round, memory_order_relaxed);
    return atomic_fetch_add_explicit(&m->tasks[round & 1], 1, memory_order_relaxed);
}

/* Loop over the tasks of a phase, and its end; the caller has `barrier` and `size`. */
#define FOR_TASKS(count) for (int64_t i; (i = next_task(barrier)) < (count);)
#define BARRIER barrier_wait(barrier, size)
