"""What a run begins with: the model's shape, its first weights, its tokenizer.

It is fine-tuned from a checkpoint, or new: then its shape is that of a preset with what the options
change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from gptcli.checkpoints.architecture import GPT2Config
from gptcli.checkpoints.config_json import CONFIG, gpt2_config
from gptcli.checkpoints.integrity.content import content
from gptcli.checkpoints.preflight import CheckedCheckpoint, inspect
from gptcli.checkpoints.resolve import on_disk, resolve
from gptcli.checkpoints.tokenization.files import names_in, tokenizer_files
from gptcli.errors import BadModel, UsageError
from gptcli.options.model import Load
from gptcli.training.options import Preset, TrainedModel

if TYPE_CHECKING:
    from gptcli.checkpoints.tokenization.tokenizer import Tokenizer

PRESETS: Mapping[Preset, tuple[int, int, int, int]] = {  # layers, width, heads, context
    "tiny": (4, 128, 4, 256),
    "small": (6, 384, 6, 512),
    "gpt2": (12, 768, 12, 1024),
}
_DTYPES = ("torch_dtype", "dtype")  # of the weights, in config.json


@dataclass(frozen=True, kw_only=True)
class StartingModel:
    """What is trained. `weights` is None for a new model; `files` are the small ones that go into
    each checkpoint; `digests` tell two models apart.
    """

    config: GPT2Config
    described: Mapping[str, object]  # config.json
    weights: CheckedCheckpoint | None
    tokenizer: Tokenizer
    context: int  # of the pieces
    files: Mapping[str, bytes]
    digests: Mapping[str, str]
    name: str | None = None
    base: str | None = None  # the name, of a folder its whole path
    revision: str | None = None
    notices: tuple[str, ...] = ()


def find(model: TrainedModel, trained: Callable[[], Path]) -> StartingModel:
    """The model of the options; `trained` gives the folder of a tokenizer of its own.

    Raises UsageError, BadModel, MissingInput, Unavailable.
    """
    return _new(model, trained) if model.scratch is not None else _base(model)


def _base(model: TrainedModel) -> StartingModel:
    from gptcli.checkpoints.hub.offer import small_files
    from gptcli.checkpoints.tokenization.loading import check_vocabulary, load_tokenizer

    if model.tokenizer is not None:
        raise UsageError("--tokenizer", "a model has its own", "Leave it out, or use --scratch.")
    for flag, value in (("layers", model.layers), ("width", model.width), ("heads", model.heads)):
        if value is not None:
            why = "it is for a new model"
            raise UsageError(f"--{flag}", why, "Leave it out, or use --scratch.")
    found = resolve(Load(model=model.from_, revision=model.revision, offline=model.offline))
    checked = inspect(found.folder)
    if checked.gpt2 is None:
        why = f"it is a {checked.model_type} model, and only GPT-2 is trained"
        raise BadModel(found.name, why, "Choose another with --from")
    config = checked.gpt2
    context = model.context or config.n_positions
    if context > config.n_positions:
        why = f"{context} is more than the {config.n_positions} tokens that {found.name} reads"
        raise UsageError("--context", why, "Give fewer, or train a new model with --scratch.")
    tokenizer = load_tokenizer(found.folder)
    check_vocabulary(tokenizer, config.vocab_size)
    described = {key: value for key, value in checked.config.items() if key not in _DTYPES}
    names = set(small_files(names_in(found.folder))) - {CONFIG}
    return StartingModel(
        config=config,
        described=described | {"dtype": "float32"},
        weights=checked,
        tokenizer=tokenizer,
        context=context,
        files=_read(found.folder, names),
        digests=content(found.folder, found.name),
        name=found.name,
        base=str(found.folder.resolve()) if found.source == "path" else found.name,
        revision=found.revision,
        notices=(*found.notices, *checked.notices),
    )


def _new(model: TrainedModel, trained: Callable[[], Path]) -> StartingModel:
    from gptcli.checkpoints.tokenization.loading import load_tokenizer

    assert model.scratch is not None
    layers, width, heads, positions = PRESETS[model.scratch]
    width = model.width or width
    heads = model.heads or (heads if model.width is None else max(width // 64, 1))
    if width % heads:
        why = f"{width} is not a multiple of {heads} heads"
        raise UsageError("--width", why, "Change --width or --heads.")
    place = on_disk(model.tokenizer).folder if model.tokenizer else trained()
    tokenizer = load_tokenizer(place)
    end = tokenizer.eos_id
    described: dict[str, object] = {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": tokenizer.size,
        "n_positions": model.context or positions,
        "n_ctx": model.context or positions,
        "n_embd": width,
        "n_layer": model.layers or layers,
        "n_head": heads,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "resid_pdrop": model.dropout,
        "embd_pdrop": model.dropout,
        "attn_pdrop": model.dropout,
        "initializer_range": 0.02,
        "tie_word_embeddings": True,
        "bos_token_id": end,
        "eos_token_id": end,
        "dtype": "float32",
    }
    config, notices = gpt2_config(described, {}, Path(CONFIG))
    files = _read(place, tokenizer_files(names_in(place)))
    return StartingModel(
        config=config,
        described=described,
        weights=None,
        tokenizer=tokenizer,
        context=config.n_positions,
        files=files,
        digests={name: sha256(data).hexdigest() for name, data in files.items()},
        notices=tuple(notices),
    )


def _read(folder: Path, names: set[str]) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in sorted(names)}
