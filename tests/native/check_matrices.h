/* Packing and products against plain loops in float64. */

#pragma once

#include "common.h"

static const int64_t KINDS[] = {FLOAT32, FLOAT16, BFLOAT16, INT8};

/* A matrix and the numbers that its weights stand for. */
typedef struct {
    Matrix packed;
    float *weight; /* (out, in) */
} Pair;

static float rounded(float x, int64_t kind) {
    if (kind == FLOAT16) return half_to_float(float_to_half(x));
    if (kind != BFLOAT16) return x;
    uint32_t bits;
    memcpy(&bits, &x, 4);
    bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000;
    memcpy(&x, &bits, 4);
    return x;
}

static int64_t bytes_of(int64_t stored) {
    return stored == FLOAT64 ? 8 : stored == FLOAT32 ? 4 : 2;
}

/* Writes numbers as `stored` into a file, behind `offset` bytes. */
static FILE *stored_in(const float *from, int64_t count, int64_t stored, int64_t offset) {
    FILE *file = tmpfile();
    if (!file) abort();
    for (int64_t i = 0; i < offset; i++) fputc('x', file);
    for (int64_t i = 0; i < count; i++) {
        double wide = from[i];
        uint16_t half = float_to_half(from[i]);
        uint32_t bits;
        memcpy(&bits, from + i, 4);
        uint16_t brain = (uint16_t)(bits >> 16);
        const void *bytes = stored == FLOAT64 ? (void *)&wide : (void *)(from + i);
        if (stored == FLOAT16) bytes = &half;
        if (stored == BFLOAT16) bytes = &brain;
        if (fwrite(bytes, (size_t)bytes_of(stored), 1, file) != 1) abort();
    }
    if (fflush(file)) abort();
    return file;
}

/* Packs one matrix from here; returns the error. */
static int64_t pack_one(Packing *part, char *memory, int64_t bytes, int64_t threads,
                        int64_t offset, int descriptor) {
    int32_t error = 7;
    part->offset = offset, part->descriptor = descriptor;
    int64_t failed = gptcli_pack(part, 1, memory, bytes, threads, &error);
    expect(failed == (error != 0), "another matrix failed", failed, error, 0);
    return error;
}

/* A matrix (out, in) packed from a file of (out, in) or (in, out). */
static Matrix packed_from(FILE *file, int64_t stored, int64_t offset, int64_t out, int64_t in,
                          int64_t kind, int transposed, int64_t threads, float *largest) {
    Matrix made = {NULL, NULL, NULL, in, out, kind};
    int64_t size = block_count(&made) * weight_bytes(&made), error = 0, bytes;
    void *weight = memset(taken(size), 0, (size_t)size);
    float *scale = kind == INT8 ? taken(out * 4) : NULL;
    float *most = memset(taken(threads * 4), 0, (size_t)threads * 4);
    float *maxima = memset(taken(threads * out * 4), 0, (size_t)(threads * out) * 4);
    Packing parts[] = {{.descriptor = fileno(file), .offset = offset, .stored = stored,
                        .kind = kind, .count = out, .in = in, .transposed = transposed,
                        .target = weight, .scale = scale, .maxima = maxima, .largest = most}};
    bytes = gptcli_packing_bytes(parts);
    char *memory = taken(threads * bytes);
    error = pack_one(parts, memory, bytes, threads, offset + bytes_of(stored), fileno(file));
    expect(error == -1, "a short file was packed", out, in, kind);
    error = pack_one(parts, memory, bytes, threads, offset, -1);
    expect(error == EBADF, "a closed file was packed", out, in, kind);
    memset(most, 0, (size_t)threads * 4);
    error = pack_one(parts, memory, bytes, threads, offset, fileno(file));
    expect(error == 0, "packing failed", out, in, kind);
    if (largest) {
        *largest = 0;
        for (int64_t t = 0; t < threads; t++) *largest = most[t] > *largest ? most[t] : *largest;
    }
    free(memory), free(maxima), free(most);
    made.weight = weight, made.scale = scale;
    return made;
}

