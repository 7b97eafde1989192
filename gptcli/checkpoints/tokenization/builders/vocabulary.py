"""A tokenizer built from the files of a checkpoint, by its kind.

tokenizer.json says everything by itself; every other kind becomes what transformers makes of it, so
that every text gets the same ids. Not here: which kind it is, see `kinds`; what its tokens are for
is in `roles`; `loading` tries the result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gptcli.checkpoints.tokenization.builders import (
    byte_level,
    tokenizer_json,
    word_ends,
    wordpiece,
)
from gptcli.checkpoints.tokenization.builders.added import add_tokens, begin_with, mark_special
from gptcli.checkpoints.tokenization.kinds import Recognised, settings_of
from gptcli.system.strict_json import Object

if TYPE_CHECKING:
    import tokenizers


def build(found: Recognised, named: Object) -> tokenizers.Tokenizer:
    """The library's tokenizer, without padding and truncation.

    named: what `gptcli.checkpoints.tokenization.roles` finds (`named_roles`) in the folder. Raises
    BadModel for missing or corrupt files; what the library raises goes through.
    """
    settings = settings_of(found, named)
    raw = _BUILDERS[found.kind.builder](found, settings)
    add_tokens(raw, found, named)
    mark_special(raw, settings)
    if found.kind.builder not in ("json", "sentencepiece"):
        begin_with(raw, settings)
    return raw


def _sentencepiece(found: Recognised, settings: Object) -> tokenizers.Tokenizer:
    from gptcli.checkpoints.tokenization.builders import sentencepiece  # ten modules, seldom needed

    return sentencepiece.build(found.file, settings, found.class_name)


_BUILDERS = {
    "json": tokenizer_json.build,
    "byte_level": byte_level.build,
    "word_ends": word_ends.build,
    "wordpiece": wordpiece.build,
    "sentencepiece": _sentencepiece,
}
