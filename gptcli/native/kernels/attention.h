/* Causal attention of the new tokens of a step to the KV cache and to their own segment.
 *
 * A task is a head and a few neighbouring rows of one segment, which read each key and value once.
 * The sums of a row run over positions in their order, so they do not depend on the rows beside it.
 * Of scores only those of the task are held, (QUERY_ROWS, length). */

#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "model.h"
#include "numbers.h"
#include "vectors.h"

#define KEY_VECTORS (KEYS / LANES)

/* Where keys and values of one segment and head lie: blocks of KEYS positions, the first `split`
 * blocks in one place, those from there on in another. */
typedef struct {
    const float *keys[2], *values[2];
    int64_t split;
} Places;

/* Sizes of a head: D, and D rounded up as values are stored. */
ALWAYS int64_t head_size(const Model *m) { return m->width / m->heads; }
ALWAYS int64_t value_size(const Model *m) { return (head_size(m) + KEYS - 1) / KEYS * KEYS; }

/* Blocks of KEYS positions of a segment that has memory of its own, and floats of that memory. */
ALWAYS int64_t own_blocks(const Segment *s) {
    return (s->start + s->length + KEYS - 1) / KEYS - s->start / KEYS;
}
ALWAYS int64_t own_floats(const Model *m, const Segment *s) {
    return own_blocks(s) * KEYS * m->heads * (head_size(m) + value_size(m));
}

/* Where the cache holds a head of a slot in one layer. */
ALWAYS float *cached_keys(const Model *m, const Cache *c, int64_t layer, int64_t slot, int64_t h) {
    return c->keys + ((layer * c->slots + slot) * m->heads + h) * c->length * head_size(m);
}
ALWAYS float *cached_values(const Model *m, const Cache *c, int64_t layer, int64_t slot, int64_t h) {
    return c->values + ((layer * c->slots + slot) * m->heads + h) * c->length * value_size(m);
}

/* Where the new keys and values of a head go: the block of position `start`, and the blocks after. */
static void new_places(const Model *m, const Cache *c, const Segment *s, int64_t layer, int64_t h,
                       float *own, float **keys, float **values) {
    int64_t size = head_size(m), wide = value_size(m), block = s->start / KEYS;
    if (s->own < 0) {
        *keys = cached_keys(m, c, layer, s->slot, h) + block * KEYS * size;
        *values = cached_values(m, c, layer, s->slot, h) + block * KEYS * wide;
        return;
    }
    *keys = own + s->own + h * own_blocks(s) * KEYS * (size + wide);
    *values = *keys + own_blocks(s) * KEYS * size;
}

static Places places_of(const Model *m, const Cache *c, const Segment *s, int64_t layer, int64_t h,
                        float *own) {
    float *keys, *values;
    new_places(m, c, s, layer, h, own, &keys, &values);
    return (Places){{cached_keys(m, c, layer, s->slot, h), keys},
                    {cached_values(m, c, layer, s->slot, h), values},
                    s->start / KEYS};
}

/* Stores keys and values of one row, qkv (n, 3C). The first row of a segment with memory of its own
 * takes along what the cache holds of the same block. */
static void store_row(const Model *m, const Cache *c, const Segment *s, int64_t layer, int64_t row,
                      const float *qkv, float *own) {
    int64_t size = head_size(m), wide = value_size(m), before = s->start % KEYS;
    int64_t place = before + row - s->first;
    const float *key = qkv + row * 3 * m->width + m->width, *value = key + m->width;
    for (int64_t h = 0; h < m->heads; h++, key += size, value += size) {
        float *keys, *values;
        new_places(m, c, s, layer, h, own, &keys, &values);
        float *to = keys + place / KEYS * KEYS * size + place % KEYS;
        for (int64_t d = 0; d < size; d++) to[d * KEYS] = key[d];
        to = values + place * wide;
        memcpy(to, value, (size_t)size * sizeof(float));
        for (int64_t d = size; d < wide; d++) to[d] = 0;
        if (s->own < 0 || row > s->first || before == 0) continue;
        int64_t block = s->start / KEYS;
        const float *old = cached_keys(m, c, layer, s->slot, h) + block * KEYS * size;
        for (int64_t d = 0; d < size; d++)
            memcpy(keys + d * KEYS, old + d * KEYS, (size_t)before * sizeof(float));
        old = cached_values(m, c, layer, s->slot, h) + block * KEYS * wide;
        memcpy(values, old, (size_t)(before * wide) * sizeof(float));
    }
}

/* Scores of `rows` queries, (rows, size) with stride `step`, for some blocks of keys. */
ALWAYS void scores_of_blocks(const float *q, int64_t step, const float *keys, int64_t size,
                             const int rows, const int blocks, float *scores, int64_t stride) {
    Floats sum[QUERY_ROWS][4 * KEY_VECTORS];
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < blocks * KEY_VECTORS; v++) sum[r][v] = ZEROS;
    for (int64_t d = 0; d < size; d++)
        for (int b = 0; b < blocks; b++)
            for (int v = 0; v < KEY_VECTORS; v++) {
                Floats some = load(keys + (b * size + d) * KEYS + v * LANES);
                for (int r = 0; r < rows; r++)
                    sum[r][b * KEY_VECTORS + v] =
                        FMA(some, BROADCAST(q[r * step + d]), sum[r][b * KEY_VECTORS + v]);
            }
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < blocks * KEY_VECTORS; v++)
            store(scores + r * stride + v * LANES, sum[r][v]);
}

