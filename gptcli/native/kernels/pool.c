/* See pool.h. */

#define _GNU_SOURCE

#include "pool.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>

#if defined(__x86_64__)
#define PAUSE() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define PAUSE() __asm__ volatile("isb")
#else
#define PAUSE() ((void)0)
#endif

#define MAX_THREADS 255
#define MAX_TASKS 4095
#define TASKS_PER_THREAD 12 /* of a phase: few enough to be cheap, many enough to be even */
#define PAUSES 4000         /* polls before a thread offers its core, 20 to 200 microseconds */
#define YIELDS 60           /* offers of the core before a thread sleeps */
#define STACK_BYTES (1 << 20)

/* What is open, in one word, so that a task is taken by one compare-and-swap: the phase (32 bits,
 * counted on from job to job), the threads of the job (8), the phase's tasks (12), and how many of
 * them are taken (12). */
typedef uint64_t State;
#define PHASE(s) ((uint32_t)((s) >> 32))
#define THREADS(s) ((int64_t)((s) >> 24 & 255))
#define TASKS(s) ((int64_t)((s) >> 12 & MAX_TASKS))
#define TAKEN(s) ((int64_t)((s) & MAX_TASKS))

static State state_of(uint32_t phase, int64_t threads, int64_t tasks) {
    return (State)phase << 32 | (State)threads << 24 | (State)tasks << 12;
}

static struct {
    _Alignas(64) _Atomic State state;
    _Alignas(64) atomic_int done; /* tasks of the phase */
    _Alignas(64) atomic_int sleepers; /* threads of the job that wait for its next phase */
    /* Written by whoever opens a phase, read by threads that hold one of its tasks. */
    void *job;
    RunItems run;
    CountItems count;
    uint32_t first; /* phase 0 of the job */
    int64_t phases, items, group;
    /* Of the caller that holds `callers`. */
    int64_t workers; /* that there are */
    _Atomic int64_t threads; /* of the last job that had several */
    pthread_mutex_t callers, sleep;
    pthread_cond_t opened, called; /* a phase; more threads than the last job had */
} pool = {.callers = PTHREAD_MUTEX_INITIALIZER,
          .sleep = PTHREAD_MUTEX_INITIALIZER,
          .opened = PTHREAD_COND_INITIALIZER,
          .called = PTHREAD_COND_INITIALIZER};

/* Returns as soon as the state is no longer `seen`. */
static void wait_for_change(State seen) {
    for (int i = 0; i < PAUSES; i++) {
        if (atomic_load_explicit(&pool.state, memory_order_acquire) != seen) return;
        PAUSE();
    }
    for (int i = 0; i < YIELDS; i++) {
        if (atomic_load_explicit(&pool.state, memory_order_acquire) != seen) return;
        sched_yield();
    }
    pthread_mutex_lock(&pool.sleep);
    atomic_fetch_add(&pool.sleepers, 1);
    while (atomic_load(&pool.state) == seen) pthread_cond_wait(&pool.opened, &pool.sleep);
    atomic_fetch_sub(&pool.sleepers, 1);
    pthread_mutex_unlock(&pool.sleep);
}

/* Returns when a job wants this thread. */
static void wait_for_call(int64_t thread) {
    pthread_mutex_lock(&pool.sleep);
    while (thread >= THREADS(atomic_load(&pool.state)))
        pthread_cond_wait(&pool.called, &pool.sleep);
    pthread_mutex_unlock(&pool.sleep);
}

static void wake(pthread_cond_t *waiting) {
    pthread_mutex_lock(&pool.sleep);
    pthread_cond_broadcast(waiting);
    pthread_mutex_unlock(&pool.sleep);
}

/* Opens the first phase from `phase` on that has items, or the end of the job. */
static void open_phase(uint32_t phase, int64_t threads) {
    int64_t items = 0, tasks = 0;
    while ((int64_t)(uint32_t)(phase - pool.first) < pool.phases) {
        items = pool.count(pool.job, (uint32_t)(phase - pool.first));
        if (items > 0) break;
        phase++;
    }
    if (items > 0) {
        int64_t most = threads * TASKS_PER_THREAD;
        most = most < MAX_TASKS ? most : MAX_TASKS;
        pool.items = items;
        pool.group = (items + most - 1) / most;
        tasks = (items + pool.group - 1) / pool.group;
    }
    atomic_store_explicit(&pool.done, 0, memory_order_relaxed);
    atomic_store(&pool.state, state_of(phase, threads, tasks));
    if (atomic_load(&pool.sleepers) > 0) wake(&pool.opened);
}

