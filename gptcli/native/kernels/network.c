/* The forward pass of GPT-2, and what prepares its weights.
 *
 * A step of one token reads every weight once. What remains to save is the time between two
 * matrices: all threads run the whole network together (see pool.h), so nothing is dispatched,
 * allocated or copied on the way. Long prompts run through the same phases, many rows at a time.
 *
 * This file is compiled once for each kind of processor; see hatch_build.py. */

#include "attention.h"
#include "layout.h"
#include "logits.h"
#include "model.h"
#include "packing.h"
#include "pool.h"
#include "products.h"

const int32_t gptcli_abi = ABI;

/* Neighbouring rows of one segment, whose attention is one task. */
typedef struct {
    int64_t segment, row, rows;
} Tile;

/* One step: new tokens of some sequences, and the rows whose logits are needed. */
typedef struct {
    const Model *model;
    const Cache *cache;
    const Segment *segments;
    const int64_t *wanted; /* (m), m <= n: rows whose logits are needed */
    int64_t n, m;
    float *x;      /* (n, C): embeddings; changed in place */
    float *logits; /* (m, vocab) */
    int64_t skipped; /* phases: those of the layers that ran before */
    /* In the scratch memory: */
    Tile *tiles;
    int64_t *segment_of; /* (n) */
    char *packed;        /* Activations of n rows */
    float *qkv, *mixed, *hidden, *own, *rows;
    int64_t tile_count, row_floats; /* `rows` has so many floats for each thread */
} Step;

typedef enum {
    LN_1, ATTN, STORE, ATTEND, PACK_ATTN_OUT, ATTN_OUT, LN_2, FC, PACK_PROJ, PROJ, LAYER_PHASES
} LayerPhase;
typedef enum { LN_F, HEAD, LAST_PHASES } LastPhase;

static int64_t step_items(const void *job, int64_t phase) {
    const Step *s = job;
    const Model *m = s->model;
    phase += s->skipped;
    if (phase >= m->count * LAYER_PHASES)
        return phase - m->count * LAYER_PHASES == LN_F ? s->m : matmul_items(&m->head, s->m);
    const Layer *layer = m->layers + phase / LAYER_PHASES;
    switch ((LayerPhase)(phase % LAYER_PHASES)) {
        case ATTN: return matmul_items(&layer->attn, s->n);
        case ATTEND: return s->tile_count * m->heads;
        case ATTN_OUT: return matmul_items(&layer->attn_out, s->n);
        case FC: return matmul_items(&layer->fc, s->n);
        case PROJ: return matmul_items(&layer->proj, s->n);
        default: return s->n;
    }
}

/* Layer norm of row `row` of x, packed as row number `place` of `count` for a matrix. */
static void norm_row(Step *s, const Norm *norm, const Matrix *matrix, int64_t row, int64_t place,
                     int64_t count, int64_t thread) {
    int64_t width = s->model->width;
    float *y = s->rows + thread * s->row_floats;
    layernorm(s->x + row * width, norm, s->model->epsilon, width, y);
    pack_row(matrix, y, place, count, activations_in(s->packed, matrix, count));
}

static void attend(Step *s, int64_t layer, int64_t item, int64_t thread) {
    const Model *m = s->model;
    int64_t head = item % m->heads, size = head_size(m), wide = value_size(m), width = m->width;
    Tile tile = s->tiles[item / m->heads];
    const Segment *segment = s->segments + tile.segment;
    int64_t first = segment->start + tile.row - segment->first;
    Places at = places_of(m, s->cache, segment, layer, head, s->own);
    const float *q = s->qkv + tile.row * 3 * width + head * size;
    float *y = s->mixed + tile.row * width + head * size;
    float *mixed = s->rows + thread * s->row_floats, *scores = mixed + QUERY_ROWS * wide;
    int64_t stride = s->cache->length;
    float scale = m->layers[layer].scale;
    switch (tile.rows) {
#define CASE(R)                                                                              \
    case R:                                                                                  \
        attend_rows(q, 3 * width, at, first, R, size, wide, scale, scores, stride, mixed, y, \
                    width);                                                                  \
        break;
        CASE(1) CASE(2) CASE(3) CASE(4)
#if QUERY_ROWS > 4
        CASE(5) CASE(6) CASE(7) CASE(8)
#endif
#undef CASE
    }
}

