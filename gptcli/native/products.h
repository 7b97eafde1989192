/* matmul_forward: rows of activations (n, in) times a packed matrix -> (n, out). */

#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "model.h"
#include "numbers.h"
#include "threads.h"
#include "vectors.h"

#define ACTIVATION_MAX 16383 /* of an activation's integer: 1024 x 127 x 16383 < 2^31 */
#define SUM_PART 512 /* inputs of one partial sum */
#define EXACT_PAIRS 512 /* pairs of inputs whose sum fits 32 bits */
#define PREFETCH_BYTES 2048 /* how far ahead weights are prefetched */

typedef enum { OVERWRITE, GELU, RESIDUAL } Epilogue; /* y = , y = gelu(), y += */

/* Rows run in tiles of equal height. In a tile the values of one input are side by side. */
static int64_t tile_rows(const Matrix *m, int64_t n) {
    int64_t most = m->scale ? TILE_ROWS : FLOAT_TILE_ROWS, tiles = (n + most - 1) / most;
    return (n + tiles - 1) / tiles;
}

/* Packed activations: `values` are n x in floats or pairs of integers; `unit` is for each row the
 * value of the integer 1. */
typedef struct {
    float *values, *unit;
} Activations;

static Activations activations_in(float *scratch, int64_t n, int64_t in) {
    return (Activations){scratch, scratch + n * in};
}

static void pack_activations(const Matrix *m, const float *x, int64_t row, int64_t n,
                             Activations to) {
    int64_t tall = tile_rows(m, n), tile = row / tall, rows = n - tile * tall;
    if (rows > tall) rows = tall;
    int64_t own = row - tile * tall, in = m->in_features;
    if (m->scale) {
        float largest = 0;
        int sound = 1;
#pragma omp simd reduction(max : largest) reduction(& : sound)
        for (int64_t i = 0; i < in; i++) {
            float size = fabsf(x[i]);
            sound &= size <= 3.4e38f; /* neither NaN nor infinity */
            largest = size > largest ? size : largest;
        }
        to.unit[row] = sound ? largest / ACTIVATION_MAX : NAN;
        float share = sound && largest > 0 ? ACTIVATION_MAX / largest : 0;
        /* The integers fill half of the memory of n x in floats. */
        int16_t *pairs = (int16_t *)to.values + tile * tall * in + own * 2;
        if (share > 3.4e38f) share = 0, to.unit[row] = 0; /* values too small to count */
        for (int64_t i = 0; i < in; i += 2) {
            pairs[i * rows] = sound ? (int16_t)__builtin_rintf(x[i] * share) : 0;
            pairs[i * rows + 1] = sound ? (int16_t)__builtin_rintf(x[i + 1] * share) : 0;
        }
    } else {
        float *numbers = to.values + tile * tall * in + own;
        for (int64_t i = 0; i < in; i++) numbers[i * rows] = x[i];
    }
}

/* BLOCK outputs of a float matrix: (rows, in) -> sums (rows, BLOCK). Partial sums keep precision
 * over thousands of inputs. */
ALWAYS void block_sums_float(const void *weight, const float *x, int64_t in, const int rows,
                             const int bits, float *sums) {
    const uint16_t *halves = weight;
    const float *whole = weight;
    for (int64_t done = 0; done < in; done += SUM_PART) {
        int64_t part = in - done < SUM_PART ? in - done : SUM_PART;
        Floats sum[TILE_ROWS][VECTORS];
        for (int r = 0; r < rows; r++)
            for (int v = 0; v < VECTORS; v++)
                sum[r][v] = ZEROS;
        for (int64_t i = 0; i < part; i++, x += rows) {
            Floats wide[VECTORS];
            if (bits == 16) {
                __builtin_prefetch((const char *)halves + PREFETCH_BYTES);
                for (int v = 0; v < VECTORS; v++) wide[v] = LOAD_HALVES(halves + v * LANES);
                halves += BLOCK;
            } else {
                __builtin_prefetch((const char *)whole + PREFETCH_BYTES);
                __builtin_prefetch((const char *)whole + PREFETCH_BYTES + 64);
                for (int v = 0; v < VECTORS; v++) wide[v] = LOAD(whole + v * LANES);
                whole += BLOCK;
            }
            for (int r = 0; r < rows; r++) {
                Floats own = BROADCAST(x[r]);
                for (int v = 0; v < VECTORS; v++) sum[r][v] = FMA(wide[v], own, sum[r][v]);
            }
        }
        for (int r = 0; r < rows; r++)
            for (int v = 0; v < VECTORS; v++) {
                float *to = sums + r * BLOCK + v * LANES;
                STORE(to, done ? ADD(LOAD(to), sum[r][v]) : sum[r][v]);
            }
    }
}

