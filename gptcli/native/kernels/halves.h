/* float16 for processors without instructions for it: IEEE 754 binary16, rounded to nearest even. */

#pragma once

#include <stdint.h>
#include <string.h>

static inline float half_to_float(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, rest = half & 0x7fff, bits;
    float value;
    if (rest >= 0x7c00) bits = 0x7f800000 | (rest & 0x3ff) << 13; /* infinity, NaN */
    else if (rest >= 0x400) bits = (rest << 13) + (112u << 23);
    else { /* zero and what has fewer bits */
        value = (float)rest * 0x1p-24f;
        memcpy(&bits, &value, 4);
    }
    bits |= sign;
    memcpy(&value, &bits, 4);
    return value;
}

static inline uint16_t float_to_half(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    uint32_t rest = bits & 0x7fffffff;
    if (rest > 0x7f800000) return sign | 0x7e00;  /* NaN */
    if (rest >= 0x477ff000) return sign | 0x7c00; /* 65520 and more become infinity */
    if (rest < 0x38800000) {                      /* below 2^-14: a multiple of 2^-24 */
        float small;
        memcpy(&small, &rest, 4);
        float steps = (small * 0x1p24f + 0x1p23f) - 0x1p23f; /* rounds to nearest even */
        return sign | (uint16_t)steps;
    }
    rest += 0xfff + (rest >> 13 & 1); /* to nearest even */
    return sign | (uint16_t)((rest - (112u << 23)) >> 13);
}
