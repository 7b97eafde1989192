/* Vectors of this kind of processor: AVX-512, AVX2, NEON, or what the compiler makes of GCC's and
 * Clang's vector extensions.
 *
 * Multiply-adds are spelled out, because a compiler may fuse the same expression in one place and
 * not in another, and then a row would depend on its neighbours. */

#pragma once

#include <stdint.h>
#include <string.h>

#define ALWAYS static inline __attribute__((always_inline))
#define BLOCK 32 /* outputs of a matrix that are stored side by side */
#define QUAD 4   /* inputs of an int8 matrix that are stored side by side */

#if defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)
#include <immintrin.h>
#define LANES 16
#define VECTORS 2     /* of outputs in registers at a time */
#define FLOAT_ROWS 12 /* of activations at a time: 24 sums in 32 registers */
#define INT8_ROWS 6   /* 12 sums of integers, 12 of floats */
#define QUERY_ROWS 8
#define WIDE_ROWS 4 /* rows of attention whose sums of 64 values fit the registers */
typedef __m512 Floats;
typedef __m512i Ints;
#define FMA(a, b, c) _mm512_fmadd_ps(a, b, c)
#define LOAD_HALVES(p) _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(p)))
#define LOAD_BRAINS(p) \
    _mm512_castsi512_ps(_mm512_slli_epi32( \
        _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(p))), 16))
#define STORE_HALVES(p, v) _mm256_storeu_si256((__m256i *)(p), _mm512_cvtps_ph(v, 0))
#define TO_FLOATS(v) _mm512_cvtepi32_ps(v)
#define LOAD_BYTES(p) _mm512_loadu_si512(p)
#define BROADCAST_INT(v) _mm512_set1_epi32(v)
#ifdef __AVX512VNNI__
/* The instruction multiplies unsigned by signed bytes. A weight plus 128 is its bits with the
 * highest one turned, and the sum begins at -128 times the sum of the activations. */
#define OFFSET -128
#define AS_UNSIGNED(w) _mm512_xor_si512(w, _mm512_set1_epi8((char)0x80))
#define DOT(sum, w, a) _mm512_dpbusd_epi32(sum, w, a)
#else
#define OFFSET 0
#define AS_UNSIGNED(w) (w)
ALWAYS Ints DOT(Ints sum, Ints w, Ints a) {
    Ints signed_w = _mm512_mask_sub_epi8(w, _mm512_movepi8_mask(a), _mm512_setzero_si512(), w);
    Ints pairs = _mm512_maddubs_epi16(_mm512_abs_epi8(a), signed_w);
    return _mm512_add_epi32(sum, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
}
#endif

#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include <immintrin.h>
#define LANES 8
#define VECTORS 2
#define FLOAT_ROWS 6 /* 12 sums in 16 registers */
#define INT8_ROWS 3
#define QUERY_ROWS 4
#define WIDE_ROWS 1
typedef __m256 Floats;
typedef __m256i Ints;
#define FMA(a, b, c) _mm256_fmadd_ps(a, b, c)
#define LOAD_HALVES(p) _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p)))
#define LOAD_BRAINS(p) \
    _mm256_castsi256_ps( \
        _mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(p))), 16))
#define STORE_HALVES(p, v) _mm_storeu_si128((__m128i *)(p), _mm256_cvtps_ph(v, 0))
#define TO_FLOATS(v) _mm256_cvtepi32_ps(v)
#define LOAD_BYTES(p) _mm256_loadu_si256((const __m256i *)(p))
#define BROADCAST_INT(v) _mm256_set1_epi32(v)
#define OFFSET 0
#define AS_UNSIGNED(w) (w)
ALWAYS Ints DOT(Ints sum, Ints w, Ints a) {
    /* 127 x 127 twice fits 16 bits. */
    Ints pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(a), _mm256_sign_epi8(w, a));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

