"""Models loaded by transformers: from safetensors alone, without code, without its messages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import logging

from gptcli.checkpoints.preflight import WRAPPERS
from gptcli.checkpoints.resolve import Checkpoint
from gptcli.errors import BadModel


@contextmanager
def quiet() -> Iterator[None]:
    """Keep progress bars and warnings of transformers off stderr."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def loaded(
    checkpoint: Checkpoint,
    dtype: torch.dtype,
    factory: Any = AutoModelForCausalLM,
    hint: str = "Choose a causal language model that transformers knows",
) -> Any:
    """The model, from safetensors only and without code from the checkpoint.

    Raises BadModel for an architecture unknown to transformers and for tensors that do not fit.
    """
    try:
        with quiet():
            model, report = factory.from_pretrained(
                checkpoint.folder,
                config=_configuration(checkpoint),
                dtype=dtype,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                weights_only=True,
                attn_implementation="eager",
                output_loading_info=True,
                key_mapping={WRAPPERS.pattern: ""},
            )
    except (ValueError, KeyError, TypeError, OSError, RuntimeError, ImportError) as error:
        why = str(error).strip().split("\n")[0]
        raise BadModel(
            checkpoint.name,
            f"transformers cannot load it ({why})",
            hint,
        ) from error
    wrong = sorted({*map(str, report["missing_keys"]), *map(str, report["mismatched_keys"])})
    if wrong:
        named = ", ".join(wrong[:5])
        raise BadModel(
            checkpoint.name,
            f"tensors are missing or have another shape: {named}",
            "Get the model again, or choose another",
        )
    return model


def _configuration(checkpoint: Checkpoint) -> Any:
    """The configuration without what could name code or files from elsewhere.

    A name in config.json wins over what `from_pretrained` is told, and one such as `owner/kernel`
    is a program that transformers would fetch from the Hub and run.
    """
    config: Any = AutoConfig.from_pretrained(
        checkpoint.folder, trust_remote_code=False, local_files_only=True
    )
    config._attn_implementation = "eager"  # of the parts of the model, too
    config.transformers_weights = None
    return config
