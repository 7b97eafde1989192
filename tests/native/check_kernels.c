/* The kernels against plain loops in float64, for odd shapes, all kinds of weights and many rows.
 *
 * test_portable.py compiles this file with network.c and pool.c: with sanitizers, and for other
 * processors, where an emulator runs it. Memory is as large as it must be, and not larger, so that a
 * sanitizer sees what lies beyond. Says what differs, and exits with 1. */

#define _GNU_SOURCE

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../gptcli/native/kernels/network.c"

static int faults;

static uint64_t state = 1;

static double uniform(void) { /* in (-1, 1) */
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (double)(int64_t)(state >> 11) / (double)(1ll << 52) - 1;
}

static void *taken(int64_t size) {
    void *memory = NULL;
    if (posix_memalign(&memory, 64, size > 0 ? (size_t)size : 1)) abort();
    memset(memory, 0x7f, size > 0 ? (size_t)size : 1);
    return memory;
}

static float *numbers(int64_t count, double scale) {
    float *made = taken(count * 4);
    for (int64_t i = 0; i < count; i++) made[i] = (float)(scale * uniform());
    return made;
}

static void expect(int holds, const char *what, int64_t a, int64_t b, int64_t c) {
    if (holds) return;
    faults++;
    printf("%s: %lld %lld %lld\n", what, (long long)a, (long long)b, (long long)c);
}

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

