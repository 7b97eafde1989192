/* matmul_forward: rows of activations (n, in) times a packed matrix -> (n, out).
 *
 * The result of a row depends on that row alone, to the bit, however many rows are computed beside
 * it: each sum is taken in the same order, and work is divided by outputs and rows, never by
 * inputs. */

#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "model.h"
#include "numbers.h"
#include "vectors.h"

#define GROUP 32           /* inputs of an int8 product that share a scale */
#define SUM_PART 512       /* inputs of one partial sum of floats */
#define PREFETCH_BYTES 2048 /* how far ahead weights are prefetched */
#define CHUNK_ROWS 48       /* rows of one task: a multiple of most heights of a tile */

typedef enum { OVERWRITE, ACTIVATE, RESIDUAL } Epilogue; /* y = , y = f(), y += */

/* Rows run in tiles of equal height. In a tile the values of one input, or of a QUAD of int8 inputs,
 * are side by side. */
ALWAYS int64_t tile_rows(const Matrix *m, int64_t n) {
    int64_t most = m->kind == INT8 ? INT8_ROWS : FLOAT_ROWS, tiles = (n + most - 1) / most;
    return (n + tiles - 1) / tiles;
}

ALWAYS int64_t groups_of(int64_t in) { return (in + GROUP - 1) / GROUP; }

/* Packed activations of n rows. Floats: `values`, n x in. int8: `values`, n x in rounded up to
 * GROUPs, and for each group of a row the value of the integer 1 (`scales`), and OFFSET times the
 * sum of its integers (`offsets`). Of a tile these stand together, group by group. */
typedef struct {
    char *values;
    float *scales;
    int32_t *offsets;
} Activations;

/* Bytes of the activations of one row, for any kind of matrix. */
ALWAYS int64_t activation_bytes(int64_t in) {
    int64_t whole = groups_of(in) * GROUP * (int64_t)sizeof(float);
    int64_t integers = groups_of(in) * (GROUP + 8);
    return whole > integers ? whole : integers;
}

ALWAYS Activations activations_in(char *memory, const Matrix *m, int64_t n) {
    int64_t groups = groups_of(m->in_features);
    float *scales = (float *)(memory + n * groups * GROUP);
    return (Activations){memory, scales, (int32_t *)(scales + n * groups)};
}

/* The integers of one group: x (size <= GROUP) -> to, QUAD by QUAD, `step` bytes apart. */
ALWAYS void quantize_group(const float *x, int64_t size, int8_t *to, int64_t step, float *scale,
                           int32_t *offset) {
    float held[GROUP] = {0}, largest = 0, faults = 0;
    memcpy(held, x, (size_t)size * sizeof(float));
    for (int i = 0; i < GROUP; i++) {
        float a = fabsf(held[i]);
        largest = a > largest ? a : largest;
        faults += held[i] - held[i]; /* 0, but NaN for NaN and infinity */
    }
    int sound = faults == 0;
    float share = sound && largest > 0 ? 127 / largest : 0;
    if (!(share <= 3.4e38f)) share = 0, largest = 0; /* values too small to count */
    int8_t integers[GROUP];
    int32_t sum = 0;
    for (int i = 0; i < GROUP; i++) {
        int32_t integer = sound ? (int32_t)ROUND(held[i] * share) : 0;
        integers[i] = (int8_t)integer;
        sum += integer;
    }
    for (int q = 0; q < GROUP / QUAD; q++) memcpy(to + q * step, integers + q * QUAD, QUAD);
    *scale = sound ? largest / 127 : NAN;
    *offset = OFFSET * sum;
}

/* Packs row number `row` of n, x (in). */
static void pack_row(const Matrix *m, const float *x, int64_t row, int64_t n, Activations to) {
    int64_t tall = tile_rows(m, n), tile = row / tall, rows = n - tile * tall;
    if (rows > tall) rows = tall;
    int64_t own = row - tile * tall, in = m->in_features, groups = groups_of(in);
    if (m->kind != INT8) {
        float *values = (float *)to.values + tile * tall * in + own;
        for (int64_t i = 0; i < in; i++) values[i * rows] = x[i];
        return;
    }
    int8_t *integers = (int8_t *)to.values + tile * tall * groups * GROUP + own * QUAD;
    int64_t place = tile * tall * groups + own;
    for (int64_t g = 0; g < groups; g++, integers += rows * GROUP, place += rows) {
        int64_t size = in - g * GROUP < GROUP ? in - g * GROUP : GROUP;
        quantize_group(x + g * GROUP, size, integers, rows * QUAD, to.scales + place,
                       to.offsets + place);
    }
}

