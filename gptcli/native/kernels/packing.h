/* Packing: from the file of a checkpoint to a matrix in blocks of BLOCK outputs.
 *
 * A part of the file is read into a buffer of floats, then packed from there. Reading costs no page
 * faults, keeps no pages, and a file that becomes shorter gives an error instead of a signal. */

#pragma once

#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "halves.h"
#include "model.h"
#include "pool.h"
#include "products.h"

#define READ_NUMBERS 32768 /* numbers read at a time by one thread */
#define ROW_NUMBERS 2048   /* of a row of an embedding */

/* gptcli/native/structures.py fills this: outputs `begin` to `begin` + `count` - 1 of a matrix. */
typedef struct {
    int64_t descriptor, offset;          /* of the file, and where its numbers begin */
    int64_t stored;                      /* the Kind of the numbers in the file */
    int64_t count, in, by_out, by_in;    /* their shape, and strides in numbers */
    float *numbers;                      /* (count x in): buffer */
    char *staging;                       /* READ_NUMBERS doubles a thread; not for FLOAT32 */
    int64_t kind;                        /* the Kind to pack to */
    void *target;                        /* the first block */
    float *scale;                        /* (count) of int8 */
    float *largest;                      /* of each block: the largest absolute value, or NaN */
} Packing;

typedef struct {
    const Packing *p;
    atomic_int failed; /* an errno, or -1 for a file that is too short */
} PackingJob;

static int read_whole(int descriptor, char *to, int64_t size, int64_t offset) {
    while (size > 0) {
        ssize_t got = pread(descriptor, to, (size_t)size, (off_t)offset);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return errno;
        if (got == 0) return -1;
        to += got, offset += got, size -= got;
    }
    return 0;
}

static void convert(const char *from, int64_t stored, int64_t count, float *to) {
    const uint16_t *halves = (const uint16_t *)from;
    const double *doubles = (const double *)from;
    int64_t i = 0;
    if (stored == FLOAT64)
        for (; i < count; i++) to[i] = (float)doubles[i];
    else if (stored == FLOAT16) {
        for (; i + LANES <= count; i += LANES) store(to + i, LOAD_HALVES(halves + i));
        for (; i < count; i++) to[i] = half_to_float(halves[i]);
    } else
        for (; i < count; i++) {
            uint32_t bits = (uint32_t)halves[i] << 16;
            memcpy(to + i, &bits, 4);
        }
}

/* Reads `count` numbers from number `begin` on as floats. staging: as many doubles, or NULL where
 * they are stored as FLOAT32. */
static int read_floats(int descriptor, int64_t offset, int64_t stored, int64_t begin, int64_t count,
                       char *staging, float *to) {
    int64_t size = stored == FLOAT64 ? 8 : stored == FLOAT32 ? 4 : 2;
    char *bytes = stored == FLOAT32 ? (char *)to : staging;
    int failed = read_whole(descriptor, bytes, count * size, offset + begin * size);
    if (!failed && stored != FLOAT32) convert(bytes, stored, count, to);
    return failed;
}

static int read_part(const Packing *p, int64_t item, int64_t thread) {
    int64_t all = p->count * p->in, begin = item * READ_NUMBERS;
    int64_t count = all - begin < READ_NUMBERS ? all - begin : READ_NUMBERS;
    char *staging = p->stored == FLOAT32 ? NULL : p->staging + thread * READ_NUMBERS * 8;
    return read_floats((int)p->descriptor, p->offset, p->stored, begin, count, staging,
                       p->numbers + begin);
}

/* Rows of a matrix that stays in its file: x (n, width). */
static int read_rows(int descriptor, int64_t offset, int64_t stored, int64_t width,
                     const int64_t *indices, int64_t n, float *x) {
    _Alignas(8) char staging[ROW_NUMBERS * 8];
    for (int64_t row = 0; row < n; row++)
        for (int64_t done = 0; done < width; done += ROW_NUMBERS) {
            int64_t begin = indices[row] * width + done;
            int64_t count = width - done < ROW_NUMBERS ? width - done : ROW_NUMBERS;
            int failed = read_floats(descriptor, offset, stored, begin, count, staging,
                                     x + row * width + done);
            if (failed) return failed;
        }
    return 0;
}

/* One input of a block: BLOCK numbers, those beyond the last output 0. */
ALWAYS void take_input(const Packing *p, const float *from, int64_t outs, float *numbers) {
    if (p->by_out == 1 && outs == BLOCK) memcpy(numbers, from, BLOCK * sizeof(float));
    else
        for (int64_t o = 0; o < outs; o++) numbers[o] = from[o * p->by_out];
}

