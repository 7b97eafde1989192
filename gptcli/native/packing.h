/* Packing: from a matrix (out, in) to blocks of BLOCK outputs. */

#pragma once

#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "model.h"
#include "threads.h"

typedef struct {
    const Team *team;
    const float *source; /* (out, in) with these strides */
    const int8_t *integers;
    int64_t out, in, by_out, by_in, bits;
    void *target;
    float *largest; /* of each block: its largest absolute value, or NaN */
    Barrier barrier;
} Packing;

static void pack_floats(const Packing *p, int64_t block) {
    char *to = (char *)p->target + block * p->in * BLOCK * (p->bits / 8);
    int64_t begin = block * BLOCK, outs = p->out - begin < BLOCK ? p->out - begin : BLOCK;
    const float *source = p->source + begin * p->by_out;
    float largest = 0, lost = 0;
    for (int64_t i = 0; i < p->in; i++, to += BLOCK * (p->bits / 8)) {
        float numbers[BLOCK] = {0};
        const float *from = source + i * p->by_in;
        if (p->by_out == 1)
            memcpy(numbers, from, outs * sizeof(float));
        else
            for (int64_t o = 0; o < outs; o++) numbers[o] = from[o * p->by_out];
        for (int64_t o = 0; o < BLOCK; o++) {
            float size = fabsf(numbers[o]);
            largest = size > largest ? size : largest;
            lost += numbers[o] - numbers[o]; /* 0, but NaN for NaN and infinity */
        }
        if (p->bits == 32) memcpy(to, numbers, sizeof(numbers));
        else
            for (int64_t o = 0; o < BLOCK; o += 8)
                _mm_storeu_si128((__m128i *)(to + 2 * o),
                                 _mm256_cvtps_ph(_mm256_loadu_ps(numbers + o), 0));
    }
    p->largest[block] = largest + lost;
}

static void pack_int8(const Packing *p, int64_t block) {
    int8_t *to = (int8_t *)p->target + block * p->in * BLOCK;
    int64_t begin = block * BLOCK, outs = p->out - begin < BLOCK ? p->out - begin : BLOCK;
    memset(to, 0, p->in * BLOCK);
    for (int64_t o = 0; o < outs; o++) {
        const int8_t *from = p->integers + (begin + o) * p->in;
        for (int64_t i = 0; i < p->in; i += 2) memcpy(to + i * BLOCK + 2 * o, from + i, 2);
    }
}

static void pack_matrix(void *data) {
    Packing *p = data;
    Barrier *barrier = &p->barrier;
    FOR_TASKS((p->out + BLOCK - 1) / BLOCK) {
        if (p->integers) pack_int8(p, i);
        else pack_floats(p, i);
    }
}
