"""A program for a Python that has Keras Hub: writes GPT-2s in each of its ways, and their scores.

Usage: keras_hub_referee.py FOLDER. FOLDER/KIND gets the files, `ids.npy`, and `logits.npy`, the
scores that Keras computes for them. FOLDER/texts.json gets texts and the ids of its tokenizer.
"""

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import keras_hub
import numpy as np

TEXTS = ["the heat", " then\n\nhe  the", "caf\u00e9 \u4e2d", "<|endoftext|>he<|endoftext|>", ""]


def vocabulary():
    """The 256 byte characters, two merges, and the end of text."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    characters = [chr(code) for code in plain] + [chr(256 + n) for n in range(256 - len(plain))]
    tokens = [*characters, "\u0120t", "he", "<|endoftext|>"]
    return {token: id for id, token in enumerate(tokens)}


def model(dtype="float32"):
    """A language model with random weights."""
    tokenizer = keras_hub.models.GPT2Tokenizer(vocabulary(), ["\u0120 t", "h e"])
    backbone = keras_hub.models.GPT2Backbone(
        vocabulary_size=259,
        num_layers=3,
        num_heads=4,
        hidden_dim=16,
        intermediate_dim=40,
        max_sequence_length=24,
        dtype=dtype,
    )
    random = np.random.default_rng(2)
    for weight in backbone.weights:
        weight.assign(random.normal(0, 0.4, weight.shape).astype("f4"))
    made = keras_hub.models.GPT2CausalLMPreprocessor(tokenizer, sequence_length=24)
    return keras_hub.models.GPT2CausalLM(backbone=backbone, preprocessor=made), tokenizer


def main(folder):
    """Write all kinds."""
    ids = np.random.default_rng(1).integers(0, 259, 14)
    for kind in ("preset", "archive", "task", "shards", "float16", "bfloat16"):
        dtype = kind if kind.endswith("16") else "float32"
        one, tokenizer = model(dtype)
        place = folder / kind
        place.mkdir(parents=True)
        if kind == "archive":
            one.save(place / "model.keras")
        else:
            one.save_to_preset(place)
        if kind == "task":
            (place / "model.weights.h5").unlink()
            one.save_weights(place / "model.weights.h5")
        if kind == "shards":
            (place / "model.weights.h5").unlink()
            one.backbone.save_weights(place / "model.weights.json", max_shard_size=3e-5)
        if dtype != "float32":  # what is stored, computed in float32
            rounded = [np.array(weight, "f4") for weight in one.backbone.weights]
            one, _ = model()
            for weight, values in zip(one.backbone.weights, rounded, strict=True):
                weight.assign(values)
        mask = np.ones((1, len(ids)), "i4")
        logits = one({"token_ids": ids[None], "padding_mask": mask})
        np.save(place / "logits.npy", np.array(logits)[0])
        np.save(place / "ids.npy", ids)
    found = {text: np.array(tokenizer(text)).tolist() for text in TEXTS}
    (folder / "texts.json").write_text(json.dumps(found))
    print(keras.__version__, keras_hub.__version__)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
