/* Several callers at the same time, and forks in the middle of a step. */

#pragma once

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <time.h>

#include "../../gptcli/native/kernels/pool.h"
#include "check_networks.h"

#define CALLERS 3
#define ROUNDS 30

typedef struct {
    Net net;
    Cache cache;
    float *x, *whole;
    int64_t rounds;
    atomic_int *stop; /* or NULL */
} Caller;

static void ready(Caller *c, int64_t width, int64_t kind) {
    build(&c->net, width, 2, 2 * width, kind, GELU_TANH);
    c->cache = new_cache(&c->net.m, 1, 48);
    c->x = numbers(TOKENS * width, 1), c->whole = taken(TOKENS * VOCAB * 4);
    Segment all[] = {{0, 0, 0, TOKENS, -1}};
    step(&c->net, &c->cache, all, 1, c->x, c->whole, 1);
}

static void dismiss(Caller *c) {
    free(c->x), free(c->whole), free(c->cache.keys), free(c->cache.values);
    destroy(&c->net);
}

/* The whole text on some threads, then its tokens one by one. Returns how often it differed. */
static int64_t differences(Caller *c, int64_t threads) {
    float *again = malloc(TOKENS * VOCAB * 4);
    int64_t found = 0;
    Segment all[] = {{0, 0, 0, TOKENS, -1}};
    step(&c->net, &c->cache, all, 1, c->x, again, threads);
    found += !same(again, c->whole, TOKENS * VOCAB);
    for (int64_t t = 0; t < 5; t++) {
        Segment one[] = {{0, t, 0, 1, -1}};
        step(&c->net, &c->cache, one, 1, c->x, again, threads);
        found += !same(again, c->whole + t * VOCAB, VOCAB);
    }
    free(again);
    return found;
}

static void *call(void *caller) {
    Caller *c = caller;
    int64_t found = 0;
    for (int64_t i = 0; i < c->rounds || (c->stop && !atomic_load(c->stop)); i++)
        found += differences(c, 1 + i % 5);
    return (void *)(intptr_t)found;
}

/* A job whose tasks end when as many threads are there as it was given. */
typedef struct {
    int64_t threads;
    atomic_llong there; /* a bit for each thread */
} Meeting;

static int64_t places(const void *job, int64_t phase) {
    (void)phase;
    return ((const Meeting *)job)->threads;
}

static void meet(void *job, int64_t phase, int64_t begin, int64_t end, int64_t thread) {
    (void)phase, (void)begin, (void)end;
    Meeting *m = job;
    time_t late = time(NULL) + 60;
    atomic_fetch_or(&m->there, 1ll << thread);
    while (atomic_load(&m->there) != (1ll << m->threads) - 1 && time(NULL) < late) sched_yield();
}

/* All threads take part: new ones, ones that slept between jobs, ones that sat out a job. */
static void check_meetings(void) {
    int64_t counts[] = {4, 2, 4, 5, 3, 1, 5, 5};
    for (int i = 0; i < 8; i++) {
        Meeting m = {counts[i], 0};
        pool_run(&m, meet, places, 1, m.threads);
        expect(m.there == (1ll << m.threads) - 1, "a thread did not come", i, m.threads, m.there);
        if (i % 2) usleep(50000); /* long enough to fall asleep */
    }
}

static void check_callers(void) {
    Caller callers[CALLERS];
    pthread_t threads[CALLERS];
    for (int i = 0; i < CALLERS; i++) {
        ready(callers + i, 20 + 6 * i, KINDS[(i + 3) % 4]);
        callers[i].rounds = ROUNDS, callers[i].stop = NULL;
    }
    for (int i = 0; i < CALLERS; i++)
        if (pthread_create(threads + i, NULL, call, callers + i)) abort();
    for (int i = 0; i < CALLERS; i++) {
        void *found;
        pthread_join(threads[i], &found);
        expect(!found, "callers disturb each other", i, (int64_t)(intptr_t)found, 0);
    }
    for (int i = 0; i < CALLERS; i++) dismiss(callers + i);
}

/* Children are forked while another thread runs steps. They compute the same on threads of their
 * own, and the parent goes on. */
static void check_forks(void) {
    Caller busy, other;
    atomic_int stop = 0;
    pthread_t thread;
    ready(&busy, 40, FLOAT32), ready(&other, 26, INT8);
    busy.rounds = 0, busy.stop = &stop;
    if (pthread_create(&thread, NULL, call, &busy)) abort();
    for (int i = 0; i < 12; i++) {
        fflush(stdout);
        pid_t child = fork();
        if (child == 0) {
            alarm(120); /* a child that waits for threads of its parent fails */
            _exit(differences(&other, 1 + i % 5) + differences(&other, 3) != 0);
        }
        int status = -1;
        if (waitpid(child, &status, 0) != child) abort();
        expect(status == 0, "a forked child failed", i, status, 0);
        expect(differences(&other, 1 + i % 5) == 0, "the parent of a fork failed", i, 0, 0);
    }
    atomic_store(&stop, 1);
    void *found;
    pthread_join(thread, &found);
    expect(!found, "a step with a fork in it differs", (int64_t)(intptr_t)found, 0, 0);
    dismiss(&busy), dismiss(&other);
}
