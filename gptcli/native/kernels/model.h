/* Structures of a GPT-2 in memory; gptcli/native/structures.py fills them. */

#pragma once

#include <stdint.h>

#define ABI 8 /* version of the functions' arguments, as in gptcli/native/structures.py */
#define KEYS 16 /* keys of a head that are stored side by side */

/* How weights are stored, also in a file of safetensors. */
typedef enum { FLOAT32, FLOAT16, BFLOAT16, INT8, FLOAT64 } Kind;

/* A matrix (out, in) in blocks of BLOCK outputs, the last one filled with zeros. A block is
 * in x BLOCK floats; of int8 in/QUAD x BLOCK x QUAD, where `in` is rounded up to a multiple of
 * GROUP (see products.h). */
typedef struct {
    const void *weight;
    const float *scale; /* (out) of int8: value of the integer 1, else NULL */
    const float *bias;  /* (out) or NULL */
    int64_t in_features, out_features, kind;
} Matrix;

typedef struct {
    const float *weight, *bias;
} Norm;

typedef struct {
    Norm ln_1, ln_2;
    Matrix attn, attn_out, fc, proj;
    float scale; /* of the attention scores */
} Layer;

typedef struct {
    const Layer *layers;
    Norm ln_f;
    Matrix head;
    int64_t count, width, inner, heads, activation; /* layers, C, MLP width, heads, see numbers.h */
    float epsilon;
} Model;

/* Keys and values of `slots` sequences of up to `length` tokens (a multiple of KEYS).
 * keys: (layers, slots, heads, length / KEYS, D, KEYS); values: (layers, slots, heads, length, Dp),
 * where D is the size of a head, and Dp is D rounded up to a multiple of KEYS. */
typedef struct {
    float *keys, *values;
    int64_t slots, length;
} Cache;

/* New tokens of one sequence: rows `first` to `first` + `length` - 1 of the step, after `start`
 * tokens in `slot`. `own`: where the new keys and values go, -1 for the cache, else a place in the
 * scratch memory: several segments may continue the same slot without seeing each other. */
typedef struct {
    int64_t slot, start, first, length, own;
} Segment;
