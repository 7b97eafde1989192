"""Small tokenizers of the kinds that Chinese, Japanese and Korean models have."""

from __future__ import annotations

from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Raw

from gptcli.checkpoints.tokenization.builders.byte_level import BYTES
from gptcli.checkpoints.tokenization.roles import TokenRoles
from gptcli.checkpoints.tokenization.tokenizer import Tokenizer

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


def wordpiece() -> Tokenizer:
    """BERT's kind: Chinese by characters, English in pieces."""
    pieces = [*SPECIAL, *"今天气很好我爱北京。", "un", "##aff", "##able", "new", "a", "##a"]
    raw = Raw(models.WordPiece({piece: id for id, piece in enumerate(pieces)}, unk_token="[UNK]"))
    raw.normalizer = normalizers.BertNormalizer()
    raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    raw.decoder = decoders.WordPiece()
    raw.add_special_tokens([AddedToken(piece, special=True, normalized=False) for piece in SPECIAL])
    return Tokenizer(raw, None, roles=TokenRoles(begin=2, end=3, ends=(3,)))


def unigram() -> Tokenizer:
    """sentencepiece's kind: tokens of several characters, and a mark for a space."""
    pieces = ["<unk>", "<s>", "</s>", "▁", "▁猫", "吾", "輩", "は", "猫", "である", "。", "名前"]
    model = models.Unigram([(piece, -float(place)) for place, piece in enumerate(pieces)], unk_id=0)
    raw = Raw(model)
    raw.normalizer = normalizers.NFKC()
    raw.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    raw.decoder = decoders.Metaspace(prepend_scheme="always")
    raw.add_special_tokens([AddedToken(piece, special=True) for piece in pieces[:3]])
    return Tokenizer(raw, None, roles=TokenRoles(begin=1, end=2, ends=(2,)))


def byte_level() -> Tokenizer:
    """GPT-2's kind: a token ends one character and begins the next.

    中 is e4 b8 ad and 国 is e5 9b bd: the tokens are e4b8, ade5, 9b, bd.
    """
    letter = {ord(text.encode("latin-1")): text for text in BYTES if ord(text) < 256}
    letter |= dict(zip(sorted(set(range(256)) - {*letter}), map(chr, range(256, 324)), strict=True))
    merges = [(letter[0xE4], letter[0xB8]), (letter[0xAD], letter[0xE5])]
    pieces = ["<|endoftext|>", *letter.values(), *(left + right for left, right in merges)]
    raw = Raw(models.BPE({piece: id for id, piece in enumerate(pieces)}, merges))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens([AddedToken(pieces[0], special=True)])
    return Tokenizer(raw, 0)


def byte_fallback() -> Tokenizer:
    """Llama's kind: a character that the vocabulary lacks is three tokens of a byte each."""
    pieces = ["<s>", *(f"<0x{byte:02X}>" for byte in range(256)), "猫", "▁"]
    raw = Raw(models.BPE({piece: id for id, piece in enumerate(pieces)}, [], byte_fallback=True))
    raw.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    raw.add_special_tokens([AddedToken(pieces[0], special=True)])
    return Tokenizer(raw, 0)


KINDS = {
    "wordpiece": wordpiece,
    "unigram": unigram,
    "byte-level": byte_level,
    "byte fallback": byte_fallback,
}
