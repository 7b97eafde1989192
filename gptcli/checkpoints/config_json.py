"""config.json turned into a `GPT2Config`, every value checked.

transformers takes what it finds: `n_layer: -1` gives an empty model, and keys can name code to
import. So each number has a range here, each switch must be a boolean, and keys that would make a
loader fetch or run something are refused, or ignored with a notice. A key that is missing has
GPT2Config's default, as in transformers. Comparing with the weights is for
`gptcli.checkpoints.preflight`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import cast, get_args

from gptcli.checkpoints.architecture import Activation, GPT2Config
from gptcli.checkpoints.tokenization.roles import GPT2_END
from gptcli.errors import BadModel
from gptcli.system.strict_json import Object, corrupt, unsafe

CONFIG = "config.json"
MODEL_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
OTHER_MODEL = "Choose another model with -m, for example -m gpt2"

MAX_INNER_WIDTH = 1_000_000
LIMITS = {
    "n_layer": (1, 96),
    "n_embd": (1, 65_536),
    "n_head": (1, 65_536),
    "n_positions": (1, 1_000_000),
    "vocab_size": (1, 4_000_000),
}
# transformers reads these spellings too (GPT2Config.attribute_map).
ALIASES = {
    "n_embd": "hidden_size",
    "n_positions": "max_position_embeddings",
    "n_head": "num_attention_heads",
    "n_layer": "num_hidden_layers",
}
# Where architectures say how many tokens they can read.
CONTEXT_KEYS = "max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length"
SWITCHES = ("scale_attn_weights", "scale_attn_by_inverse_layer_idx", "tie_word_embeddings")
# Each can name code or files to fetch; none is needed to compute a GPT-2.
IGNORED = re.compile(r"_?attn_implementation.*|transformers_weights")


def model_type(config: Object, file: Path) -> str:
    """The architecture's name, from `model_type` or, in old files, from `architectures`."""
    found = config.get("model_type")
    if found is None:
        named = config.get("architectures")
        classes = named if isinstance(named, list) else []
        found = "gpt2" if any(str(name).startswith("GPT2") for name in classes) else None
    if not isinstance(found, str) or not MODEL_TYPE.fullmatch(found):
        raise corrupt(file, "model_type does not name an architecture")
    return found


def refuse_code(config: Object, file: Path) -> tuple[str, ...]:
    """Refuse keys that ask for code of the checkpoint's own; give a notice for each ignored key.

    Raises BadModel for `auto_map` and `quantization_config`.
    """
    if config.get("auto_map"):
        raise unsafe(file, "auto_map asks to run code that comes with the model", OTHER_MODEL)
    if quantization := config.get("quantization_config"):
        method = quantization.get("quant_method") if isinstance(quantization, dict) else None
        shown = f" ({method.upper()[:20]})" if isinstance(method, str) else ""
        raise BadModel(
            "unsupported model",
            f"{file.name}: quantization_config: quantized weights{shown} cannot be read",
            "Get the model that was quantized, and use --dtype int8; or choose another with -m",
        )
    named = (key for key, value in config.items() if isinstance(value, str | dict))
    return tuple(f"{file.name}: {key} is ignored" for key in named if IGNORED.fullmatch(key))


def context_of(config: Object) -> int | None:
    """How many tokens a model can read, None where its configuration does not say."""
    values = (config.get(key) for key in CONTEXT_KEYS)
    return next((value for value in values if type(value) is int and value > 0), None)


def check_sizes(config: Object, file: Path) -> None:
    """Check the sizes that nearly every architecture has, where they stand under a known key."""
    for key in (*LIMITS, *ALIASES.values()):
        value = config.get(key)
        # A list has a size for each layer; what that means is the architecture's.
        if value is not None and not isinstance(value, list):
            _whole(value, key, 1, 2**31, file)


