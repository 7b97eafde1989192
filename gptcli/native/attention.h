/* Attention of single tokens to what is in the cache and to their own segment. */

#pragma once

#include <math.h>
#include <string.h>

#include "model.h"
#include "numbers.h"
#include "vectors.h"

#define FETCHED 4 /* tokens whose keys are fetched ahead */

/* In vectors of our own: a compiler may take the same sum in another order in each place that it
 * is put into, and then a key would count otherwise beside the query than from the cache. */
ALWAYS float dot(const float *a, const float *b, int64_t size) {
    Floats sums = ZEROS;
    int64_t i = 0;
    for (; i + LANES <= size; i += LANES) sums = MADD(LOAD(a + i), LOAD(b + i), sums);
    float sum = TOTAL(sums);
    for (; i < size; i++) sum = fmaf(a[i], b[i], sum);
    return sum;
}

ALWAYS void fetch(const float *p, int64_t size) {
    for (int64_t i = 0; i < size; i += 16) __builtin_prefetch(p + i);
}

ALWAYS void add(float *to, const float *v, float share, int64_t size) {
#pragma omp simd
    for (int64_t i = 0; i < size; i++) to[i] += share * v[i];
}

/* Attention of `count` heads for the token of one row; qkv (n, 3C), y (n, C). Keys before the
 * segment are in the cache, its own are beside the queries: nobody waits for them to be stored.
 * Heads go side by side through the tokens, as their numbers lie in memory; scores (count, length). */
ALWAYS void attend_sized(const Step *s, const Layer *layer, const float *qkv, int64_t row,
                         int64_t head, int64_t count, float *scores, float *y, const int64_t size) {
    int64_t width = s->model->width, length = s->model->length;
    int64_t start = s->start[row], first = s->first[row], end = start + row - first + 1;
    const float *held = layer->kv + s->slot[row] * length * 2 * width + head * size;
    const float *own = qkv + first * 3 * width + width + head * size;
    const float *q = qkv + row * 3 * width + head * size;
    float *to = y + row * width + head * size;
    for (int64_t t = 0; t < end; t++) {
        const float *k = t < start ? held + t * 2 * width : own + (t - start) * 3 * width;
        fetch(k + FETCHED * 2 * width, count * size);
        for (int64_t h = 0; h < count; h++)
            scores[h * length + t] = dot(q + h * size, k + h * size, size) * layer->scale;
    }
    float whole[count];
    for (int64_t h = 0; h < count; h++) {
        float *row_scores = scores + h * length, most = -INFINITY, sum = 0;
        /* A NaN is no maximum, but its own power is NaN, and so is the sum. */
#pragma omp simd reduction(max : most)
        for (int64_t t = 0; t < end; t++) most = row_scores[t] > most ? row_scores[t] : most;
        for (int64_t t = 0; t < end; t++) row_scores[t] = power(row_scores[t] - most);
#pragma omp simd reduction(+ : sum)
        for (int64_t t = 0; t < end; t++) sum += row_scores[t];
        whole[h] = sum;
    }
    for (int64_t i = 0; i < count * size; i++) to[i] = 0;
    for (int64_t t = 0; t < end; t++) {
        const float *v = t < start ? held + t * 2 * width : own + (t - start) * 3 * width;
        fetch(v + width + FETCHED * 2 * width, count * size);
        for (int64_t h = 0; h < count; h++)
            add(to + h * size, v + width + h * size, scores[h * length + t], size);
    }
    for (int64_t i = 0; i < count * size; i++) to[i] /= whole[i / size];
}

/* Heads of 64, as every GPT-2 has them, get a loop of their own. */
static void attend(const Step *s, const Layer *layer, const float *qkv, int64_t row, int64_t head,
                   int64_t count, float *scores, float *y) {
    int64_t size = s->model->width / s->model->heads;
    if (size == 64) attend_sized(s, layer, qkv, row, head, count, scores, y, 64);
    else attend_sized(s, layer, qkv, row, head, count, scores, y, size);
}

/* Keys and values go into the cache in the order of the rows: of segments that share a place, the
 * last one stays. */
static void keep(const Step *s, const Layer *layer, const float *qkv) {
    int64_t width = s->model->width;
    for (int64_t row = 0; row < s->n; row++) {
        int64_t place = s->slot[row] * s->model->length + s->start[row] + row - s->first[row];
        memcpy(layer->kv + place * 2 * width, qkv + row * 3 * width + width, 2 * width * sizeof(float));
    }
}
