/* Layout table of the structures that Python fills; gptcli/native/structures.py checks it. */

#pragma once

#include <stddef.h>
#include <stdint.h>

#include "model.h"
#include "packing.h"

typedef struct {
    const char *name; /* of a structure or a field */
    int64_t offset, size;
} LayoutEntry;

#define WHOLE(type) {#type, 0, sizeof(type)}
#define FIELD(type, field) {#type "." #field, offsetof(type, field), sizeof(((type *)0)->field)}

/* Every structure and field; a NULL name ends the table. */
const LayoutEntry gptcli_layout[] = {
    WHOLE(Matrix),
    FIELD(Matrix, weight),
    FIELD(Matrix, scale),
    FIELD(Matrix, bias),
    FIELD(Matrix, in_features),
    FIELD(Matrix, out_features),
    FIELD(Matrix, kind),
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
    FIELD(Layer, scale),
    WHOLE(Model),
    FIELD(Model, layers),
    FIELD(Model, ln_f),
    FIELD(Model, head),
    FIELD(Model, count),
    FIELD(Model, width),
    FIELD(Model, inner),
    FIELD(Model, heads),
    FIELD(Model, activation),
    FIELD(Model, epsilon),
    WHOLE(Cache),
    FIELD(Cache, keys),
    FIELD(Cache, values),
    FIELD(Cache, slots),
    FIELD(Cache, length),
    WHOLE(Segment),
    FIELD(Segment, slot),
    FIELD(Segment, start),
    FIELD(Segment, first),
    FIELD(Segment, length),
    FIELD(Segment, own),
    WHOLE(Packing),
    FIELD(Packing, descriptor),
    FIELD(Packing, offset),
    FIELD(Packing, stored),
    FIELD(Packing, kind),
    FIELD(Packing, count),
    FIELD(Packing, in),
    FIELD(Packing, transposed),
    FIELD(Packing, target),
    FIELD(Packing, scale),
    FIELD(Packing, maxima),
    FIELD(Packing, largest),
    {NULL, 0, 0},
};
