/* Vector types and operations of this kind of processor. */

#pragma once

#include <immintrin.h>

#include "model.h"

#ifdef __AVX512F__
#define LANES 16
#define TILE_ROWS 8      /* rows of activations at a time: 16 sums in 32 registers */
#define FLOAT_TILE_ROWS 8
typedef __m512 Floats;
typedef __m512i Ints;
#define ZEROS _mm512_setzero_ps()
#define INT_ZEROS _mm512_setzero_si512()
#define LOAD_HALVES(p) _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(p)))
#define BROADCAST(v) _mm512_set1_ps(v)
#define FMA(a, b, c) _mm512_fmadd_ps(a, b, c)
#define ADD(a, b) _mm512_add_ps(a, b)
#define TO_FLOATS(v) _mm512_cvtepi32_ps(v)
#define STORE(p, v) _mm512_storeu_ps(p, v)
#define LOAD(p) _mm512_loadu_ps(p)
#define SUM(v) _mm512_reduce_add_ps(v)
#define LOAD_INT8S(p) _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)(p)))
#define BROADCAST_PAIR(v) _mm512_set1_epi32(v)
#ifdef __AVX512VNNI__
#define DOT_PAIRS(a, b, c) _mm512_dpwssd_epi32(c, a, b)
#else
#define DOT_PAIRS(a, b, c) _mm512_add_epi32(c, _mm512_madd_epi16(a, b))
#endif
#else
#define LANES 8
#define TILE_ROWS 3      /* 12 sums in 16 registers */
#define FLOAT_TILE_ROWS 2 /* with 3 the compiler runs out of them */
typedef __m256 Floats;
typedef __m256i Ints;

static inline float horizontal_sum(__m256 v) {
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}

#define ZEROS _mm256_setzero_ps()
#define INT_ZEROS _mm256_setzero_si256()
#define LOAD_HALVES(p) _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p)))
#define BROADCAST(v) _mm256_set1_ps(v)
#define FMA(a, b, c) _mm256_fmadd_ps(a, b, c)
#define ADD(a, b) _mm256_add_ps(a, b)
#define TO_FLOATS(v) _mm256_cvtepi32_ps(v)
#define STORE(p, v) _mm256_storeu_ps(p, v)
#define LOAD(p) _mm256_loadu_ps(p)
#define SUM(v) horizontal_sum(v)
#define LOAD_INT8S(p) _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(p)))
#define BROADCAST_PAIR(v) _mm256_set1_epi32(v)
#define DOT_PAIRS(a, b, c) _mm256_add_epi32(c, _mm256_madd_epi16(a, b))
#endif
#define VECTORS (BLOCK / LANES)
