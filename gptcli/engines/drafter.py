"""Choose the drafter of speculative decoding: none, n-grams of the text, or a smaller model."""

from __future__ import annotations

from dataclasses import replace

from gptcli.checkpoints.adapters.opened import inspect_adapted
from gptcli.checkpoints.resolve import resolve
from gptcli.checkpoints.tokenization.loading import load_tokenizer
from gptcli.checkpoints.tokenization.tokenizer import Tokenizer
from gptcli.engines.decoding.speculative import Drafter, NgramDrafter
from gptcli.engines.gpt2.draft_model import DraftModel
from gptcli.engines.placement import open_network
from gptcli.errors import UsageError
from gptcli.options import Load
from gptcli.protocol import ModelInfo


def open_drafter(
    load: Load,
    info: ModelInfo,
    tokenizer: Tokenizer,
    slots: int,
) -> tuple[Drafter | None, tuple[str, ...]]:
    """The drafter for the model `info`, or None, and notices for the user.

    Raises UsageError for a draft model that is no GPT-2 or has another vocabulary, and the errors
    of opening it.
    """
    if load.draft == "off":
        return None, ()
    if load.draft_model is None:
        return NgramDrafter(), ()
    checkpoint = resolve(
        replace(load, model=load.draft_model, revision=None, draft_model=None, adapter=())
    )
    checked, _ = inspect_adapted(*checkpoint.parts)
    if checked.gpt2 is None:
        raise UsageError(
            "--draft-model", f"{checkpoint.name} is a {checked.model_type}", "Give a GPT-2."
        )
    other = load_tokenizer(checkpoint.folder).raw.get_vocab()
    sizes = checked.gpt2.vocab_size, info.vocabulary
    if other != tokenizer.raw.get_vocab() or sizes[0] != sizes[1]:
        why = f"{checkpoint.name} has other tokens than {info.name}"
        raise UsageError("--draft-model", why, "Give a model of the same family.")
    network, _, notices = open_network(load, checkpoint.name, checked, info.device)
    return DraftModel(network, slots, checked.gpt2.parameters / info.parameters), notices
