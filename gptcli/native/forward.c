/* The forward pass of GPT-2 for a few tokens, and its matrix product for many.
 *
 * A step of one token reads every weight once. What remains to save is the time between two
 * matrices: all threads run the whole network together and meet at barriers, so nothing is
 * dispatched, allocated or copied on the way. The result of a token depends only on its own
 * sequence, to the bit, however many tokens are computed beside it: each sum is taken in the same
 * order, and work is divided by outputs, never by inputs.
 *
 * A matrix (out, in) is stored in blocks of 32 outputs: in x 32 float32 or float16 values. An int8
 * block is in/2 x 32 x 2, pairs of inputs side by side, as 16-bit multiply-adds need them.
 * Activations for int8 weights are rounded to 15-bit integers relative to the largest of their row;
 * their sums are integers, the same on every processor.
 *
 * This file is compiled once for each kind of processor; see hatch_build.py. Threads are those of
 * torch's OpenMP runtime, through its GOMP_parallel: a second pool would compete for the cores.
 */

#include "attention.h"
#include "layout.h"
#include "model.h"
#include "packing.h"
#include "products.h"
#include "threads.h"

const int32_t gptcli_abi = ABI;

typedef struct {
    const Team *team;
    const Matrix *matrix;
    const float *x; /* (n, in) */
    int64_t n;
    float *y;       /* (n, out) */
    float *scratch; /* n (in + 1) */
    Barrier barrier;
} Matmul;

/* All layers and the head; run by every thread of the team. */
static void forward(void *data) {
    ForwardStep *s = data;
    const Model *model = s->model;
    Barrier *barrier = &s->barrier;
    int size = s->team->num_threads();
    int64_t n = s->n, width = model->width, inner = model->inner, m = s->m;
    int64_t widest = inner > width ? inner : width;
    float *ready = s->scratch, *qkv = ready + n * (widest + 1);
    float *mixed = qkv + n * 3 * width, *hidden = mixed + n * width;
    float *rows = hidden + n * inner + s->team->thread_num() * (widest + model->length);
    float *scores = rows + widest;
    for (int64_t l = 0; l < model->count; l++) {
        const Layer *layer = &model->layers[l];
        Activations narrow = activations_in(ready, n, width);
        Activations wide = activations_in(ready, n, inner);
        FOR_TASKS(n) {
            layernorm(s->x + i * width, &layer->ln_1, model->epsilon, width, rows);
            pack_activations(&layer->attn, rows, i, n, narrow);
        }
        BARRIER;
        FOR_TASKS(block_count(&layer->attn))
            matmul_block(&layer->attn, i, narrow, n, OVERWRITE, qkv);
        BARRIER;
        FOR_TASKS(n * model->heads + 1) {
            int64_t row = i / model->heads, head = i % model->heads;
            if (row == n) store_kv(s, layer, qkv);
            else attend(s, layer, qkv, row, head, scores, mixed);
        }
        BARRIER;
        FOR_TASKS(n) pack_activations(&layer->attn_out, mixed + i * width, i, n, narrow);
        BARRIER;
        FOR_TASKS(block_count(&layer->attn_out))
            matmul_block(&layer->attn_out, i, narrow, n, RESIDUAL, s->x);
        BARRIER;
        FOR_TASKS(n) {
            layernorm(s->x + i * width, &layer->ln_2, model->epsilon, width, rows);
            pack_activations(&layer->fc, rows, i, n, narrow);
        }
        BARRIER;
        FOR_TASKS(block_count(&layer->fc))
            matmul_block(&layer->fc, i, narrow, n, GELU, hidden);
        BARRIER;
        FOR_TASKS(n) pack_activations(&layer->proj, hidden + i * inner, i, n, wide);
        BARRIER;
        FOR_TASKS(block_count(&layer->proj))
            matmul_block(&layer->proj, i, wide, n, RESIDUAL, s->x);
        BARRIER;
    }
    if (m == 0) return;
    Activations last = activations_in(ready, m, width);
    FOR_TASKS(m) {
        layernorm(s->x + s->wanted[i] * width, &model->ln_f, model->epsilon, width, rows);
        pack_activations(&model->head, rows, i, m, last);
    }
    BARRIER;
    FOR_TASKS(block_count(&model->head))
        matmul_block(&model->head, i, last, m, OVERWRITE, s->logits);
}

/* One matrix product; run by every thread of the team. */
static void matmul(void *data) {
    Matmul *p = data;
    Barrier *barrier = &p->barrier;
    int size = p->team->num_threads();
    Activations from = activations_in(p->scratch, p->n, p->matrix->in_features);
    FOR_TASKS(p->n) pack_activations(p->matrix, p->x + i * p->matrix->in_features, i, p->n, from);
    BARRIER;
    FOR_TASKS(block_count(p->matrix))
        matmul_block(p->matrix, i, from, p->n, OVERWRITE, p->y);
}

/* Floats of scratch memory that a step of n tokens needs. */
int64_t gptcli_scratch_size(const Model *model, int64_t n, int64_t threads) {
    int64_t widest = model->inner > model->width ? model->inner : model->width;
    int64_t rows = n * (widest + 1 + 4 * model->width + model->inner);
    return rows + threads * (widest + model->length);
}

/* Forward pass of n tokens: embeddings x (n, C) -> logits (m, vocab) of the rows `wanted` (m). */
void gptcli_forward_step(const Team *team, const Model *model, const int64_t *slot,
                         const int64_t *start, const int64_t *first, const int64_t *wanted,
                         int64_t n, int64_t m, float *x, float *logits, float *scratch) {
    ForwardStep s = {team, model, slot, start, first, wanted, n, m, x, logits, scratch, {0}};
    team->parallel(forward, &s, (unsigned)team->threads, 0);
}

/* y (n, out) = x (n, in) times the matrix (out, in), plus bias. */
void gptcli_matmul(const Team *team, const Matrix *matrix, const float *x, int64_t n, float *y,
                   float *scratch) {
    Matmul p = {team, matrix, x, n, y, scratch, {0}};
    team->parallel(matmul, &p, (unsigned)team->threads, 0);
}

/* Packs a float matrix (out, in) with these strides into blocks of float32 or float16. */
void gptcli_pack_floats(const Team *team, const float *source, int64_t out, int64_t in,
                        int64_t by_out, int64_t by_in, int64_t bits, void *target,
                        float *largest) {
    Packing p = {team, source, NULL, out, in, by_out, by_in, bits, target, largest, {0}};
    team->parallel(pack_matrix, &p, (unsigned)team->threads, 0);
}

/* Packs an int8 matrix (out, in) into blocks. */
void gptcli_pack_int8(const Team *team, const int8_t *source, int64_t out, int64_t in,
                      int8_t *target) {
    Packing p = {team, NULL, source, out, in, 0, 0, 8, target, NULL, {0}};
    team->parallel(pack_matrix, &p, (unsigned)team->threads, 0);
}