static void product(Step *s, const Matrix *matrix, int64_t item, int64_t n, Epilogue end, float *y) {
    Activations from = activations_in(s->packed, matrix, n);
    matmul_item(matrix, item, from, n, end, s->model->activation, y);
}

static void layer_item(Step *s, int64_t l, LayerPhase phase, int64_t i, int64_t thread) {
    const Model *m = s->model;
    const Layer *layer = m->layers + l;
    int64_t n = s->n;
    switch (phase) {
        case LN_1: norm_row(s, &layer->ln_1, &layer->attn, i, i, n, thread); break;
        case ATTN: product(s, &layer->attn, i, n, OVERWRITE, s->qkv); break;
        case STORE:
            store_row(m, s->cache, s->segments + s->segment_of[i], l, i, s->qkv, s->own);
            break;
        case ATTEND: attend(s, l, i, thread); break;
        case PACK_ATTN_OUT:
            pack_row(&layer->attn_out, s->mixed + i * m->width, i, n,
                     activations_in(s->packed, &layer->attn_out, n));
            break;
        case ATTN_OUT: product(s, &layer->attn_out, i, n, RESIDUAL, s->x); break;
        case LN_2: norm_row(s, &layer->ln_2, &layer->fc, i, i, n, thread); break;
        case FC: product(s, &layer->fc, i, n, ACTIVATE, s->hidden); break;
        case PACK_PROJ:
            pack_row(&layer->proj, s->hidden + i * m->inner, i, n,
                     activations_in(s->packed, &layer->proj, n));
            break;
        case PROJ: product(s, &layer->proj, i, n, RESIDUAL, s->x); break;
        case LAYER_PHASES: break;
    }
}

static void run_step(void *job, int64_t phase, int64_t begin, int64_t end, int64_t thread) {
    Step *s = job;
    const Model *m = s->model;
    phase += s->skipped;
    int64_t layer = phase / LAYER_PHASES, last = phase - m->count * LAYER_PHASES;
    for (int64_t i = begin; i < end; i++) {
        if (layer < m->count) layer_item(s, layer, phase % LAYER_PHASES, i, thread);
        else if (last == LN_F) norm_row(s, &m->ln_f, &m->head, s->wanted[i], i, s->m, thread);
        else product(s, &m->head, i, s->m, OVERWRITE, s->logits);
    }
}

/* Lays the parts of the scratch memory out. Returns their size in bytes; `memory` may be NULL. */
static int64_t lay_out(Step *s, char *memory, int64_t count, int64_t threads) {
    const Model *m = s->model;
    int64_t n = s->n, widest = m->inner > m->width ? m->inner : m->width, own = 0, at = 0;
    for (int64_t i = 0; i < count; i++)
        if (s->segments[i].own >= 0) own += own_floats(m, s->segments + i);
    int64_t task = QUERY_ROWS * (s->cache->length + value_size(m));
    s->row_floats = (task > widest ? task : widest) + 16;
#define PART(pointer, bytes) \
    pointer = memory ? (void *)(memory + at) : NULL, at += ((int64_t)(bytes) + 63) / 64 * 64
    PART(s->tiles, n * (int64_t)sizeof(Tile));
    PART(s->segment_of, n * 8);
    PART(s->packed, n * activation_bytes(widest));
    PART(s->qkv, n * 3 * m->width * 4);
    PART(s->mixed, n * m->width * 4);
    PART(s->hidden, n * m->inner * 4);
    PART(s->own, own * 4);
    PART(s->rows, threads * s->row_floats * 4);
#undef PART
    return at;
}

/* Bytes of scratch memory for a step of n tokens in these segments. */
int64_t gptcli_scratch_size(const Model *model, const Cache *cache, const Segment *segments,
                            int64_t count, int64_t n, int64_t threads) {
    Step s = {.model = model, .cache = cache, .segments = segments, .n = n};
    return lay_out(&s, NULL, count, threads);
}

/* Floats of memory that each segment needs of its own; see Segment. */
int64_t gptcli_own_floats(const Model *model, const Segment *segment) {
    return own_floats(model, segment);
}