static void pack_floats(const Packing *p, int64_t block) {
    int64_t size = p->kind == FLOAT32 ? 4 : 2, begin = block * BLOCK;
    int64_t outs = p->count - begin < BLOCK ? p->count - begin : BLOCK;
    char *to = (char *)p->target + block * p->in * BLOCK * size;
    const float *from = p->numbers + begin * p->by_out;
    float numbers[BLOCK] = {0}, most[BLOCK] = {0}, lost[BLOCK] = {0};
    for (int64_t i = 0; i < p->in; i++, to += BLOCK * size) {
        take_input(p, from + i * p->by_in, outs, numbers);
        for (int64_t o = 0; o < BLOCK; o++) {
            float a = fabsf(numbers[o]);
            most[o] = a > most[o] ? a : most[o];
            lost[o] += numbers[o] - numbers[o]; /* 0, but NaN for NaN and infinity */
        }
        if (p->kind == FLOAT32) memcpy(to, numbers, sizeof(numbers));
        else if (p->kind == FLOAT16)
            for (int64_t o = 0; o < BLOCK; o += LANES)
                STORE_HALVES((uint16_t *)to + o, load(numbers + o));
        else
            for (int64_t o = 0; o < BLOCK; o++) {
                uint32_t bits; /* bfloat16, to nearest even; NaN keeps its upper bits */
                memcpy(&bits, numbers + o, 4);
                uint32_t kept = (bits & 0x7fffffff) > 0x7f800000 ? bits | 0x400000
                                                                 : bits + 0x7fff + (bits >> 16 & 1);
                ((uint16_t *)to)[o] = (uint16_t)(kept >> 16);
            }
    }
    float largest = 0, faults = 0;
    for (int64_t o = 0; o < BLOCK; o++) {
        largest = most[o] > largest ? most[o] : largest;
        faults += lost[o];
    }
    p->largest[block] = largest + faults;
}

/* Each output has its own scale, its largest absolute value over 127. One with NaN or infinity has
 * the scale NaN, so that the fault shows as it does in float32. */
static void pack_int8(const Packing *p, int64_t block) {
    int64_t whole = groups_of(p->in) * GROUP, begin = block * BLOCK;
    int64_t outs = p->count - begin < BLOCK ? p->count - begin : BLOCK;
    int8_t *to = (int8_t *)p->target + block * whole * BLOCK;
    const float *from = p->numbers + begin * p->by_out;
    float numbers[BLOCK] = {0}, most[BLOCK] = {0}, lost[BLOCK] = {0}, scale[BLOCK];
    for (int64_t i = 0; i < p->in; i++) {
        take_input(p, from + i * p->by_in, outs, numbers);
        for (int64_t o = 0; o < BLOCK; o++) {
            float a = fabsf(numbers[o]);
            most[o] = a > most[o] ? a : most[o];
            lost[o] += numbers[o] - numbers[o];
        }
    }
    float largest = 0;
    for (int64_t o = 0; o < BLOCK; o++) {
        int sound = lost[o] == 0;
        scale[o] = sound ? most[o] / 127 : NAN;
        if (o < outs) p->scale[begin + o] = scale[o];
        /* Integers of 0; below FLT_MIN a scale has too few bits to divide by. */
        if (!sound || !(scale[o] >= FLT_MIN)) scale[o] = INFINITY;
        largest = most[o] > largest ? most[o] : largest;
    }
    p->largest[block] = largest;
    for (int64_t i = 0; i < whole; i++) {
        int8_t *place = to + i / QUAD * BLOCK * QUAD + i % QUAD;
        if (i < p->in) take_input(p, from + i * p->by_in, outs, numbers);
        for (int64_t o = 0; o < BLOCK; o++) {
            float integer = i < p->in ? numbers[o] / scale[o] : 0;
            place[o * QUAD] = integer == integer ? (int8_t)ROUND(integer) : 0;
        }
    }
}

static int64_t packing_items(const void *job, int64_t phase) {
    const Packing *p = ((const PackingJob *)job)->p;
    int64_t all = p->count * p->in;
    return phase == 0 ? (all + READ_NUMBERS - 1) / READ_NUMBERS : (p->count + BLOCK - 1) / BLOCK;
}

static void pack_items(void *job, int64_t phase, int64_t begin, int64_t end, int64_t thread) {
    PackingJob *j = job;
    for (int64_t i = begin; i < end && !atomic_load(&j->failed); i++) {
        if (phase == 0) {
            int failed = read_part(j->p, i, thread);
            if (failed) atomic_store(&j->failed, failed);
        } else if (j->p->kind == INT8) pack_int8(j->p, i);
        else pack_floats(j->p, i);
    }
}
