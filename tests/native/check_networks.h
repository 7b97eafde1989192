/* The forward pass against plain loops in float64, and against itself in parts. */

#pragma once

#include "check_matrices.h"

#define LAYERS 2
#define TOKENS 45
#define VOCAB 37

/* A model with its weights as plain numbers. */
typedef struct {
    Model m;
    Layer layers[LAYERS];
    Pair attn[LAYERS], attn_out[LAYERS], fc[LAYERS], proj[LAYERS], head;
} Net;

static Norm norm(int64_t width) { return (Norm){numbers(width, 1), numbers(width, 1)}; }

static void build(Net *net, int64_t width, int64_t heads, int64_t inner, int64_t kind,
                  int64_t activation) {
    for (int l = 0; l < LAYERS; l++) {
        net->attn[l] = pair(3 * width, width, kind, 1, 2);
        net->attn_out[l] = pair(width, width, kind, 1, 2);
        net->fc[l] = pair(inner, width, kind, 1, 2);
        net->proj[l] = pair(width, inner, kind, 1, 2);
        net->layers[l] = (Layer){norm(width), norm(width), net->attn[l].packed,
                                 net->attn_out[l].packed, net->fc[l].packed, net->proj[l].packed,
                                 1 / sqrtf((float)width / (float)heads)};
    }
    net->head = pair(VOCAB, width, kind, 0, 2);
    net->m = (Model){net->layers, norm(width), net->head.packed, LAYERS, width, inner, heads,
                     activation, 1e-5f};
}

static void destroy(Net *net) {
    for (int l = 0; l < LAYERS; l++) {
        Layer *layer = net->layers + l;
        Norm norms[] = {layer->ln_1, layer->ln_2};
        for (int i = 0; i < 2; i++) free((void *)norms[i].weight), free((void *)norms[i].bias);
        release(net->attn[l]), release(net->attn_out[l]), release(net->fc[l]);
        release(net->proj[l]);
    }
    free((void *)net->m.ln_f.weight), free((void *)net->m.ln_f.bias);
    release(net->head);
}