/* Packs these weights, (out, in), and gives the numbers that they stand for after it. */
static Pair pair_of(float *weight, int64_t out, int64_t in, int64_t kind, int transposed,
                    int64_t threads) {
    Pair made = {.weight = weight};
    float *lying = taken(out * in * 4);
    for (int64_t o = 0; o < out; o++)
        for (int64_t i = 0; i < in; i++)
            lying[transposed ? i * out + o : o * in + i] = weight[o * in + i];
    FILE *file = stored_in(lying, out * in, FLOAT32, 0);
    made.packed = packed_from(file, FLOAT32, 0, out, in, kind, transposed, threads, NULL);
    made.packed.bias = numbers(out, 1);
    fclose(file), free(lying);
    for (int64_t o = 0; o < out; o++)
        for (int64_t i = 0; i < in; i++) {
            float *w = weight + o * in + i;
            if (kind != INT8) *w = rounded(*w, kind);
            else *w = rintf(*w / made.packed.scale[o]) * made.packed.scale[o];
        }
    return made;
}

static Pair pair(int64_t out, int64_t in, int64_t kind, int transposed, int64_t threads) {
    return pair_of(numbers(out * in, 1), out, in, kind, transposed, threads);
}

static void release(Pair p) {
    free((void *)p.packed.weight), free((void *)p.packed.scale), free((void *)p.packed.bias);
    free(p.weight);
}

static void multiply(const Matrix *m, const float *x, int64_t n, float *y, int64_t threads) {
    char *memory = taken(n * gptcli_activation_bytes(m->in_features));
    gptcli_matmul(m, x, n, y, memory, threads);
    free(memory);
}

/* What a row of activations stands for: itself, or integers with a scale for each group. */
static void stands_for(const float *x, int64_t in, int64_t kind, double *y) {
    for (int64_t g = 0; g < in; g += GROUP) {
        int64_t end = g + GROUP < in ? g + GROUP : in;
        float largest = 0;
        for (int64_t i = g; i < end; i++) largest = fmaxf(largest, fabsf(x[i]));
        float share = largest > 0 ? 127 / largest : 0;
        for (int64_t i = g; i < end; i++)
            y[i] = kind == INT8 ? (double)rintf(x[i] * share) * (largest / 127) : x[i];
    }
}

static void check_product(int64_t out, int64_t in, int64_t n, int64_t kind, int64_t threads) {
    Pair p = pair(out, in, kind, (int)(n % 2), 1 + n % 3);
    float *x = numbers(n * in, 3), *y = taken(n * out * 4), *alone = taken(out * 4);
    double *own = taken(in * 8);
    if (in > 3)
        for (int64_t row = 0; row < n; row++) x[row * in + 3] *= 100; /* as in GPT-2 */
    multiply(&p.packed, x, n, y, threads);
    note(y, n * out * 4);
    for (int64_t row = 0; row < n; row++) {
        multiply(&p.packed, x + row * in, 1, alone, 1);
        expect(same(alone, y + row * out, out), "a row depends on its neighbours", out, in, n);
        stands_for(x + row * in, in, kind, own);
        for (int64_t o = 0; o < out; o++) {
            double exact = p.packed.bias[o], whole = fabs(exact);
            for (int64_t i = 0; i < in; i++) {
                exact += own[i] * p.weight[o * in + i];
                whole += fabs(own[i] * p.weight[o * in + i]);
            }
            expect(fabs(y[row * out + o] - exact) <= 2e-6 * whole, "a product is wrong", out, in,
                   kind);
        }
    }
    free(x), free(y), free(alone), free(own);
    release(p);
}

/* A NaN or infinity makes its row, or its output, not finite, and leaves all others as they are. */
static void check_poison(int64_t kind, float poison) {
    int64_t out = 70, in = 77, n = 15, row = below(n), i = below(in), o = below(out);
    float *weight = numbers(out * in, 1), *broken = taken(out * in * 4);
    memcpy(broken, weight, (size_t)(out * in) * 4);
    broken[o * in + i] = poison;
    Pair p = pair_of(weight, out, in, kind, 1, 2);
    float *x = numbers(n * in, 1), *y = taken(n * out * 4), *z = taken(n * out * 4);
    multiply(&p.packed, x, n, y, 3);
    float sound = x[row * in + i];
    x[row * in + i] = poison;
    multiply(&p.packed, x, n, z, 3);
    for (int64_t r = 0; r < n; r++)
        expect(r == row ? none_finite(z + r * out, out) : same(y + r * out, z + r * out, out),
               "a broken row", r, row, kind);
    x[row * in + i] = sound;
    float largest;
    FILE *file = stored_in(broken, out * in, FLOAT32, 0);
    Matrix bad = packed_from(file, FLOAT32, 0, out, in, kind, 0, 2, &largest);
    fclose(file);
    bad.bias = p.packed.bias;
    if (kind != INT8) expect(!isfinite(largest), "largest hides a fault", o, i, kind);
    multiply(&bad, x, n, z, 3);
    for (int64_t r = 0; r < n; r++)
        for (int64_t k = 0; k < out; k++)
            expect(k == o ? !isfinite(z[r * out + k]) : z[r * out + k] == y[r * out + k],
                   "a broken weight", k, o, kind);
    float *bias = (float *)p.packed.bias;
    bias[o] = poison;
    multiply(&p.packed, x, n, z, 1);
    for (int64_t k = 0; k < n * out; k++)
        expect(k % out == o ? !isfinite(z[k]) : z[k] == y[k], "a broken bias", k, o, kind);
    free(x), free(y), free(z), free(broken), free((void *)bad.weight), free((void *)bad.scale);
    release(p);
}