/* STRIP outputs of a float matrix: (rows, in) -> sums (rows, BLOCK). Partial sums keep precision
 * over thousands of inputs. */
ALWAYS void strip_of_floats(const char *weight, const float *x, int64_t in, const int rows,
                            const Kind kind, float *sums) {
    const int64_t step = BLOCK * (kind == FLOAT32 ? 4 : 2), lane = kind == FLOAT32 ? 4 : 2;
    for (int64_t done = 0; done < in; done += SUM_PART) {
        int64_t part = in - done < SUM_PART ? in - done : SUM_PART;
        Floats sum[FLOAT_ROWS][VECTORS];
        for (int r = 0; r < rows; r++)
            for (int v = 0; v < VECTORS; v++) sum[r][v] = ZEROS;
        for (int64_t i = 0; i < part; i++, x += rows, weight += step) {
            Floats wide[VECTORS];
            __builtin_prefetch(weight + PREFETCH_BYTES);
            if (kind == FLOAT32) __builtin_prefetch(weight + PREFETCH_BYTES + 64);
            for (int v = 0; v < VECTORS; v++) {
                const char *from = weight + v * LANES * lane;
                if (kind == FLOAT32) wide[v] = load((const float *)from);
                else if (kind == FLOAT16) wide[v] = LOAD_HALVES((const uint16_t *)from);
                else wide[v] = LOAD_BRAINS((const uint16_t *)from);
            }
            for (int r = 0; r < rows; r++) {
                Floats own = BROADCAST(x[r]);
                for (int v = 0; v < VECTORS; v++) sum[r][v] = FMA(wide[v], own, sum[r][v]);
            }
        }
        for (int r = 0; r < rows; r++)
            for (int v = 0; v < VECTORS; v++) {
                float *to = sums + r * BLOCK + v * LANES;
                if (done) sum[r][v] += load(to);
                store(to, sum[r][v]);
            }
    }
}

/* As strip_of_floats, for an int8 matrix and packed integers. */
ALWAYS void strip_of_int8(const char *weight, const int8_t *x, const float *scales,
                          const int32_t *offsets, int64_t groups, const int rows, float *sums) {
    Floats sum[INT8_ROWS][VECTORS];
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < VECTORS; v++) sum[r][v] = ZEROS;
    for (int64_t g = 0; g < groups; g++, scales += rows, offsets += rows) {
        Ints part[INT8_ROWS][VECTORS];
        for (int r = 0; r < rows; r++)
            for (int v = 0; v < VECTORS; v++) part[r][v] = BROADCAST_INT(OFFSET ? offsets[r] : 0);
        for (int q = 0; q < GROUP / QUAD; q++, weight += BLOCK * QUAD, x += rows * QUAD) {
            Ints wide[VECTORS];
            __builtin_prefetch(weight + PREFETCH_BYTES);
            __builtin_prefetch(weight + PREFETCH_BYTES + 64);
            for (int v = 0; v < VECTORS; v++)
                wide[v] = AS_UNSIGNED(LOAD_BYTES(weight + v * LANES * QUAD));
            for (int r = 0; r < rows; r++) {
                int32_t quad;
                memcpy(&quad, x + r * QUAD, QUAD);
                for (int v = 0; v < VECTORS; v++)
                    part[r][v] = DOT(part[r][v], wide[v], BROADCAST_INT(quad));
            }
        }
        for (int r = 0; r < rows; r++)
            for (int v = 0; v < VECTORS; v++)
                sum[r][v] = FMA(TO_FLOATS(part[r][v]), BROADCAST(scales[r]), sum[r][v]);
    }
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < VECTORS; v++) store(sums + r * BLOCK + v * LANES, sum[r][v]);
}

