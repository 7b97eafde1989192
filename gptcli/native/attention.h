/* Causal attention of single tokens to the KV cache and to their own segment. */

#pragma once

#include <math.h>
#include <string.h>

#include "model.h"
#include "numbers.h"
#include "vectors.h"

/* Explicit vectors: a compiler may order the same sum differently wherever it inlines it, and then
 * a key beside the query would give another score than the same key in the cache. */
ALWAYS float dot(const float *a, const float *b, int64_t size) {
    Floats sums = ZEROS;
    int64_t i = 0;
    for (; i + LANES <= size; i += LANES) sums = FMA(LOAD(a + i), LOAD(b + i), sums);
    float sum = SUM(sums);
    for (; i < size; i++) sum = fmaf(a[i], b[i], sum);
    return sum;
}

ALWAYS void add_scaled(float *to, const float *v, float share, int64_t size) {
#pragma omp simd
    for (int64_t i = 0; i < size; i++) to[i] += share * v[i];
}

/* attention_forward of one head and one row: qkv (n, 3C) -> y (n, C). Keys and values before the
 * segment are in the cache. Those of the segment itself are read from qkv, so that no thread waits
 * until they are stored. */
ALWAYS void attend_sized(const ForwardStep *s, const Layer *layer, const float *qkv, int64_t row,
                         int64_t head, float *scores, float *y, const int64_t size) {
    int64_t width = s->model->width, length = s->model->length, heads = s->model->heads;
    int64_t start = s->start[row], first = s->first[row], end = start + row - first + 1;
    const float *keys = layer->kv + (s->slot[row] * 2 * heads + head) * length * size;
    const float *values = keys + heads * length * size;
    const float *own = qkv + first * 3 * width + width + head * size;
    const float *q = qkv + row * 3 * width + head * size;
    float most = -INFINITY, whole = 0, sum[size];
    for (int64_t t = 0; t < start; t++) scores[t] = dot(q, keys + t * size, size) * layer->scale;
    for (int64_t t = start; t < end; t++)
        scores[t] = dot(q, own + (t - start) * 3 * width, size) * layer->scale;
    /* A NaN score is never the maximum, but exp makes it, and so the sum, NaN. */
#pragma omp simd reduction(max : most)
    for (int64_t t = 0; t < end; t++) most = scores[t] > most ? scores[t] : most;
    for (int64_t t = 0; t < end; t++) scores[t] = exp_approx(scores[t] - most);
#pragma omp simd reduction(+ : whole)
    for (int64_t t = 0; t < end; t++) whole += scores[t];
    for (int64_t i = 0; i < size; i++) sum[i] = 0;
    for (int64_t t = 0; t < start; t++) add_scaled(sum, values + t * size, scores[t], size);
    for (int64_t t = start; t < end; t++)
        add_scaled(sum, own + (t - start) * 3 * width + width, scores[t], size);
    for (int64_t i = 0; i < size; i++) y[row * width + head * size + i] = sum[i] / whole;
}

/* The usual head size of 64 gets a loop with constant bounds. */
static void attend(const ForwardStep *s, const Layer *layer, const float *qkv, int64_t row,
                   int64_t head, float *scores, float *y) {
    int64_t size = s->model->width / s->model->heads;
    if (size == 64) attend_sized(s, layer, qkv, row, head, scores, y, 64);
    else attend_sized(s, layer, qkv, row, head, scores, y, size);
}

/* Copies keys and values, qkv (n, 3C), to the cache in the order of the rows: of segments that
 * share a slot and a start, the last one stays. */
static void store_kv(const ForwardStep *s, const Layer *layer, const float *qkv) {
    int64_t width = s->model->width, length = s->model->length, heads = s->model->heads;
    int64_t size = width / heads;
    for (int64_t row = 0; row < s->n; row++) {
        int64_t position = s->start[row] + row - s->first[row];
        float *to = layer->kv + (s->slot[row] * 2 * heads * length + position) * size;
        const float *from = qkv + row * 3 * width + width;
        for (int64_t h = 0; h < 2 * heads; h++)
            memcpy(to + h * length * size, from + h * size, size * sizeof(float));
    }
}
