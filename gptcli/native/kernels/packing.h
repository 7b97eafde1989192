/* Packing: from the files of a checkpoint to matrices in blocks of BLOCK outputs.
 *
 * A thread reads a piece of a matrix into memory of its own, which its core's cache holds, and packs
 * it from there. Reading costs no page faults, keeps no pages, and a file that becomes shorter gives
 * an error instead of a signal. */

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

#define PIECE_NUMBERS 49152 /* of a matrix (in, out) that a thread reads at a time */
#define ROW_NUMBERS 2048    /* of a row of an embedding */

/* gptcli/native/structures.py fills this for each matrix. The target is zero. */
typedef struct {
    int64_t descriptor, offset; /* of the file, and where its numbers begin */
    int64_t stored, kind;       /* the Kind of the numbers in the file, and the one to pack to */
    int64_t count, in;          /* outputs, inputs */
    int64_t transposed;         /* whether the file has (in, out), not (out, in) */
    void *target;               /* the first block */
    float *scale;               /* (count) of int8 */
    float *maxima;              /* (threads, count) zeros: of int8 from (in, out) */
    float *largest;             /* (threads) zeros: largest absolute value, INFINITY for NaN too */
} Packing;

typedef struct {
    const Packing *parts;
    int64_t threads;
    char *memory;         /* (threads, bytes) */
    int64_t bytes;        /* at least packing_bytes of each part */
    _Atomic int64_t failed; /* 0, or the number of the part, from 1 on */
    atomic_int error;     /* an errno, or -1 for a file that is too short */
} PackingJob;

/* A part is packed in up to three phases. int8 weights need the largest value of an output before the
 * first integer; in a matrix (in, out) that takes a pass of its own. */
typedef enum { MAXIMA, SCALES, PACK, PACKING_PHASES } PackingPhase;

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

/* Inputs of one piece of a matrix (in, out): whole QUADs. */
ALWAYS int64_t piece_inputs(const Packing *p) {
    int64_t fit = PIECE_NUMBERS / p->count / QUAD * QUAD;
    return fit > QUAD ? fit : QUAD;
}

ALWAYS int64_t piece_numbers(const Packing *p) {
    return p->transposed ? piece_inputs(p) * p->count : BLOCK * p->in;
}

/* Bytes of memory that a thread needs: the numbers of a piece, and as many doubles to convert. */
static int64_t packing_bytes(const Packing *p) {
    return (piece_numbers(p) * (p->stored == FLOAT32 ? 4 : 12) + 63) / 64 * 64;
}

/* Reads `count` numbers from number `begin` on into a thread's memory. NULL if that fails. */
static const float *read_piece(PackingJob *job, int64_t part, int64_t thread, int64_t begin,
                               int64_t count) {
    const Packing *p = job->parts + part;
    char *staging = job->memory + thread * job->bytes;
    float *to = (float *)(p->stored == FLOAT32 ? staging : staging + 8 * piece_numbers(p));
    int error = read_floats((int)p->descriptor, p->offset, p->stored, begin, count, staging, to);
    if (!error) return to;
    int64_t none = 0;
    if (atomic_compare_exchange_strong(&job->failed, &none, part + 1))
        atomic_store(&job->error, error);
    return NULL;
}

/* The larger of a maximum and |x|; INFINITY for what is not finite. */
ALWAYS float larger(float most, float x) {
    float a = fabsf(x);
    a = a <= FLT_MAX ? a : INFINITY;
    return a > most ? a : most;
}

