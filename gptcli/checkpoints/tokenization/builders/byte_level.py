"""Byte-level BPE: GPT-2's vocab.json and merges.txt, and what RoBERTa's kind makes of the same two.

Each class gets the tokenizer that transformers makes of its files, so that every text gets the same
ids.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gptcli.checkpoints.tokenization.builders.added import put_around
from gptcli.checkpoints.tokenization.builders.reading import ids_of, merges_of, without_gaps
from gptcli.checkpoints.tokenization.kinds import OTHER, UNSUPPORTED, Recognised
from gptcli.checkpoints.tokenization.text.marks import WORD_ENDS
from gptcli.errors import BadModel
from gptcli.system.strict_json import Object

if TYPE_CHECKING:
    import tokenizers

_SHARE = 4  # of a vocabulary with ends of words, at least a fourth ends so


def build(found: Recognised, settings: Object) -> tokenizers.Tokenizer:
    """The library's tokenizer of two files. Raises BadModel, MissingInput."""
    import tokenizers
    from tokenizers import decoders, models, normalizers, pre_tokenizers

    vocab, merges = found.files
    ids = ids_of(vocab)
    if not found.explicit:
        _refuse_word_ends(ids, vocab.name)
    pairs = merges_of(merges)
    raw = tokenizers.Tokenizer(
        models.BPE(without_gaps(ids), pairs, continuing_subword_prefix="", end_of_word_suffix="")
    )
    if settings.get("_normalize") == "NFC":
        raw.normalizer = normalizers.NFC()
    prefix = settings.get("add_prefix_space") is True
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    raw.decoder = decoders.ByteLevel()
    if settings.get("_around") is True:
        put_around(raw, settings)
    return raw


def _refuse_word_ends(ids: dict[str, int], name: str) -> None:
    """Raise BadModel for a vocabulary of another kind, which no file says."""
    if _SHARE * sum(token.endswith(WORD_ENDS) for token in ids) > max(len(ids), 1):
        raise BadModel(
            UNSUPPORTED,
            f"{name}: its tokens end words with {WORD_ENDS}, as GPT-1's or CLIP's do,"
            " and no file names the class",
            'Write "tokenizer_class": "OpenAIGPTTokenizer" into tokenizer_config.json if it is'
            f" GPT-1's. {OTHER} otherwise",
        )


def _byte_characters() -> dict[str, int]:
    """The byte that each character of a byte-level token stands for (GPT-2's encoder.py).

    Printable bytes of Latin-1 stand for themselves; the other 68 follow from U+0100, in order.
    """
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {
        chr(0x100 + place): byte for place, byte in enumerate(others)
    }


BYTES = _byte_characters()


def bytes_of(token: str) -> bytes:
    """The bytes of a byte-level token, as the library's decoder takes them.

    A token with any other character, such as an added one with a space, is plain text to it.
    """
    try:
        return bytes(map(BYTES.__getitem__, token))
    except KeyError:
        return token.encode()