/* As block_sums_float, for an int8 matrix and pairs of integer activations. */
ALWAYS void block_sums_int8(const int8_t *w, const int16_t *x, int64_t in, const int rows,
                            float *sums) {
    for (int r = 0; r < rows; r++)
        for (int o = 0; o < BLOCK; o++) sums[r * BLOCK + o] = 0;
    for (int64_t done = 0, pairs = in / 2; done < pairs; done += EXACT_PAIRS) {
        int64_t part = pairs - done < EXACT_PAIRS ? pairs - done : EXACT_PAIRS;
        Ints sum[TILE_ROWS][VECTORS];
        for (int r = 0; r < rows; r++)
            for (int v = 0; v < VECTORS; v++) sum[r][v] = INT_ZEROS;
        for (int64_t i = 0; i < part; i++, w += 2 * BLOCK, x += 2 * rows) {
            __builtin_prefetch((const char *)w + PREFETCH_BYTES);
            Ints wide[VECTORS];
            for (int v = 0; v < VECTORS; v++) wide[v] = LOAD_INT8S(w + 2 * v * LANES);
            for (int r = 0; r < rows; r++) {
                int32_t pair;
                memcpy(&pair, x + 2 * r, 4);
                Ints own = BROADCAST_PAIR(pair);
                for (int v = 0; v < VECTORS; v++) sum[r][v] = DOT_PAIRS(wide[v], own, sum[r][v]);
            }
        }
        for (int r = 0; r < rows; r++)
            for (int v = 0; v < VECTORS; v++) {
                float part_sums[LANES];
                STORE(part_sums, TO_FLOATS(sum[r][v]));
                for (int o = 0; o < LANES; o++) sums[r * BLOCK + v * LANES + o] += part_sums[o];
            }
    }
}

/* BLOCK outputs of `rows` rows, (rows, in) -> sums (rows, BLOCK). The number of rows is a constant
 * in each branch. */
static void block_sums(const Matrix *m, int64_t block, const float *x, int rows, float *sums) {
    const char *weight = (const char *)m->weight + block * m->in_features * BLOCK * (m->bits / 8);
#define CASE(R)                                                                                  \
    case R:                                                                                      \
        if (m->bits == 8)                                                                        \
            block_sums_int8((const int8_t *)weight, (const int16_t *)x, m->in_features, R, sums);\
        else if (m->bits == 16) block_sums_float(weight, x, m->in_features, R, 16, sums);        \
        else block_sums_float(weight, x, m->in_features, R, 32, sums);                           \
        break;
    switch (rows) {
        CASE(1) CASE(2) CASE(3)
#if TILE_ROWS > 3
        CASE(4) CASE(5) CASE(6) CASE(7) CASE(8)
#endif
    }
#undef CASE
}

/* One block of outputs for all n rows, with scale, bias and epilogue: y (n, out). */
static void matmul_block(const Matrix *m, int64_t block, Activations from, int64_t n, Epilogue end,
                         float *y) {
    float sums[TILE_ROWS * BLOCK] __attribute__((aligned(64)));
    int64_t tall = tile_rows(m, n), begin = block * BLOCK;
    int64_t outs = m->out_features - begin < BLOCK ? m->out_features - begin : BLOCK;
    for (int64_t top = 0; top < n; top += tall) {
        int64_t rows = n - top < tall ? n - top : tall;
        const float *x = m->scale
                             ? (const float *)((const int16_t *)from.values + top * m->in_features)
                             : from.values + top * m->in_features;
        block_sums(m, block, x, (int)rows, sums);
        for (int64_t r = 0; r < rows; r++) {
            float *to = y + (top + r) * m->out_features + begin, *sum = sums + r * BLOCK;
            if (m->scale)
                for (int64_t o = 0; o < outs; o++)
                    sum[o] *= m->scale[begin + o] * from.unit[top + r];
            if (m->bias)
                for (int64_t o = 0; o < outs; o++) sum[o] += m->bias[begin + o];
            if (end == GELU)
                for (int64_t o = 0; o < BLOCK; o++) sum[o] = gelu(sum[o]);
            if (end == RESIDUAL)
                for (int64_t o = 0; o < outs; o++) sum[o] += to[o];
            memcpy(to, sum, outs * sizeof(float));
        }
    }
}

static int64_t block_count(const Matrix *m) {
    return (m->out_features + BLOCK - 1) / BLOCK;
}