/* Scores of all blocks; with a single row several blocks run together, so that sums overlap. */
ALWAYS void scores_of(const float *q, int64_t step, const float *keys, int64_t count, int64_t size,
                      const int rows, float *scores, int64_t stride) {
    const int together = rows == 1 ? 4 : rows <= 2 ? 2 : 1;
    int64_t b = 0;
    for (; b + together <= count; b += together)
        scores_of_blocks(q, step, keys + b * KEYS * size, size, rows, together, scores + b * KEYS,
                         stride);
    for (; b < count; b++)
        scores_of_blocks(q, step, keys + b * KEYS * size, size, rows, 1, scores + b * KEYS, stride);
}

/* Adds shares (rows, count) times values (count, wide) to y (rows, wide), `vectors` at a time. */
ALWAYS void mix_strip(const float *shares, int64_t stride, const float *values, int64_t count,
                      int64_t wide, const int rows, const int vectors, float *y) {
    Floats sum[QUERY_ROWS][64 / LANES];
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++) sum[r][v] = load(y + r * wide + v * LANES);
    for (int64_t t = 0; t < count; t++, values += wide) {
        Floats some[64 / LANES];
        for (int v = 0; v < vectors; v++) some[v] = load(values + v * LANES);
        for (int r = 0; r < rows; r++) {
            Floats share = BROADCAST(shares[r * stride + t]);
            for (int v = 0; v < vectors; v++) sum[r][v] = FMA(some[v], share, sum[r][v]);
        }
    }
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++) store(y + r * wide + v * LANES, sum[r][v]);
}

ALWAYS void mix(const float *shares, int64_t stride, const float *values, int64_t count,
                int64_t wide, const int rows, float *y) {
    int64_t d = 0;
    if (rows <= WIDE_ROWS)
        for (; d + 64 <= wide; d += 64)
            mix_strip(shares, stride, values + d, count, wide, rows, 64 / LANES, y + d);
    if (LANES == 16)
        for (; d + 32 <= wide; d += 32)
            mix_strip(shares, stride, values + d, count, wide, rows, 32 / LANES, y + d);
    for (; d < wide; d += KEYS)
        mix_strip(shares, stride, values + d, count, wide, rows, KEY_VECTORS, y + d);
}

/* attention_forward of one head and `rows` rows from position `first` on: q (rows, D) with stride
 * `step` -> y (rows, D) with stride `out`. scores: (rows, stride); mixed: (rows, Dp). */
ALWAYS void attend_rows(const float *q, int64_t step, Places at, int64_t first, const int rows,
                        int64_t size, int64_t wide, float scale, float *scores, int64_t stride,
                        float *mixed, float *y, int64_t out) {
    int64_t end = first + rows, blocks = (end + KEYS - 1) / KEYS, split = at.split;
    float whole[QUERY_ROWS];
    scores_of(q, step, at.keys[0], split, size, rows, scores, stride);
    scores_of(q, step, at.keys[1], blocks - split, size, rows, scores + split * KEYS, stride);
    for (int r = 0; r < rows; r++) {
        float *own = scores + r * stride, most = -INFINITY, sum = 0;
        int64_t seen = first + r + 1;
        for (int64_t t = 0; t < seen; t++) own[t] *= scale;
        /* A NaN score is never the maximum, but exp makes it, and so the sum, NaN. */
#pragma omp simd reduction(max : most)
        for (int64_t t = 0; t < seen; t++) most = own[t] > most ? own[t] : most;
        for (int64_t t = 0; t < seen; t++) own[t] = exp_approx(own[t] - most);
        for (int64_t t = seen; t < blocks * KEYS; t++) own[t] = 0;
        Floats parts = ZEROS;
        for (int64_t t = 0; t < blocks * KEYS; t += LANES) parts += load(own + t);
        float lanes[LANES];
        store(lanes, parts);
        for (int i = 0; i < LANES; i++) sum += lanes[i];
        whole[r] = sum;
    }
    memset(mixed, 0, (size_t)(rows * wide) * sizeof(float));
    mix(scores, stride, at.values[0], split * KEYS, wide, rows, mixed);
    mix(scores + split * KEYS, stride, at.values[1], first + 1 - split * KEYS, wide, rows, mixed);
    /* What comes after a row may be NaN, and 0 times NaN is not 0: the rest row by row. */
    const float *rest = at.values[1] + (first + 1 - split * KEYS) * wide;
    for (int r = 1; r < rows; r++)
        mix(scores + r * stride + first + 1, stride, rest, r, wide, 1, mixed + r * wide);
    for (int r = 0; r < rows; r++)
        for (int64_t d = 0; d < size; d++) y[r * out + d] = mixed[r * wide + d] / whole[r];
}