/* Activations of zeros give the bias; the tiniest ones, in activations or weights, nearly so. */
static void check_tiny(int64_t kind) {
    int64_t out = 40, in = 50;
    Pair p = pair(out, in, kind, 1, 1);
    float *x = taken(in * 4), y[40], tiny[] = {0, 1e-45f, 1e-43f, 2.6e-43f, 1e-38f, 3e-37f};
    for (int k = 0; k < 6; k++) {
        for (int64_t i = 0; i < in; i++) x[i] = i % 2 ? tiny[k] : -tiny[k] / 3;
        multiply(&p.packed, x, 1, y, 1);
        for (int64_t o = 0; o < out; o++)
            expect(fabsf(y[o] - p.packed.bias[o]) <= (k ? 1e-7f : 0), "a tiny input", o, k, kind);
    }
    release(p);
    for (int k = 0; k < 6; k++) {
        float *weight = numbers(out * in, tiny[k]), first = weight[0];
        Pair q = pair_of(weight, out, in, kind, 1, 1);
        for (int64_t i = 0; i < in; i++) x[i] = (float)i;
        multiply(&q.packed, x, 1, y, 1);
        for (int64_t o = 0; o < out; o++)
            expect(fabsf(y[o] - q.packed.bias[o]) <= (k ? 1e-6f : 0), "a tiny weight", o, k, kind);
        /* The sanitizer sees integers that do not fit; here the first one has the right sign. */
        if (kind == INT8) expect(*(const int8_t *)q.packed.weight * first >= 0, "a sign", 0, k, kind);
        release(q);
    }
    free(x);
}

/* Whatever numbers a file holds, the packed matrix is that of the same numbers as float32. */
static void check_stored(int64_t stored, int64_t kind, int64_t out, int64_t in) {
    float *weight = numbers(out * in, 2);
    for (int64_t i = 0; i < out * in; i++)
        weight[i] = rounded(weight[i], stored == FLOAT64 ? FLOAT32 : stored);
    FILE *file = stored_in(weight, out * in, stored, 8), *plain = stored_in(weight, out * in, 0, 0);
    for (int transposed = 0; transposed < 2; transposed++) {
        float most, expected = 0;
        Matrix a = packed_from(file, stored, 8, out, in, kind, transposed, 2, &most);
        Matrix b = packed_from(plain, FLOAT32, 0, out, in, kind, transposed, 1, NULL);
        for (int64_t i = 0; i < out * in; i++) expected = fmaxf(expected, fabsf(weight[i]));
        if (kind != INT8) expect(most == expected, "the largest weight", out, in, stored);
        expect(!memcmp(a.weight, b.weight, (size_t)(block_count(&a) * weight_bytes(&a))),
               "stored numbers", out, in, stored);
        if (kind == INT8) expect(same(a.scale, b.scale, out), "scales", out, in, stored);
        free((void *)a.weight), free((void *)b.weight);
        free((void *)a.scale), free((void *)b.scale);
    }
    fclose(file), fclose(plain), free(weight);
}

/* What a half float stands for, by its definition. */
static double value_of(uint16_t half) {
    int exponent = half >> 10 & 31, fraction = half & 1023;
    double size = exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);
    return half & 0x8000 ? -size : size;
}

/* The nearest half float to a number, the even one of two. */
static uint16_t nearest(float x) {
    uint16_t sign = signbit(x) ? 0x8000 : 0, low = 0, high = 0x7c00; /* 0x7c00 counts as 65536 */
    while (high - low > 1) {
        uint16_t middle = (uint16_t)((low + high) / 2);
        if (value_of(middle) <= fabs(x)) low = middle;
        else high = middle;
    }
    double down = fabs(x) - value_of(low), up = value_of(high) - fabs(x);
    return sign | (down < up || (down == up && !(low & 1)) ? low : high);
}