/* The layers `layer` to `end` - 1 of the forward pass of n tokens, which change x (n, C), at first
 * the embeddings. After the last layer: logits (m, vocab) of the rows `wanted` (m). scratch: aligned
 * to 64 bytes, of gptcli_scratch_size. */
void gptcli_forward_step(const Model *model, const Cache *cache, const Segment *segments,
                         int64_t count, const int64_t *wanted, int64_t n, int64_t m, float *x,
                         float *logits, char *scratch, int64_t threads, int64_t layer,
                         int64_t end) {
    Step s = {.model = model, .cache = cache, .segments = segments, .wanted = wanted, .n = n,
              .m = m, .x = x, .logits = logits, .skipped = layer * LAYER_PHASES};
    lay_out(&s, scratch, count, threads);
    for (int64_t i = 0; i < count; i++) {
        int64_t first = segments[i].first, stop = first + segments[i].length;
        for (int64_t row = first; row < stop; row++) s.segment_of[row] = i;
        for (int64_t row = first; row < stop; row += QUERY_ROWS) {
            int64_t rows = stop - row < QUERY_ROWS ? stop - row : QUERY_ROWS;
            s.tiles[s.tile_count++] = (Tile){i, row, rows};
        }
    }
    int64_t phases = (end - layer) * LAYER_PHASES + (end == model->count && m ? LAST_PHASES : 0);
    pool_run(&s, run_step, step_items, phases, threads);
}

/* One product, for tests and for what is not a step. */
typedef struct {
    const Matrix *matrix;
    const float *x;
    float *y;
    char *packed;
    int64_t n;
} Matmul;

static int64_t count_matmul(const void *job, int64_t phase) {
    const Matmul *p = job;
    return phase == 0 ? p->n : matmul_items(p->matrix, p->n);
}

static void run_matmul(void *job, int64_t phase, int64_t begin, int64_t end, int64_t thread) {
    (void)thread;
    const Matmul *p = job;
    Activations to = activations_in(p->packed, p->matrix, p->n);
    for (int64_t i = begin; i < end; i++) {
        if (phase == 0) pack_row(p->matrix, p->x + i * p->matrix->in_features, i, p->n, to);
        else matmul_item(p->matrix, i, to, p->n, OVERWRITE, 0, p->y);
    }
}

/* y (n, out) = x (n, in) times the matrix (out, in), plus bias. scratch: n rows of
 * gptcli_activation_bytes. */
void gptcli_matmul(const Matrix *matrix, const float *x, int64_t n, float *y, char *scratch,
                   int64_t threads) {
    Matmul p = {matrix, x, y, scratch, n};
    pool_run(&p, run_matmul, count_matmul, 2, threads);
}

int64_t gptcli_activation_bytes(int64_t in) { return activation_bytes(in); }

/* Bytes of memory for each thread that packs a matrix. */
int64_t gptcli_packing_bytes(const Packing *part) { return packing_bytes(part); }

/* Reads and packs `count` matrices. memory: `bytes` for each thread. Returns 0, or the number of the
 * one that failed, from 1 on; `error`: an errno, or -1 for a file that is too short. */
int64_t gptcli_pack(const Packing *parts, int64_t count, char *memory, int64_t bytes,
                    int64_t threads, int32_t *error) {
    PackingJob job = {.parts = parts, .threads = threads, .memory = memory, .bytes = bytes};
    pool_run(&job, pack_items, packing_items, count * PACKING_PHASES, threads);
    *error = atomic_load(&job.error);
    return atomic_load(&job.failed);
}

/* Highest value (n) and sum of exponentials (n) of rows of logits (n, size); see logits.h. */
void gptcli_log_sum_exps(const float *rows, int64_t n, int64_t size, float *highest, double *sum,
                         int64_t threads) {
    LogSumExps job = {rows, n, size, highest, sum};
    pool_run(&job, sum_rows, count_rows, 1, threads);
}

/* Reads rows of a matrix that stays in its file, as floats: x (n, width). Returns as gptcli_pack. */
int32_t gptcli_read_rows(int64_t descriptor, int64_t offset, int64_t stored, int64_t width,
                         const int64_t *indices, int64_t n, float *x) {
    return read_rows((int)descriptor, offset, stored, width, indices, n, x);
}
