/* What all checks share: random numbers, memory of exact size, and how a fault is told. */

#pragma once

#define _GNU_SOURCE

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Structures and layouts. The functions are those of the library that is linked. */
#include "../../gptcli/native/kernels/attention.h"
#include "../../gptcli/native/kernels/packing.h"

void gptcli_forward_step(const Model *model, const Cache *cache, const Segment *segments,
                         int64_t count, const int64_t *wanted, int64_t n, int64_t m, float *x,
                         float *logits, char *scratch, int64_t threads, int64_t layer,
                         int64_t end);
int64_t gptcli_scratch_size(const Model *model, const Cache *cache, const Segment *segments,
                            int64_t count, int64_t n, int64_t threads);
int64_t gptcli_own_floats(const Model *model, const Segment *segment);
void gptcli_matmul(const Matrix *matrix, const float *x, int64_t n, float *y, char *scratch,
                   int64_t threads);
int64_t gptcli_activation_bytes(int64_t in);
int64_t gptcli_packing_bytes(const Packing *part);
int64_t gptcli_pack(const Packing *parts, int64_t count, char *memory, int64_t bytes,
                    int64_t threads, int32_t *error);

#define MANY_THREADS 37 /* more than cores */

static int faults;

static uint64_t state = 1;

static double uniform(void) { /* in (-1, 1) */
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (double)(int64_t)(state >> 11) / (double)(1ll << 52) - 1;
}

static int64_t below(int64_t end) { return (int64_t)((uniform() + 1) / 2 * (double)end) % end; }

/* Memory as large as it must be, and not larger, so that a sanitizer sees what lies beyond. It is
 * filled with large numbers, and NaN where `poisoned`. */
static int poisoned;

static void *taken(int64_t size) {
    void *memory = NULL;
    if (posix_memalign(&memory, 64, size > 0 ? (size_t)size : 1)) abort();
    memset(memory, poisoned ? 0xff : 0x7f, size > 0 ? (size_t)size : 1);
    return memory;
}

static float *numbers(int64_t count, double scale) {
    float *made = taken(count * 4);
    for (int64_t i = 0; i < count; i++) made[i] = (float)(scale * uniform());
    return made;
}

static void expect(int holds, const char *what, int64_t a, int64_t b, int64_t c) {
    if (holds) return;
    if (faults++ < 40) printf("%s: %lld %lld %lld\n", what, (long long)a, (long long)b, (long long)c);
}

/* A fingerprint of results, the same on all processors that fuse multiply-adds. */
static uint64_t seen = 14695981039346656037u;

static void note(const void *bytes, int64_t size) { /* FNV-1a */
    const unsigned char *at = bytes;
    for (int64_t i = 0; i < size; i++) seen = (seen ^ at[i]) * 1099511628211u;
}

static int all_finite(const float *x, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        if (!isfinite(x[i])) return 0;
    return 1;
}

static int none_finite(const float *x, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        if (isfinite(x[i])) return 0;
    return 1;
}

static int same(const float *a, const float *b, int64_t count) {
    return !memcmp(a, b, (size_t)count * sizeof(float));
}
