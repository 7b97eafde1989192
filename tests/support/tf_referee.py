"""A program for a Python that has TensorFlow: writes GPT-2 checkpoints, and what they answer.

Usage: tf_referee.py FOLDER. For each kind of checkpoint FOLDER/KIND gets the bundle, hparams.json,
and `logits.npy`, the scores that TensorFlow computes for `ids.npy`.
"""

import json
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

v1 = tf.compat.v1
v1.disable_eager_execution()
SIZES = {"n_vocab": 97, "n_ctx": 24, "n_embd": 32, "n_head": 4, "n_layer": 3}
WIDTH, HEADS = SIZES["n_embd"], SIZES["n_head"]
KINDS = (
    "plain",
    "scopeless",
    "doubled",
    "partitioned",
    "sharded",
    "float16",
    "bfloat16",
    "trained",
)


class Model:
    """The variables of a GPT-2 under OpenAI's names, and the scores of one text."""

    def __init__(self, kind):
        self.kind = kind
        self.random = np.random.default_rng(7)
        self.dtype = getattr(tf, kind) if kind in ("float16", "bfloat16") else tf.float32
        self.count = 0

    def variable(self, name, shape, spread=0.3, mean=0.0):
        values = self.random.normal(mean, spread, shape).astype("f4")
        axis = len(shape) - 1
        split = self.kind == "partitioned" and len(shape) > 1
        self.count += 1
        device = f"/cpu:{self.count % 2}" if self.kind == "sharded" else None
        with tf.device(device):
            made = v1.get_variable(
                name,
                shape,
                self.dtype,
                initializer=lambda shape, dtype, partition_info=None: tf.cast(
                    tf.slice(
                        values,
                        partition_info.var_offset if partition_info else [0] * len(shape),
                        shape,
                    ),
                    dtype,
                ),
                partitioner=v1.fixed_size_partitioner(3, axis=axis) if split else None,
                use_resource=False,
            )
        return tf.cast(tf.convert_to_tensor(made), tf.float32)

    def norm(self, x, scope):
        with v1.variable_scope(scope):
            g, b = self.variable("g", [WIDTH], 0.1, 1.0), self.variable("b", [WIDTH], 0.1)
        mean = tf.reduce_mean(x, -1, keepdims=True)
        variance = tf.reduce_mean(tf.square(x - mean), -1, keepdims=True)
        return (x - mean) * tf.math.rsqrt(variance + 1e-5) * g + b

    def linear(self, x, scope, out):
        with v1.variable_scope(scope):
            w = self.variable("w", [1, x.shape[-1], out], 0.1)
            return x @ w[0] + self.variable("b", [out], 0.1)

    def attention(self, x):
        length = x.shape[0]
        q, k, v = (
            tf.transpose(tf.reshape(part, [length, HEADS, -1]), [1, 0, 2])
            for part in tf.split(self.linear(x, "c_attn", 3 * WIDTH), 3, axis=1)
        )
        scores = q @ tf.transpose(k, [0, 2, 1]) / np.sqrt(WIDTH // HEADS)
        mask = np.tril(np.ones([length, length], "f4"))
        weights = tf.nn.softmax(scores * mask - 1e10 * (1 - mask))
        joined = tf.reshape(tf.transpose(weights @ v, [1, 0, 2]), [length, WIDTH])
        return self.linear(joined, "c_proj", WIDTH)

    def mlp(self, x):
        h = self.linear(x, "c_fc", 4 * WIDTH)
        h = 0.5 * h * (1 + tf.tanh(np.sqrt(2 / np.pi) * (h + 0.044715 * h**3)))
        return self.linear(h, "c_proj", WIDTH)

    def scores(self, ids):
        wpe = self.variable("wpe", [SIZES["n_ctx"], WIDTH], 0.1)
        wte = self.variable("wte", [SIZES["n_vocab"], WIDTH], 0.2)
        x = tf.gather(wte, ids) + wpe[: len(ids)]
        for layer in range(SIZES["n_layer"]):
            with v1.variable_scope(f"h{layer}"):
                normal = self.norm(x, "ln_1")
                with v1.variable_scope("attn"):
                    x += self.attention(normal)
                normal = self.norm(x, "ln_2")
                with v1.variable_scope("mlp"):
                    x += self.mlp(normal)
        return tf.matmul(self.norm(x, "ln_f"), wte, transpose_b=True)


def write(kind, folder):
    """One checkpoint."""
    folder.mkdir(parents=True)
    ids = np.random.default_rng(3).integers(0, SIZES["n_vocab"], 20)
    scope = {"scopeless": "", "doubled": "model/model"}.get(kind, "model")
    with tf.Graph().as_default():
        with v1.variable_scope(scope or v1.get_variable_scope()):
            scores = Model(kind).scores(ids)
        if kind == "trained":
            loss = tf.reduce_mean(tf.square(scores))
            steps = v1.train.get_or_create_global_step()
            train = v1.train.AdamOptimizer(1e-3).minimize(loss, steps)
        config = v1.ConfigProto(device_count={"CPU": 2})
        with v1.Session(config=config) as session:
            session.run(v1.global_variables_initializer())
            saver = v1.train.Saver(sharded=kind == "sharded", max_to_keep=9)
            if kind != "trained":
                saver.save(session, str(folder / "model.ckpt"))
            for step in (1, 2) if kind == "trained" else ():
                session.run(train)
                saver.save(session, str(folder / "model"), step)
            np.save(folder / "logits.npy", session.run(scores))
    np.save(folder / "ids.npy", ids)
    (folder / "hparams.json").write_text(json.dumps(SIZES))


if __name__ == "__main__":
    for kind in KINDS:
        write(kind, Path(sys.argv[1]) / kind)
    print(tf.__version__)
