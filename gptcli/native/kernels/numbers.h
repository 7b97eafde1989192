/* Elementwise functions and layernorm, written so that compilers vectorise them. */

#pragma once

#include <math.h>
#include <stdint.h>

#include "model.h"
#include "vectors.h"

/* The nearest integer, for |x| < 2^22: a sum of this size has no binary places. */
#define ROUND(x) (((x) + 12582912.0f) - 12582912.0f)

/* e^x for x <= 88: 2^n times a polynomial on [-ln 2 / 2, ln 2 / 2]; relative error 2e-7. NaN stays
 * NaN. */
ALWAYS float exp_approx(float x) {
    float held = x < -87.0f ? -87.0f : x;
    float n = ROUND(held * 1.44269504f);
    float r = (held - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.0f / 5040;
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r * r + r + 1.0f;
    /* Of NaN the integer does not matter, as long as the conversion is defined. */
    union { int32_t i; float f; } two = {((n == n ? (int32_t)n : 0) + 127) * (1 << 23)};
    return p * two.f;
}

ALWAYS float sigmoid(float x) {
    float u = -x;
    return 1.0f / (1.0f + exp_approx(u > 88.0f ? 88.0f : u));
}

/* Activation functions; gptcli/native/structures.py has the names of config.json for them. */
typedef enum { GELU_TANH, GELU_ERF, GELU_SIGMOID, RELU, SILU, TANH } Activation;

/* Hendrycks and Gimpel 2016 (arXiv 1606.08415); the tanh formula is x times a sigmoid. */
ALWAYS float gelu_tanh(float x) { return x * sigmoid(1.59576912f * (x + 0.044715f * x * x * x)); }

static void activate(int64_t activation, float *x, int64_t size) {
    switch ((Activation)activation) {
        case GELU_TANH:
            for (int64_t i = 0; i < size; i++) x[i] = gelu_tanh(x[i]);
            break;
        case GELU_ERF:
            for (int64_t i = 0; i < size; i++) x[i] = 0.5f * x[i] * (1 + erff(x[i] * 0.70710678f));
            break;
        case GELU_SIGMOID:
            for (int64_t i = 0; i < size; i++) x[i] = x[i] * sigmoid(1.702f * x[i]);
            break;
        case RELU:
            for (int64_t i = 0; i < size; i++) x[i] = x[i] < 0 ? 0 : x[i]; /* NaN stays */
            break;
        case SILU:
            for (int64_t i = 0; i < size; i++) x[i] = x[i] * sigmoid(x[i]);
            break;
        case TANH:
            for (int64_t i = 0; i < size; i++) x[i] = tanhf(x[i]);
            break;
    }
}

/* layernorm_forward of one row: x (C) -> y (C). Values whose sum overflows come from a broken
 * model, and must show as infinity or NaN. */
static void layernorm(const float *x, const Norm *norm, float epsilon, int64_t width, float *y) {
    float sum = 0;
    double squares = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < width; i++) sum += x[i];
    float mean = sum / (float)width;
#pragma omp simd reduction(+ : squares)
    for (int64_t i = 0; i < width; i++) squares += (double)(x[i] - mean) * (x[i] - mean);
    float by = (float)(1.0 / sqrt(squares / (double)width + epsilon));
    for (int64_t i = 0; i < width; i++) y[i] = (x[i] - mean) * by * norm->weight[i] + norm->bias[i];
}