ALWAYS int64_t weight_bytes(const Matrix *m) { /* of one block */
    int64_t in = m->in_features;
    if (m->kind == INT8) return groups_of(in) * GROUP * BLOCK;
    return in * BLOCK * (m->kind == FLOAT32 ? 4 : 2);
}

/* BLOCK outputs of the tile whose first row is `top`, -> sums (rows, BLOCK). The number of rows is a
 * constant in each branch. */
static void block_sums(const Matrix *m, int64_t block, Activations from, int64_t top, int rows,
                       float *sums) {
    int64_t in = m->in_features, groups = groups_of(in);
    for (int64_t begin = 0; begin < BLOCK; begin += STRIP) {
        const char *weight = (const char *)m->weight + block * weight_bytes(m);
        float *to = sums + begin;
        if (m->kind == INT8) {
            const int8_t *x = (const int8_t *)from.values + top * groups * GROUP;
            const float *scales = from.scales + top * groups;
            const int32_t *offsets = from.offsets + top * groups;
            weight += begin * QUAD;
            switch (rows) {
#define CASE(R) \
    case R: strip_of_int8(weight, x, scales, offsets, groups, R, to); break;
                CASE(1) CASE(2) CASE(3)
#if INT8_ROWS > 3
                CASE(4) CASE(5) CASE(6)
#endif
#undef CASE
            }
            continue;
        }
        const float *x = (const float *)from.values + top * in;
        weight += begin * (m->kind == FLOAT32 ? 4 : 2);
        switch (rows) {
#define CASE(R)                                                                          \
    case R:                                                                              \
        if (m->kind == FLOAT32) strip_of_floats(weight, x, in, R, FLOAT32, to);          \
        else if (m->kind == FLOAT16) strip_of_floats(weight, x, in, R, FLOAT16, to);     \
        else strip_of_floats(weight, x, in, R, BFLOAT16, to);                            \
        break;
            CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6)
#if FLOAT_ROWS > 6
            CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12)
#endif
#undef CASE
        }
    }
}

ALWAYS int64_t block_count(const Matrix *m) { return (m->out_features + BLOCK - 1) / BLOCK; }

/* Rows of one item of a product: whole tiles. */
ALWAYS int64_t item_rows(const Matrix *m, int64_t n) {
    int64_t tall = tile_rows(m, n);
    return (CHUNK_ROWS + tall - 1) / tall * tall;
}

/* Items of a product of n rows: a block of outputs and some tiles of rows each. */
ALWAYS int64_t matmul_items(const Matrix *m, int64_t n) {
    int64_t rows = item_rows(m, n);
    return block_count(m) * ((n + rows - 1) / rows);
}

/* One item of a product of n rows, with scale, bias and epilogue: y (n, out). */
static void matmul_item(const Matrix *m, int64_t item, Activations from, int64_t n, Epilogue end,
                        int64_t activation, float *y) {
    float sums[FLOAT_ROWS * BLOCK] __attribute__((aligned(64)));
    int64_t tall = tile_rows(m, n), chunk = item_rows(m, n), chunks = (n + chunk - 1) / chunk;
    int64_t block = item / chunks, begin = block * BLOCK, first = item % chunks * chunk;
    int64_t last = first + chunk < n ? first + chunk : n;
    int64_t outs = m->out_features - begin < BLOCK ? m->out_features - begin : BLOCK;
    for (int64_t top = first; top < last; top += tall) {
        int64_t rows = n - top < tall ? n - top : tall;
        block_sums(m, block, from, top, (int)rows, sums);
        for (int64_t r = 0; r < rows; r++) {
            float *to = y + (top + r) * m->out_features + begin, *sum = sums + r * BLOCK;
            if (m->scale)
                for (int64_t o = 0; o < outs; o++) sum[o] *= m->scale[begin + o];
            if (m->bias)
                for (int64_t o = 0; o < outs; o++) sum[o] += m->bias[begin + o];
            if (end == ACTIVATE) activate(activation, sum, BLOCK);
            if (end == RESIDUAL)
                for (int64_t o = 0; o < outs; o++) sum[o] += to[o];
            memcpy(to, sum, (size_t)outs * sizeof(float));
        }
    }
}