/* All half floats, and how floats are rounded to them, by halves.h and by this kind of processor. */
static void check_halves(void) {
    int64_t out = 256, in = 256, all = out * in;
    float *values = taken(all * 4), *odd = taken(all * 4);
    for (int64_t i = 0; i < all; i++) {
        uint16_t half = (uint16_t)i;
        values[i] = half_to_float(half);
        if ((half & 0x7fff) > 0x7c00) {
            expect(isnan(values[i]) && isnan(half_to_float(float_to_half(values[i]))), "a NaN", i, 0,
                   0);
            values[i] = 1;
            continue;
        }
        int infinite = (half & 0x7fff) == 0x7c00;
        expect(values[i] == (infinite ? (half & 0x8000 ? -INFINITY : INFINITY) : value_of(half)),
               "a half float", i, 0, 0);
        expect(float_to_half(values[i]) == half, "a half float is not kept", i, 0, 0);
#if defined(__FLT16_MAX__) && !defined(__clang__)
        _Float16 own;
        memcpy(&own, &half, 2);
        expect((float)own == values[i], "the compiler's half float", i, 0, 0);
#endif
    }
    for (int64_t i = 0; i < all; i++) {
        uint32_t bits = 0x32000000 + (uint32_t)below(0x48000000 - 0x32000000);
        memcpy(odd + i, &bits, 4); /* 2^-27 to 131072, as often of each size */
        if (i < 0x7c00) { /* midway between two, and its neighbours */
            float middle = (float)((value_of((uint16_t)i) + value_of((uint16_t)(i + 1))) / 2);
            odd[2 * i] = i % 3 == 0 ? middle : nextafterf(middle, i % 3 == 1 ? 0 : INFINITY);
            odd[2 * i + 1] = -middle;
        }
    }
    for (int64_t i = 0; i < all; i++) {
        expect(float_to_half(odd[i]) == nearest(odd[i]), "rounding to a half float", i,
               float_to_half(odd[i]), nearest(odd[i]));
#if defined(__FLT16_MAX__) && !defined(__clang__)
        _Float16 own = (_Float16)odd[i];
        uint16_t half;
        memcpy(&half, &own, 2);
        expect(half == float_to_half(odd[i]), "the compiler's rounding", i, half, 0);
#endif
    }
    /* By this kind of processor: read half floats of a file, and round to them. */
    FILE *file = stored_in(values, all, FLOAT16, 0), *other = stored_in(odd, all, FLOAT32, 0);
    Matrix read = packed_from(file, FLOAT16, 0, out, in, FLOAT32, 0, 2, NULL);
    Matrix made = packed_from(other, FLOAT32, 0, out, in, FLOAT16, 0, 2, NULL);
    for (int64_t o = 0; o < out; o++)
        for (int64_t i = 0; i < in; i++) {
            int64_t place = (o / BLOCK * in + i) * BLOCK + o % BLOCK;
            expect(((const float *)read.weight)[place] == values[o * in + i], "reading", o, i, 0);
            expect(((const uint16_t *)made.weight)[place] == nearest(odd[o * in + i]), "rounding", o,
                   i, 0);
        }
    fclose(file), fclose(other), free(values), free(odd);
    free((void *)read.weight), free((void *)made.weight);
}

static void check_matrices(void) {
    int64_t shapes[][3] = {{1, 1, 1},     {31, 33, 2},   {32, 32, 3},  {33, 64, 5}, {70, 100, 7},
                           {129, 515, 9}, {65, 1030, 13}, {40, 20, 61}, {3, 7, 149}, {97, 31, 48}};
    check_halves();
    for (int k = 0; k < 4; k++) {
        int64_t kind = KINDS[k];
        for (int s = 0; s < 10; s++)
            check_product(shapes[s][0], shapes[s][1], shapes[s][2], kind, 1 + (s + k) % 5);
        for (int s = 0; s < 12; s++) {
            int64_t out = 1 + below(140), in = 1 + below(140), n = 1 + below(30);
            check_product(out, in, n, kind, s ? 1 + s % 5 : MANY_THREADS);
        }
        float poisons[] = {NAN, INFINITY, -INFINITY};
        for (int p = 0; p < 3; p++) check_poison(kind, poisons[p]);
        check_tiny(kind);
        int64_t stored[] = {FLOAT16, BFLOAT16, FLOAT64};
        for (int s = 0; s < 3; s++) {
            check_stored(stored[s], kind, 37, 29);
            check_stored(stored[s], kind, 300, 223); /* read in several pieces */
        }
    }
}