static Cache new_cache(const Model *m, int64_t slots, int64_t length) {
    int64_t rows = m->count * slots * m->heads * length;
    return (Cache){taken(rows * head_size(m) * 4), taken(rows * value_size(m) * 4), slots, length};
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

static double plain_activation(int64_t activation, double u) {
    switch ((Activation)activation) {
        case GELU_TANH: return 0.5 * u * (1 + tanh(sqrt(2 / M_PI) * (u + 0.044715 * u * u * u)));
        case GELU_ERF: return 0.5 * u * (1 + erf(u / sqrt(2)));
        case GELU_SIGMOID: return u / (1 + exp(-1.702 * u));
        case RELU: return u < 0 ? 0 : u;
        case SILU: return u / (1 + exp(-u));
        case TANH: return tanh(u);
    }
    return NAN;
}

static void plain_attention(const double *qkv, int64_t t, const Layer *layer, int64_t width,
                            int64_t heads, double *scores, double *mixed) {
    int64_t size = width / heads;
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
}

/* One text, x (n, C) -> logits (n, vocab), token by token. */
static void plain_forward(const Net *net, const float *embedded, int64_t n, double *logits) {
    int64_t width = net->m.width;
    double *x = taken(n * width * 8), *qkv = taken(n * 3 * width * 8), *y = taken(width * 8);
    double *hidden = taken(net->m.inner * 8), *scores = taken(n * 8), *mixed = taken(width * 8);
    for (int64_t i = 0; i < n * width; i++) x[i] = embedded[i];
    for (int l = 0; l < LAYERS; l++) {
        const Layer *layer = net->layers + l;
        for (int64_t t = 0; t < n; t++) {
            plain_norm(x + t * width, layer->ln_1, width, y);
            plain_product(&net->attn[l], y, qkv + t * 3 * width, 0);
        }
        for (int64_t t = 0; t < n; t++) {
            plain_attention(qkv, t, layer, width, net->m.heads, scores, mixed);
            plain_product(&net->attn_out[l], mixed, x + t * width, 1);
            plain_norm(x + t * width, layer->ln_2, width, y);
            plain_product(&net->fc[l], y, hidden, 0);
            for (int64_t i = 0; i < net->m.inner; i++)
                hidden[i] = plain_activation(net->m.activation, hidden[i]);
            plain_product(&net->proj[l], hidden, x + t * width, 1);
        }
    }
    for (int64_t t = 0; t < n; t++) {
        plain_norm(x + t * width, net->m.ln_f, width, y);
        plain_product(&net->head, y, logits + t * VOCAB, 0);
    }
    free(x), free(qkv), free(y), free(hidden), free(scores), free(mixed);
}

/* Runs segments of the text `embedded`; logits of the rows `wanted` (m), or of all if it is NULL. */
static void step_of(const Net *net, const Cache *cache, Segment *segments, int64_t count,
                    const float *embedded, const int64_t *wanted, int64_t m, float *logits,
                    int64_t threads) {
    int64_t n = 0, own = 0, width = net->m.width;
    for (int64_t i = 0; i < count; i++) {
        segments[i].first = n, n += segments[i].length;
        if (segments[i].own < 0) continue;
        segments[i].own = own, own += gptcli_own_floats(&net->m, segments + i);
    }
    float *x = taken(n * width * 4);
    int64_t *rows = taken((wanted ? m : n) * 8);
    for (int64_t i = 0; i < count; i++)
        memcpy(x + segments[i].first * width, embedded + segments[i].start * width,
               (size_t)(segments[i].length * width) * 4);
    for (int64_t i = 0; i < (wanted ? m : n); i++) rows[i] = wanted ? wanted[i] : i;
    int64_t size = gptcli_scratch_size(&net->m, cache, segments, count, n, threads);
    char *memory = taken(size);
    int64_t due = wanted ? m : n, half = net->m.count / 2;
    gptcli_forward_step(&net->m, cache, segments, count, rows, n, due, x, logits, memory, threads, 0,
                        half);
    gptcli_forward_step(&net->m, cache, segments, count, rows, n, due, x, logits, memory, threads,
                        half, net->m.count);
    free(x), free(rows), free(memory);
}

static void step(const Net *net, const Cache *cache, Segment *segments, int64_t count,
                 const float *embedded, float *logits, int64_t threads) {
    step_of(net, cache, segments, count, embedded, NULL, 0, logits, threads);
}

/* In parts, beside another sequence; then several that continue one slot; then few of its rows. */
static void check_parts(const Net *net, const Cache *cache, const float *x, const float *whole) {
    int64_t width = net->m.width, heads = net->m.heads, sizes[] = {1, 16, 3, 1, 9, 15}, start = 0;
    float *part = taken(99 * VOCAB * 4);
    for (int i = 0; i < 6; start += sizes[i++]) {
        Segment two[] = {{2, start, 0, sizes[i], -1}, {1, 0, 0, 5, -1}};
        step(net, cache, two, 2, x, part, 1 + i % 5);
        expect(same(part, whole + start * VOCAB, sizes[i] * VOCAB), "a part differs", width, heads,
               start);
        expect(same(part + sizes[i] * VOCAB, whole, 5 * VOCAB), "a neighbour differs", width, heads,
               start);
    }
    Segment shared[] = {{0, 21, 0, 14, 0}, {0, 21, 0, 3, 0}, {0, 21, 0, 7, -1}};
    step(net, cache, shared, 3, x, part, 2);
    for (int i = 0; i < 3; i++)
        expect(same(part + shared[i].first * VOCAB, whole + 21 * VOCAB, shared[i].length * VOCAB),
               "a branch differs", width, heads, i);
    int64_t wanted[] = {7, 0, 7};
    Segment some[] = {{2, 30, 0, 8, -1}};
    step_of(net, cache, some, 1, x, wanted, 3, part, 3);
    for (int i = 0; i < 3; i++)
        expect(same(part + i * VOCAB, whole + (30 + wanted[i]) * VOCAB, VOCAB), "a wanted row", width,
               heads, i);
    part[0] = 5;
    step_of(net, cache, some, 1, x, wanted, 0, part, 2);
    expect(part[0] == 5, "logits that nobody wanted", width, heads, 0);
    free(part);
}

/* NaN and infinity show in their row and the rows after it, in no row before and no neighbour. The
 * slot serves as before afterwards. */
static void check_poisoned_text(const Net *net, const Cache *cache, const float *x,
                                const float *whole, float poison) {
    int64_t width = net->m.width, at = 22;
    float *logits = taken(2 * TOKENS * VOCAB * 4), *broken = taken(TOKENS * width * 4);
    memcpy(broken, x, (size_t)(TOKENS * width) * 4);
    broken[at * width + width / 2] = poison;
    Segment two[] = {{0, 0, 0, TOKENS, -1}, {1, 0, 0, at, -1}};
    step(net, cache, two, 2, broken, logits, 3);
    expect(same(logits, whole, at * VOCAB), "a row sees what comes after it", width, net->m.heads, 0);
    expect(none_finite(logits + at * VOCAB, (TOKENS - at) * VOCAB), "a fault is hidden", width,
           net->m.heads, 0);
    expect(same(logits + TOKENS * VOCAB, whole, at * VOCAB), "a neighbour is broken", width,
           net->m.heads, 0);
    Segment again[] = {{0, 0, 0, TOKENS, -1}};
    step(net, cache, again, 1, x, logits, 2);
    expect(same(logits, whole, TOKENS * VOCAB), "a slot stays broken", width, net->m.heads, 0);
    free(logits), free(broken);
}

static void check_network(int64_t width, int64_t heads, int64_t inner, int64_t kind,
                          int64_t activation) {
    Net net;
    build(&net, width, heads, inner, kind, activation);
    Cache cache = new_cache(&net.m, 3, 64);
    float *x = numbers(TOKENS * width, 1), *whole = taken(TOKENS * VOCAB * 4);
    float *again = taken(TOKENS * VOCAB * 4);
    double *exact = taken(TOKENS * VOCAB * 8);
    plain_forward(&net, x, TOKENS, exact);
    Segment all[] = {{0, 0, 0, TOKENS, -1}};
    step(&net, &cache, all, 1, x, whole, 3);
    double largest = 1, bound = kind == INT8 ? INFINITY : 1e-5; /* int8: see check_product */
    for (int64_t i = 0; i < TOKENS * VOCAB; i++) largest = fmax(largest, fabs(exact[i]));
    expect(all_finite(whole, TOKENS * VOCAB), "a logit is not finite", width, heads, kind);
    for (int64_t i = 0; i < TOKENS * VOCAB; i++)
        expect(fabs(whole[i] - exact[i]) <= bound * largest, "a logit is wrong", width,
               heads, kind * 10 + activation);
    int64_t threads[] = {1, 2, 4, 5, MANY_THREADS};
    for (int t = 0; t < 5; t++) {
        step(&net, &cache, all, 1, x, again, threads[t]);
        expect(same(again, whole, TOKENS * VOCAB), "threads differ", width, heads, threads[t]);
    }
    check_parts(&net, &cache, x, whole);
    check_poisoned_text(&net, &cache, x, whole, NAN);
    check_poisoned_text(&net, &cache, x, whole, INFINITY);
    float *gain = (float *)net.layers[1].ln_2.weight;
    gain[width - 1] = NAN;
    step(&net, &cache, all, 1, x, again, 2);
    expect(none_finite(again, TOKENS * VOCAB), "a broken norm is hidden", width, heads, kind);
    free(cache.keys), free(cache.values), free(x), free(whole), free(again), free(exact);
    destroy(&net);
}

static void check_networks(void) {
    for (int fill = 0; fill < 2; fill++) { /* of memory that nobody has written */
        poisoned = fill;
        for (int k = 0; k < 4; k++) {
            check_network(24, 3, 50, KINDS[k], GELU_TANH);
            check_network(64, 1, 96, KINDS[k], GELU_TANH);
            check_network(33, 3, 40, KINDS[k], GELU_TANH);
            check_network(160, 2, 30, KINDS[k], GELU_TANH);
            check_network(5, 5, 1, KINDS[k], GELU_TANH);
        }
    }
    poisoned = 0;
    for (int64_t activation = GELU_ERF; activation <= TANH; activation++)
        check_network(34, 2, 70, FLOAT32, activation);
}
