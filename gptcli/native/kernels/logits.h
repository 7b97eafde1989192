/* What scoring needs of rows of logits, (n, vocab). */

#pragma once

#include <math.h>
#include <stdint.h>

#include "numbers.h"

#define SUM_LOGITS 1024 /* of one partial sum of floats */

/* logsumexp_forward of rows (n, size): log sum_j exp(x_j) = highest + log sum. */
typedef struct {
    const float *rows;
    int64_t n, size;
    float *highest; /* (n) */
    double *sum;    /* (n), at least 1 for finite rows */
} LogSumExps;

static int64_t count_rows(const void *job, int64_t phase) {
    (void)phase;
    return ((const LogSumExps *)job)->n;
}

static void sum_rows(void *job, int64_t phase, int64_t begin, int64_t end, int64_t thread) {
    (void)phase, (void)thread;
    const LogSumExps *j = job;
    for (int64_t row = begin; row < end; row++) {
        const float *x = j->rows + row * j->size;
        float most = -INFINITY;
        double sum = 0;
#pragma omp simd reduction(max : most)
        for (int64_t i = 0; i < j->size; i++) most = x[i] > most ? x[i] : most;
        for (int64_t done = 0; done < j->size; done += SUM_LOGITS) {
            int64_t last = done + SUM_LOGITS < j->size ? done + SUM_LOGITS : j->size;
            float part = 0;
#pragma omp simd reduction(+ : part)
            for (int64_t i = done; i < last; i++) part += exp_approx(x[i] - most);
            sum += part;
        }
        j->highest[row] = most;
        j->sum[row] = sum;
    }
}