/* Takes a task of the open phase and does it. Returns 0 where there is none for this thread. */
static int do_task(State seen, int64_t thread) {
    if (TAKEN(seen) >= TASKS(seen)) return 0;
    if (!atomic_compare_exchange_weak(&pool.state, &seen, seen + 1)) return 1; /* look again */
    int64_t begin = TAKEN(seen) * pool.group, end = begin + pool.group;
    if (end > pool.items) end = pool.items;
    pool.run(pool.job, (uint32_t)(PHASE(seen) - pool.first), begin, end, thread);
    if (atomic_fetch_add(&pool.done, 1) + 1 == TASKS(seen))
        open_phase(PHASE(seen) + 1, THREADS(seen));
    return 1;
}

static void *work(void *number) {
    int64_t thread = (int64_t)(intptr_t)number;
    for (;;) {
        State seen = atomic_load_explicit(&pool.state, memory_order_acquire);
        if (thread >= THREADS(seen)) wait_for_call(thread);
        else if (!do_task(seen, thread)) wait_for_change(seen);
    }
    return NULL;
}

/* The threads of the parent are not in a forked child. Its caller may be in the middle of a job. */
static void forget_workers(void) {
    pool.workers = 0;
    atomic_store(&pool.threads, 0);
    pthread_mutex_init(&pool.callers, NULL);
    pthread_mutex_init(&pool.sleep, NULL);
    pthread_cond_init(&pool.opened, NULL);
    pthread_cond_init(&pool.called, NULL);
    atomic_store(&pool.sleepers, 0);
    atomic_store(&pool.state, 0);
}

/* Starts workers until there are `threads` - 1. Returns how many threads there are, with this one. */
static int64_t start_workers(int64_t threads) {
    static int watching;
    if (!watching) watching = pthread_atfork(NULL, NULL, forget_workers) == 0;
    sigset_t all, before;
    sigfillset(&all); /* signals are for the threads of the program */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (pool.workers < threads - 1) {
        pthread_t made;
        pthread_attr_t how;
        pthread_attr_init(&how);
        pthread_attr_setdetachstate(&how, PTHREAD_CREATE_DETACHED);
        pthread_attr_setstacksize(&how, STACK_BYTES);
        int failed = pthread_create(&made, &how, work, (void *)(intptr_t)(pool.workers + 1));
        pthread_attr_destroy(&how);
        if (failed) break; /* a limit of the system: fewer threads do the work */
        pool.workers++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return threads < pool.workers + 1 ? threads : pool.workers + 1;
}

static void run_alone(void *job, RunItems run, CountItems count, int64_t phases) {
    for (int64_t phase = 0; phase < phases; phase++) {
        int64_t items = count(job, phase);
        if (items > 0) run(job, phase, 0, items, 0);
    }
}

void pool_run(void *job, RunItems run, CountItems count, int64_t phases, int64_t threads) {
    if (threads == 0) threads = atomic_load(&pool.threads);
    if (threads <= 1) { /* needs nothing of the pool */
        run_alone(job, run, count, phases);
        return;
    }
    pthread_mutex_lock(&pool.callers);
    threads = start_workers(threads < MAX_THREADS ? threads : MAX_THREADS);
    if (threads == 1) {
        pthread_mutex_unlock(&pool.callers);
        run_alone(job, run, count, phases);
        return;
    }
    uint32_t first = PHASE(atomic_load(&pool.state)) + 1;
    pool.job = job, pool.run = run, pool.count = count;
    pool.first = first, pool.phases = phases;
    int more = threads > atomic_exchange(&pool.threads, threads);
    open_phase(first, threads);
    if (more) wake(&pool.called);
    for (;;) {
        State seen = atomic_load_explicit(&pool.state, memory_order_acquire);
        if ((int64_t)(uint32_t)(PHASE(seen) - first) >= phases) break;
        if (!do_task(seen, 0)) wait_for_change(seen);
    }
    pthread_mutex_unlock(&pool.callers);
}
