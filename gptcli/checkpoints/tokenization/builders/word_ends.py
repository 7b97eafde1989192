"""BPE of characters whose tokens mark the ends of words with </w>: GPT-1's, CLIP's, HerBERT's.

Words are cut as transformers does it without spaCy and ftfy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gptcli.checkpoints.tokenization.builders.added import put_around
from gptcli.checkpoints.tokenization.builders.reading import ids_of, merges_of, without_gaps
from gptcli.checkpoints.tokenization.kinds import Recognised
from gptcli.checkpoints.tokenization.roles import token_text
from gptcli.checkpoints.tokenization.text.marks import WORD_ENDS
from gptcli.system.strict_json import Object

if TYPE_CHECKING:
    import tokenizers

# CLIP's words: its two tokens, English endings, letters, single digits, whatever else.
CLIP_WORDS = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)


def build(found: Recognised, settings: Object) -> tokenizers.Tokenizer:
    """The library's tokenizer of two files. Raises BadModel, MissingInput."""
    import tokenizers
    from tokenizers import decoders, models, normalizers, pre_tokenizers

    vocab, merges = found.files
    raw = tokenizers.Tokenizer(
        models.BPE(
            without_gaps(ids_of(vocab)),
            merges_of(merges),
            continuing_subword_prefix="",
            end_of_word_suffix=WORD_ENDS,
            unk_token=token_text(settings.get("unk_token")),
        )
    )
    if settings.get("_clip") is True:
        _like_clip(raw)
    else:
        lower = settings.get("_lower") is True
        raw.normalizer = normalizers.BertNormalizer(
            lowercase=lower, strip_accents=None if lower else False
        )
        raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        raw.decoder = decoders.BPEDecoder(suffix=WORD_ENDS)
    if settings.get("_around") is True:
        put_around(raw, settings)
    return raw


def _like_clip(raw: tokenizers.Tokenizer) -> None:
    from tokenizers import Regex, decoders, normalizers, pre_tokenizers

    raw.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(CLIP_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    raw.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Replace(WORD_ENDS, " ")])