static void store_floats(int64_t kind, const float *numbers, char *to) {
    if (kind == FLOAT32) memcpy(to, numbers, BLOCK * sizeof(float));
    else if (kind == FLOAT16)
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

/* Packs inputs `first` to `first` + `inputs` - 1 of a block of floats. Output o has input i at
 * from[o by_out + (i - first) by_in]. */
ALWAYS void pack_floats(const Packing *p, int64_t block, const float *from, int64_t by_out,
                        int64_t by_in, int64_t first, int64_t inputs, float *most) {
    int64_t size = p->kind == FLOAT32 ? 4 : 2, begin = block * BLOCK;
    int64_t outs = p->count - begin < BLOCK ? p->count - begin : BLOCK;
    char *to = (char *)p->target + (block * p->in + first) * BLOCK * size;
    float numbers[BLOCK] = {0};
    for (int64_t i = 0; i < inputs; i++, to += BLOCK * size) {
        for (int64_t o = 0; o < outs; o++) numbers[o] = from[o * by_out + i * by_in];
        for (int64_t o = 0; o < BLOCK; o++) most[o] = larger(most[o], numbers[o]);
        store_floats(p->kind, numbers, to);
    }
}

/* As pack_floats, by the scale of each output. A tiny scale may round: 127 is the most. */
ALWAYS void pack_int8(const Packing *p, int64_t block, const float *from, int64_t by_out,
                      int64_t by_in, int64_t first, int64_t inputs) {
    int64_t whole = groups_of(p->in) * GROUP, begin = block * BLOCK;
    int64_t outs = p->count - begin < BLOCK ? p->count - begin : BLOCK;
    int8_t *to = (int8_t *)p->target + block * whole * BLOCK;
    for (int64_t i = 0; i < inputs; i++) {
        int8_t *place = to + (first + i) / QUAD * BLOCK * QUAD + (first + i) % QUAD;
        for (int64_t o = 0; o < outs; o++) {
            float scale = p->scale[begin + o];
            float integer = scale > 0 ? ROUND(from[o * by_out + i * by_in] / scale) : 0;
            integer = integer > 127 ? 127 : integer < -127 ? -127 : integer;
            place[o * QUAD] = (int8_t)(integer == integer ? integer : 0);
        }
    }
}

/* The value of the integer 1: an output's largest absolute value over 127. One with NaN or infinity
 * has the scale NaN, so that the fault shows as it does in float32. */
ALWAYS float scale_of(float most) { return most <= FLT_MAX ? most / 127 : NAN; }

static void find_maxima(PackingJob *job, int64_t part, int64_t item, int64_t thread) {
    const Packing *p = job->parts + part;
    int64_t first = item * piece_inputs(p), left = p->in - first, count = p->count;
    int64_t inputs = left < piece_inputs(p) ? left : piece_inputs(p);
    const float *from = read_piece(job, part, thread, first * count, inputs * count);
    float *most = p->maxima + thread * count;
    for (int64_t i = 0; from && i < inputs; i++)
        for (int64_t o = 0; o < count; o++) most[o] = larger(most[o], from[i * count + o]);
}

static void find_scales(const PackingJob *job, int64_t part, int64_t block) {
    const Packing *p = job->parts + part;
    int64_t begin = block * BLOCK, end = begin + BLOCK < p->count ? begin + BLOCK : p->count;
    for (int64_t o = begin; o < end; o++) {
        float most = 0;
        for (int64_t t = 0; t < job->threads; t++) most = larger(most, p->maxima[t * p->count + o]);
        p->scale[o] = scale_of(most);
    }
}

/* Packs a piece of a matrix (in, out): some inputs of all blocks. */
static void pack_inputs(PackingJob *job, int64_t part, int64_t item, int64_t thread) {
    const Packing *p = job->parts + part;
    int64_t first = item * piece_inputs(p), left = p->in - first, count = p->count;
    int64_t inputs = left < piece_inputs(p) ? left : piece_inputs(p);
    const float *from = read_piece(job, part, thread, first * count, inputs * count);
    float most[BLOCK] = {0};
    for (int64_t block = 0; from && block * BLOCK < count; block++, from += BLOCK)
        if (p->kind == INT8) pack_int8(p, block, from, 1, count, first, inputs);
        else pack_floats(p, block, from, 1, count, first, inputs, most);
    for (int o = 0; o < BLOCK; o++) p->largest[thread] = larger(p->largest[thread], most[o]);
}

/* Packs a piece of a matrix (out, in): a block. */
static void pack_block(PackingJob *job, int64_t part, int64_t block, int64_t thread) {
    const Packing *p = job->parts + part;
    int64_t begin = block * BLOCK, in = p->in;
    int64_t outs = p->count - begin < BLOCK ? p->count - begin : BLOCK;
    const float *from = read_piece(job, part, thread, begin * in, outs * in);
    if (!from) return;
    float most[BLOCK] = {0};
    if (p->kind == INT8) {
        for (int64_t o = 0; o < outs; o++) {
            float all = 0;
            for (int64_t i = 0; i < in; i++) all = larger(all, from[o * in + i]);
            p->scale[begin + o] = scale_of(all);
        }
        pack_int8(p, block, from, in, 1, 0, in);
    } else pack_floats(p, block, from, in, 1, 0, in, most);
    for (int o = 0; o < BLOCK; o++) p->largest[thread] = larger(p->largest[thread], most[o]);
}

static int64_t packing_items(const void *job, int64_t phase) {
    const Packing *p = ((const PackingJob *)job)->parts + phase / PACKING_PHASES;
    int64_t pieces = (p->in + piece_inputs(p) - 1) / piece_inputs(p);
    int64_t blocks = (p->count + BLOCK - 1) / BLOCK;
    int scaled = p->kind == INT8 && p->transposed;
    switch ((PackingPhase)(phase % PACKING_PHASES)) {
        case MAXIMA: return scaled ? pieces : 0;
        case SCALES: return scaled ? blocks : 0;
        default: return p->transposed ? pieces : blocks;
    }
}

static void pack_items(void *job, int64_t phase, int64_t begin, int64_t end, int64_t thread) {
    PackingJob *j = job;
    int64_t part = phase / PACKING_PHASES;
    for (int64_t i = begin; i < end && !atomic_load(&j->failed); i++)
        switch ((PackingPhase)(phase % PACKING_PHASES)) {
            case MAXIMA: find_maxima(j, part, i, thread); break;
            case SCALES: find_scales(j, part, i); break;
            default:
                if (j->parts[part].transposed) pack_inputs(j, part, i, thread);
                else pack_block(j, part, i, thread);
        }
}
