/* A GPT-2 as it lies in memory; gptcli/native/__init__.py builds it. */

#pragma once

#include <stdint.h>

#include "threads.h"

#define BLOCK 32 /* outputs of a matrix that lie side by side */

typedef struct {
    const void *weight; /* blocks of floats, of half floats or of int8_t, by `bits` */
    const float *scale; /* (out) for 8 bits, else NULL */
    const float *bias;  /* (out) or NULL */
    int64_t in_features, out_features, bits;
} Matrix;

typedef struct {
    const float *weight, *bias;
} Norm;

typedef struct {
    Norm ln_1, ln_2;
    Matrix attn, attn_out, fc, proj;
    float *kv;    /* (slots, 2, heads, length, width / heads) */
    float scale;  /* of attention's scores */
} Layer;

typedef struct {
    Layer *layers;
    Norm ln_f;
    Matrix head;
    int64_t count, width, inner, heads, length; /* of layers, C, ..., of a slot */
    float epsilon;
} Model;

#define ABI 4 /* of the functions' arguments; gptcli/native/__init__.py has the same */

/* New tokens of some sequences, and whose logits are wanted. */
typedef struct {
    const Team *team;
    const Model *model;
    const int64_t *slot, *start, *first; /* (n): of each token's segment: slot, start, first row */
    const int64_t *wanted;               /* (m) rows whose logits are wanted */
    int64_t n, m;
    float *x;                            /* (n, C) embeddings; changed */
    float *logits;                       /* (m, vocab) */
    float *scratch;                      /* see gptcli_scratch_size */
    Barrier barrier;
} ForwardStep;