#elif defined(__ARM_NEON) && defined(__aarch64__)
#include <arm_neon.h>
#define LANES 4
#define VECTORS 4
#define FLOAT_ROWS 6 /* 24 sums in 32 registers */
#define INT8_ROWS 3
#define QUERY_ROWS 4
#define WIDE_ROWS 1
typedef float32x4_t Floats;
typedef int32x4_t Ints;
#define FMA(a, b, c) vfmaq_f32(c, a, b)
#define LOAD_HALVES(p) vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16((const uint16_t *)(p))))
#define LOAD_BRAINS(p) \
    vreinterpretq_f32_u32(vshll_n_u16(vld1_u16((const uint16_t *)(p)), 16))
#define STORE_HALVES(p, v) vst1_u16((uint16_t *)(p), vreinterpret_u16_f16(vcvt_f16_f32(v)))
#define TO_FLOATS(v) vcvtq_f32_s32(v)
#define LOAD_BYTES(p) vreinterpretq_s32_s8(vld1q_s8((const int8_t *)(p)))
#define BROADCAST_INT(v) vdupq_n_s32(v)
#define OFFSET 0
#define AS_UNSIGNED(w) (w)
ALWAYS Ints DOT(Ints sum, Ints w, Ints a) {
    int8x16_t weights = vreinterpretq_s8_s32(w), own = vreinterpretq_s8_s32(a);
#ifdef __ARM_FEATURE_DOTPROD
    return vdotq_s32(sum, weights, own);
#else
    int16x8_t low = vmull_s8(vget_low_s8(weights), vget_low_s8(own));
    int16x8_t high = vmull_high_s8(weights, own);
    return vaddq_s32(sum, vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high)));
#endif
}

#else
#include "halves.h"
#define LANES 4
#define VECTORS 2
#define FLOAT_ROWS 6
#define INT8_ROWS 3
#define QUERY_ROWS 4
#define WIDE_ROWS 1
typedef float Floats __attribute__((vector_size(16)));
typedef int32_t Ints __attribute__((vector_size(16)));
#define FMA(a, b, c) ((a) * (b) + (c))
#define TO_FLOATS(v) __builtin_convertvector(v, Floats)
#define BROADCAST_INT(v) ((Ints){0} + (v))
#define OFFSET 0
#define AS_UNSIGNED(w) (w)
ALWAYS Floats LOAD_HALVES(const uint16_t *p) {
    return (Floats){half_to_float(p[0]), half_to_float(p[1]), half_to_float(p[2]),
                    half_to_float(p[3])};
}
ALWAYS Floats LOAD_BRAINS(const uint16_t *p) {
    Ints wide = {p[0], p[1], p[2], p[3]};
    return (Floats)(wide << 16);
}
ALWAYS void STORE_HALVES(uint16_t *p, Floats v) {
    for (int i = 0; i < LANES; i++) p[i] = float_to_half(v[i]);
}
ALWAYS Ints LOAD_BYTES(const void *p) {
    Ints v;
    memcpy(&v, p, sizeof v);
    return v;
}
/* Byte i of all words, sign-extended. The lanes stand in the order of memory. */
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define BYTE_OF(v, i) ((Ints)((v) << (24 - 8 * (i))) >> 24)
#else
#define BYTE_OF(v, i) ((Ints)((v) << (8 * (i))) >> 24)
#endif
ALWAYS Ints DOT(Ints sum, Ints w, Ints a) {
    for (int i = 0; i < QUAD; i++) sum += BYTE_OF(w, i) * BYTE_OF(a, i);
    return sum;
}
#endif

#define STRIP (LANES * VECTORS) /* outputs in registers at a time */
#define ZEROS ((Floats){0})
#define BROADCAST(v) ((v) - (Floats){0})

ALWAYS Floats load(const float *p) {
    Floats v;
    memcpy(&v, p, sizeof v);
    return v;
}

ALWAYS void store(float *p, Floats v) { memcpy(p, &v, sizeof v); }