/* Packs random weights through a file, as (out, in) or as (in, out). */
static Pair pair(int64_t out, int64_t in, int64_t kind, int transposed, int64_t threads) {
    Pair made = {.weight = numbers(out * in, 1)};
    float *stored = taken(out * in * 4);
    for (int64_t o = 0; o < out; o++)
        for (int64_t i = 0; i < in; i++)
            stored[transposed ? i * out + o : o * in + i] = made.weight[o * in + i];
    FILE *file = tmpfile();
    if (!file || fwrite(stored, 4, (size_t)(out * in), file) != (size_t)(out * in)) abort();
    fflush(file);
    made.packed = (Matrix){NULL, NULL, numbers(out, 1), in, out, kind};
    int64_t blocks = block_count(&made.packed), size = blocks * weight_bytes(&made.packed);
    float *scale = kind == INT8 ? taken(out * 4) : NULL, *largest = taken(blocks * 4);
    void *weight = taken(size);
    Packing p = {.descriptor = fileno(file), .offset = 0, .stored = FLOAT32, .count = out, .in = in,
                 .by_out = transposed ? 1 : in, .by_in = transposed ? out : 1,
                 .numbers = taken(out * in * 4), .kind = kind, .target = weight, .scale = scale,
                 .largest = largest};
    expect(gptcli_pack(&p, threads) == 0, "packing failed", out, in, kind);
    p.offset = 4;
    expect(gptcli_pack(&p, threads) == -1, "a short file was packed", out, in, kind);
    p.offset = 0;
    gptcli_pack(&p, threads);
    fclose(file);
    for (int64_t o = 0; o < out; o++)
        for (int64_t i = 0; i < in; i++) {
            float *w = made.weight + o * in + i;
            *w = kind == INT8 ? ROUND(*w / scale[o]) * scale[o] : rounded(*w, kind);
        }
    made.packed.weight = weight, made.packed.scale = scale;
    free(stored), free(p.numbers), free(largest);
    return made;
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

static void check_product(int64_t out, int64_t in, int64_t n, int64_t kind) {
    Pair p = pair(out, in, kind, (int)(n % 2), 1 + n % 3);
    float *x = numbers(n * in, 3), *y = taken(n * out * 4), *alone = taken(out * 4);
    multiply(&p.packed, x, n, y, 1 + (out + n) % 4);
    for (int64_t row = 0; row < n; row++) {
        multiply(&p.packed, x + row * in, 1, alone, 1);
        expect(!memcmp(alone, y + row * out, (size_t)out * 4), "a row depends on its neighbours",
               out, in, n);
        for (int64_t o = 0; o < out; o++) {
            double exact = p.packed.bias[o], whole = fabs(exact), step = 0;
            for (int64_t i = 0; i < in; i++) {
                double a = x[row * in + i], w = p.weight[o * in + i];
                exact += a * w, whole += fabs(a * w);
                step += fabs(w) * 3 / 127 / 2; /* activations are at most 3 */
            }
            double bound = 2e-6 * whole + (kind == INT8 ? 1.01 * step : 0);
            expect(fabs(y[row * out + o] - exact) <= bound, "a product is wrong", out, in, kind);
        }
    }
    free(x), free(y), free(alone);
    release(p);
}

/* A model with its weights as plain numbers. */
typedef struct {
    Model m;
    Layer layers[2];
    Pair attn[2], attn_out[2], fc[2], proj[2], head;
} Net;

static Norm norm(int64_t width) { return (Norm){numbers(width, 1), numbers(width, 1)}; }

static void build(Net *net, int64_t width, int64_t heads, int64_t inner, int64_t vocab,
                  int64_t kind) {
    for (int l = 0; l < 2; l++) {
        net->attn[l] = pair(3 * width, width, kind, 1, 2);
        net->attn_out[l] = pair(width, width, kind, 1, 2);
        net->fc[l] = pair(inner, width, kind, 1, 2);
        net->proj[l] = pair(width, inner, kind, 1, 2);
        net->layers[l] = (Layer){norm(width), norm(width), net->attn[l].packed,
                                 net->attn_out[l].packed, net->fc[l].packed, net->proj[l].packed,
                                 1 / sqrtf((float)width / (float)heads)};
    }
    net->head = pair(vocab, width, kind, 0, 2);
    net->m = (Model){net->layers, norm(width), net->head.packed, 2, width, inner, heads, GELU_TANH,
                     1e-5f};
}

static void destroy(Net *net) {
    for (int l = 0; l < 2; l++) {
        Layer *layer = net->layers + l;
        Norm norms[] = {layer->ln_1, layer->ln_2};
        for (int i = 0; i < 2; i++) free((void *)norms[i].weight), free((void *)norms[i].bias);
        release(net->attn[l]), release(net->attn_out[l]), release(net->fc[l]);
        release(net->proj[l]);
    }
    free((void *)net->m.ln_f.weight), free((void *)net->m.ln_f.bias);
    release(net->head);
}

static void plain_norm(const double *x, Norm norm, int64_t width, double *y) {
    double mean = 0, squares = 0;
    for (int64_t i = 0; i < width; i++) mean += x[i] / (double)width;
    for (int64_t i = 0; i < width; i++) squares += (x[i] - mean) * (x[i] - mean);
    double by = 1 / sqrt(squares / (double)width + 1e-5);
    for (int64_t i = 0; i < width; i++) y[i] = (x[i] - mean) * by * norm.weight[i] + norm.bias[i];
}

static void plain_product(const Pair *p, const double *x, double *y, int add) {
    int64_t in = p->packed.in_features;
    for (int64_t o = 0; o < p->packed.out_features; o++) {
        double sum = p->packed.bias[o] + (add ? y[o] : 0);
        for (int64_t i = 0; i < in; i++) sum += p->weight[o * in + i] * x[i];
        y[o] = sum;
    }
}

/* One text, x (n, C) -> logits (n, vocab), token by token. */
static void plain_forward(const Net *net, const float *embedded, int64_t n, double *logits) {
    int64_t width = net->m.width, heads = net->m.heads, size = width / heads;
    double *x = taken(n * width * 8), *qkv = taken(n * 3 * width * 8), *y = taken(width * 8);
    double *hidden = taken(net->m.inner * 8), *scores = taken(n * 8), *mixed = taken(width * 8);
    for (int64_t i = 0; i < n * width; i++) x[i] = embedded[i];
    for (int l = 0; l < 2; l++) {
        const Layer *layer = net->layers + l;
        for (int64_t t = 0; t < n; t++) {
            plain_norm(x + t * width, layer->ln_1, width, y);
            plain_product(&net->attn[l], y, qkv + t * 3 * width, 0);
        }
        for (int64_t t = 0; t < n; t++) {
            for (int64_t h = 0; h < heads; h++) {
                const double *q = qkv + t * 3 * width + h * size;
                double most = -1e30, whole = 0;
                for (int64_t k = 0; k <= t; k++) {
                    const double *key = qkv + k * 3 * width + width + h * size;
                    scores[k] = 0;
                    for (int64_t d = 0; d < size; d++) scores[k] += q[d] * key[d] * layer->scale;
                    most = scores[k] > most ? scores[k] : most;
                }
                for (int64_t k = 0; k <= t; k++) whole += scores[k] = exp(scores[k] - most);
                for (int64_t d = 0; d < size; d++) {
                    double sum = 0;
                    for (int64_t k = 0; k <= t; k++)
                        sum += scores[k] * qkv[k * 3 * width + 2 * width + h * size + d];
                    mixed[h * size + d] = sum / whole;
                }
            }
            plain_product(&net->attn_out[l], mixed, x + t * width, 1);
            plain_norm(x + t * width, layer->ln_2, width, y);
            plain_product(&net->fc[l], y, hidden, 0);
            for (int64_t i = 0; i < net->m.inner; i++) {
                double u = hidden[i];
                hidden[i] = u / (1 + exp(-1.5957691216057308 * (u + 0.044715 * u * u * u)));
            }
            plain_product(&net->proj[l], hidden, x + t * width, 1);
        }
    }
    for (int64_t t = 0; t < n; t++) {
        plain_norm(x + t * width, net->m.ln_f, width, y);
        plain_product(&net->head, y, logits + t * net->m.head.out_features, 0);
    }
    free(x), free(qkv), free(y), free(hidden), free(scores), free(mixed);
}

static void step(const Net *net, const Cache *cache, Segment *segments, int64_t count,
                 const float *embedded, float *logits, int64_t threads) {
    int64_t n = 0, own = 0, width = net->m.width;
    for (int64_t i = 0; i < count; i++) {
        segments[i].first = n, n += segments[i].length;
        if (segments[i].own < 0) continue;
        segments[i].own = own, own += gptcli_own_floats(&net->m, segments + i);
    }
    float *x = taken(n * width * 4);
    int64_t *wanted = taken(n * 8);
    for (int64_t i = 0; i < count; i++)
        memcpy(x + segments[i].first * width, embedded + segments[i].start * width,
               (size_t)(segments[i].length * width) * 4);
    for (int64_t i = 0; i < n; i++) wanted[i] = i;
    int64_t size = gptcli_scratch_size(&net->m, cache, segments, count, n, threads);
    char *memory = taken(size);
    gptcli_forward_step(&net->m, cache, segments, count, wanted, n, n, x, logits, memory, threads);
    free(x), free(wanted), free(memory);
}

static void check_network(int64_t width, int64_t heads, int64_t inner, int64_t kind) {
    int64_t vocab = 37, n = 45, length = 64, size = width / heads;
    Net net;
    build(&net, width, heads, inner, vocab, kind);
    Cache cache = {taken(2 * 3 * heads * length * size * 4),
                   taken(2 * 3 * heads * length * value_size(&net.m) * 4), 3, length};
    float *x = numbers(n * width, 1), *whole = taken(n * vocab * 4), *part = taken(99 * vocab * 4);
    double *exact = taken(n * vocab * 8);
    plain_forward(&net, x, n, exact);
    Segment all[] = {{0, 0, 0, n, -1}};
    step(&net, &cache, all, 1, x, whole, 3);
    double bound = kind == INT8 ? INFINITY : 1e-3;
    for (int64_t i = 0; i < n * vocab; i++) {
        expect(isfinite(whole[i]), "a logit is not finite", width, heads, kind);
        expect(fabs(whole[i] - exact[i]) <= bound * (1 + fabs(exact[i])), "a logit is wrong", width,
               heads, kind);
    }
    /* In parts, beside another sequence; then several that continue one slot. */
    int64_t sizes[] = {1, 16, 3, 1, 9, 15}, start = 0;
    for (int i = 0; i < 6; start += sizes[i++]) {
        Segment two[] = {{2, start, 0, sizes[i], -1}, {1, 0, 0, 5, -1}};
        step(&net, &cache, two, 2, x, part, 1 + i % 4);
        expect(!memcmp(part, whole + start * vocab, (size_t)(sizes[i] * vocab) * 4),
               "a part differs", width, heads, start);
        expect(!memcmp(part + sizes[i] * vocab, whole, (size_t)(5 * vocab) * 4),
               "a neighbour differs", width, heads, start);
    }
    Segment shared[] = {{0, 21, 0, 14, 0}, {0, 21, 0, 3, 0}, {0, 21, 0, 7, -1}};
    step(&net, &cache, shared, 3, x, part, 2);
    for (int i = 0; i < 3; i++)
        expect(!memcmp(part + shared[i].first * vocab, whole + 21 * vocab,
                       (size_t)(shared[i].length * vocab) * 4),
               "a branch differs", width, heads, i);
    free(cache.keys), free(cache.values), free(x), free(whole), free(part), free(exact);
    destroy(&net);
}

int main(void) {
    int64_t shapes[][3] = {{1, 1, 1},   {31, 33, 2},  {32, 32, 3},   {33, 64, 5},
                           {70, 100, 7}, {129, 515, 9}, {65, 1030, 13}, {40, 20, 61}};
    int64_t kinds[] = {FLOAT32, FLOAT16, BFLOAT16, INT8};
    for (int s = 0; s < 8; s++)
        for (int k = 0; k < 4; k++) check_product(shapes[s][0], shapes[s][1], shapes[s][2], kinds[k]);
    for (int k = 0; k < 4; k++) {
        check_network(24, 3, 50, kinds[k]);
        check_network(64, 1, 96, kinds[k]);
        check_network(33, 3, 40, kinds[k]);
        check_network(160, 2, 30, kinds[k]);
    }
    if (!faults) printf("all equal\n");
    return faults != 0;
}
