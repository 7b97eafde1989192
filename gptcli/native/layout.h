/* Layout table of the structures that Python fills; gptcli/native/__init__.py checks it. */

#pragma once

#include <stddef.h>
#include <stdint.h>

#include "model.h"
#include "threads.h"

typedef struct {
    const char *name; /* of a structure or a field */
    int64_t offset, size;
} LayoutEntry;

#define WHOLE(type) {#type, 0, sizeof(type)}
#define FIELD(type, field) {#type "." #field, offsetof(type, field), sizeof(((type *)0)->field)}

/* Every structure and field; a NULL name ends the table. */
const LayoutEntry gptcli_layout[] = {
    WHOLE(Team),
    FIELD(Team, parallel),
    FIELD(Team, thread_num),
    FIELD(Team, num_threads),
    FIELD(Team, threads),
    WHOLE(Matrix),
    FIELD(Matrix, weight),
    FIELD(Matrix, scale),
    FIELD(Matrix, bias),
    FIELD(Matrix, in_features),
    FIELD(Matrix, out_features),
    FIELD(Matrix, bits),
    WHOLE(Norm),
    FIELD(Norm, weight),
    FIELD(Norm, bias),
    WHOLE(Layer),
    FIELD(Layer, ln_1),
    FIELD(Layer, ln_2),
    FIELD(Layer, attn),
    FIELD(Layer, attn_out),
    FIELD(Layer, fc),
    FIELD(Layer, proj),
    FIELD(Layer, kv),
    FIELD(Layer, scale),
    WHOLE(Model),
    FIELD(Model, layers),
    FIELD(Model, ln_f),
    FIELD(Model, head),
    FIELD(Model, count),
    FIELD(Model, width),
    FIELD(Model, inner),
    FIELD(Model, heads),
    FIELD(Model, length),
    FIELD(Model, epsilon),
    {NULL, 0, 0},
};
