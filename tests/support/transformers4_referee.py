"""A program for a Python that has transformers 4, TensorFlow and Flax: writes models and scores.

Usage: transformers4_referee.py FOLDER. FOLDER/KIND gets what save_pretrained writes, `ids.npy`, and
`logits.npy`, the scores that the framework computes for them.
"""

import sys
from pathlib import Path

import jax
import numpy as np
import transformers
from transformers import GPT2Config

SIZES = {"n_embd": 8, "n_head": 2, "n_positions": 16, "vocab_size": 32, "n_inner": 24}
SPECIAL = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
IDS = np.random.default_rng(1).integers(1, 32, 14)
KINDS = {  # class, changes of the configuration, the largest shard
    "tf": ("TFGPT2LMHeadModel", {"n_layer": 11}, None),
    "tf-base": ("TFGPT2Model", {"n_layer": 2}, None),
    "tf-classifier": ("TFGPT2ForSequenceClassification", {"n_layer": 2}, None),
    "tf-choice": ("TFGPT2DoubleHeadsModel", {"n_layer": 2}, None),
    "tf-untied": ("TFGPT2LMHeadModel", {"n_layer": 2, "tie_word_embeddings": False}, None),
    "tf-shards": ("TFGPT2LMHeadModel", {"n_layer": 3}, "6kB"),
    "flax": ("FlaxGPT2LMHeadModel", {"n_layer": 11}, None),
    "flax-base": ("FlaxGPT2Model", {"n_layer": 2}, None),
    "flax-untied": ("FlaxGPT2LMHeadModel", {"n_layer": 2, "tie_word_embeddings": False}, None),
    "flax-shards": ("FlaxGPT2LMHeadModel", {"n_layer": 3}, "5kB"),
}


def write(folder, name, changes, shard):
    """One model of a class, with random weights."""
    random = np.random.default_rng(2)
    model = getattr(transformers, name)(GPT2Config(**SIZES, **SPECIAL, **changes))
    if name.startswith("TF"):
        model.build_in_name_scope()
        for weight in model.weights:
            weight.assign(random.normal(0, 0.4, weight.shape).astype("f4"))
        embedding = model.transformer.wte.weights[0].numpy()
        hidden = np.array(model.transformer(IDS[None])[0][0])
    else:
        model.params = jax.tree_util.tree_map(
            lambda weight: random.normal(0, 0.4, weight.shape).astype("f4"), model.params
        )
        embedding = np.array(model.params.get("transformer", model.params)["wte"]["embedding"])
        hidden = np.array(model(IDS[None])[0][0])
    # The other classes compute no scores of tokens.
    logits = np.array(model(IDS[None]).logits[0]) if "LMHead" in name else hidden @ embedding.T
    model.save_pretrained(folder, **({"max_shard_size": shard} if shard else {}))
    np.save(folder / "logits.npy", logits)
    np.save(folder / "ids.npy", IDS)


if __name__ == "__main__":
    for kind, (name, changes, shard) in KINDS.items():
        write(Path(sys.argv[1]) / kind, name, changes, shard)
