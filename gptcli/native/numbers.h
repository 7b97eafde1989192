/* Elementwise functions and layernorm, written so that compilers vectorise them. */

#pragma once

#include <math.h>
#include <stdint.h>

#include "model.h"

#define ALWAYS static inline __attribute__((always_inline))

/* e^x for x <= 88: 2^n times a polynomial on [-ln 2 / 2, ln 2 / 2]; relative error 2e-7. NaN stays
 * NaN. */
static inline float exp_approx(float x) {
    float held = x < -87.0f ? -87.0f : x;
    float n = __builtin_rintf(held * 1.44269504f);
    float r = (held - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.0f / 5040;
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r * r + r + 1.0f;
    union { int32_t i; float f; } two = {(int32_t)((uint32_t)((int32_t)n + 127) << 23)};
    return p * two.f;
}

/* GELU by the tanh formula (Hendrycks and Gimpel 2016): x times a sigmoid. */
static inline float gelu(float x) {
    float u = -1.59576912f * (x + 0.044715f * x * x * x);
    return x / (1.0f + exp_approx(u > 88.0f ? 88.0f : u));
}

/* layernorm_forward of one row: x (C) -> y (C). Values whose sum overflows come from a broken
 * model, and must show as infinity or NaN. */
static void layernorm(const float *x, const Norm *norm, float epsilon, int64_t width, float *y) {
    float sum = 0;
    double squares = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < width; i++) sum += x[i];
    float mean = sum / width;
#pragma omp simd reduction(+ : squares)
    for (int64_t i = 0; i < width; i++) squares += (double)(x[i] - mean) * (x[i] - mean);
    float by = (float)(1.0 / sqrt(squares / width + epsilon));
    for (int64_t i = 0; i < width; i++) y[i] = (x[i] - mean) * by * norm->weight[i] + norm->bias[i];
}
