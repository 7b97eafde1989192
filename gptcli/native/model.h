/* Structures of a GPT-2 in memory; gptcli/native/__init__.py fills them. */

#pragma once

#include <stdint.h>

#include "threads.h"

#define BLOCK 32 /* outputs of a matrix that are stored side by side */

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
    float scale;  /* of the attention scores */
} Layer;

typedef struct {
    Layer *layers;
    Norm ln_f;
    Matrix head;
    int64_t count, width, inner, heads, length; /* layers, C, MLP width, heads, tokens of a slot */
    float epsilon;
} Model;

#define ABI 4 /* version of the functions' arguments, as in gptcli/native/__init__.py */

/* One step: new tokens of some sequences, and the rows whose logits are needed. */
typedef struct {
    const Team *team;
    const Model *model;
    const int64_t *slot, *start, *first; /* (n): each token's segment: slot, start, first row */
    const int64_t *wanted;               /* (m): rows whose logits are needed */
    int64_t n, m;
    float *x;                            /* (n, C): embeddings; changed in place */
    float *logits;                       /* (m, vocab) */
    float *scratch;                      /* see gptcli_scratch_size */
    Barrier barrier;
} ForwardStep;
