"""tokenizer.json: any model of the tokenizers library, as the file says.

Two settings of tokenizer_config.json come before the file's, as in transformers: `do_lower_case`
and its neighbours where the class is BERT's, `add_prefix_space` where it is GPT-2's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gptcli.checkpoints.file_kinds import MAX_TOKENIZER_BYTES
from gptcli.checkpoints.tokenization.builders.wordpiece import normalizer
from gptcli.checkpoints.tokenization.kinds import CLASSES, GPT2, Recognised
from gptcli.system.strict_json import Object, read_bytes

if TYPE_CHECKING:
    import tokenizers


def build(found: Recognised, settings: Object) -> tokenizers.Tokenizer:
    """The library's tokenizer, without padding, truncation and chance.

    Raises BadModel, MissingInput; what the library raises goes through.
    """
    import tokenizers
    from tokenizers import models

    raw = tokenizers.Tokenizer.from_buffer(read_bytes(found.file, MAX_TOKENIZER_BYTES))
    raw.no_padding()
    raw.no_truncation()
    if isinstance(raw.model, models.BPE) and raw.model.dropout:
        raw.model.dropout = None  # for training: it cuts each text otherwise
    _prefer(raw, found, settings)
    return raw


def _prefer(raw: tokenizers.Tokenizer, found: Recognised, settings: Object) -> None:
    """Apply the settings that come before the file's; a class that is named has defaults, too."""
    from tokenizers import normalizers, pre_tokenizers

    kind = CLASSES.get(found.class_name, None if found.class_name else GPT2)
    builder = kind.builder if kind else ""
    if builder == "wordpiece" and isinstance(raw.normalizer, normalizers.BertNormalizer):
        raw.normalizer = normalizer(settings)
    prefix = settings.get("add_prefix_space", False if found.explicit else None)
    cut = raw.pre_tokenizer
    if (
        builder == "byte_level"
        and isinstance(prefix, bool)
        and isinstance(cut, pre_tokenizers.ByteLevel)
        and cut.add_prefix_space != prefix
    ):
        raw.pre_tokenizer = pre_tokenizers.ByteLevel(
            add_prefix_space=prefix, use_regex=cut.use_regex
        )