def gpt2_config(config: Object, generation: Object, file: Path) -> tuple[GPT2Config, list[str]]:
    """The checked configuration of a GPT-2, and notices.

    `generation` is generation_config.json, which comes first for the end token. Raises BadModel,
    naming the key and its range.
    """
    sizes = {key: _size(config, key, file) for key in LIMITS}
    vocabulary, width, heads = sizes["vocab_size"], sizes["n_embd"], sizes["n_head"]
    if width % heads:
        raise corrupt(file, f"n_embd {width} is not a multiple of n_head {heads}")
    notices: list[str] = []
    ends = _ids(_first("eos_token_id", GPT2_END, generation, config), vocabulary, notices)
    begins = _ids(_first("bos_token_id", GPT2_END, generation, config), vocabulary, notices)
    switches = {key: _switch(config, key, file) for key in SWITCHES}
    checked = GPT2Config(
        vocab_size=vocabulary,
        n_positions=sizes["n_positions"],
        n_embd=width,
        n_layer=sizes["n_layer"],
        n_head=heads,
        n_inner=_inner(config, file),
        activation_function=_activation(config, file),
        layer_norm_epsilon=_epsilon(config, file),
        scale_attn_weights=switches["scale_attn_weights"],
        scale_attn_by_inverse_layer_idx=switches["scale_attn_by_inverse_layer_idx"],
        tie_word_embeddings=switches["tie_word_embeddings"],
        bos_token_id=begins[0] if begins else None,
        eos_token_ids=ends,
    )
    return checked, notices


def _size(config: Object, key: str, file: Path) -> int:
    alias = ALIASES.get(key, key)
    value = config.get(key, config.get(alias, getattr(GPT2Config, key)))
    if alias != key and alias in config and config[alias] != value:
        raise corrupt(file, f"{key} and {alias} differ")
    return _whole(value, key, *LIMITS[key], file)


def _inner(config: Object, file: Path) -> int | None:
    value = config.get("n_inner")
    return None if value is None else _whole(value, "n_inner", 1, MAX_INNER_WIDTH, file)


def _whole(value: object, key: str, low: int, high: int, file: Path) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise corrupt(file, f"{key} is {_shown(value)}, not a whole number from {low} to {high}")
    return value


def _switch(config: Object, key: str, file: Path) -> bool:
    value = config.get(key, getattr(GPT2Config, key))
    if not isinstance(value, bool):
        raise corrupt(file, f"{key} is neither true nor false")
    return value


def _epsilon(config: Object, file: Path) -> float:
    value = config.get("layer_norm_epsilon", GPT2Config.layer_norm_epsilon)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= 1:
        raise corrupt(file, "layer_norm_epsilon is not a number above 0 and at most 1")
    return float(value)


def _activation(config: Object, file: Path) -> Activation:
    value = config.get("activation_function", GPT2Config.activation_function)
    if value not in get_args(Activation):
        raise corrupt(file, f"activation_function is not one of {', '.join(get_args(Activation))}")
    return cast(Activation, value)


def _first(key: str, default: int, generation: Object, config: Object) -> object:
    """A token id where it stands first; the default only where neither file speaks of it."""
    if generation.get(key) is not None:
        return generation[key]
    # A default outside a small vocabulary means nothing, so it gets no notice.
    size = config.get("vocab_size", GPT2Config.vocab_size)
    return config.get(key, default if isinstance(size, int) and size > default else None)


def _ids(value: object, vocabulary: int, notices: list[str]) -> tuple[int, ...]:
    """Token ids from null, a number or a list; those outside the vocabulary give a notice."""
    good: dict[int, None] = {}  # a set that keeps its order
    for item in value if isinstance(value, list) else [] if value is None else [value]:
        if isinstance(item, int) and not isinstance(item, bool) and 0 <= item < vocabulary:
            good[item] = None
        else:
            notice = _outside(item)
            if notice not in notices:  # bos_token_id and eos_token_id are often the same
                notices.append(notice)
    return tuple(good)


def _outside(id: object) -> str:
    return f"token id {_shown(id)} is ignored: outside the vocabulary"


def _shown(value: object) -> str:
    """A value short enough for a message; what is nested is only named."""
    plain = isinstance(value, int | float | str) or value is None
    return repr(value)[:40] if plain else f"a {type(value).__name__}"


DEFAULT_OUTSIDE = _outside(GPT2_END)
"""The notice of the default, which transformers writes into the config.json of any vocabulary."""
