"""A small tokenizer of each kind, made here: what a text looks like around any of them."""

from __future__ import annotations

from collections.abc import Callable

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from gptcli.checkpoints.tokenization.builders.byte_level import BYTES
from gptcli.checkpoints.tokenization.tokenizer import Tokenizer

HAN = "今天气真好我们走在路上。，？《》“”「年月北京"  # noqa: RUF001 - a vocabulary's own
KANA = "のはがですカナー"
WORDS = ("model", "gpt", "new", "york", "play", "the", "cat", "hello", "world")
PARTS = ("ing", "s", "ed", "s1")


def _numbered(tokens: list[str]) -> dict[str, int]:
    return {token: id for id, token in enumerate(dict.fromkeys(tokens))}


def byte_level() -> tokenizers.Tokenizer:
    """Bytes, and a few merges, as GPT-2's."""
    merges = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("c", "a"), ("ca", "t")]
    vocabulary = _numbered([*BYTES, *("".join(pair) for pair in merges)])
    raw = tokenizers.Tokenizer(models.BPE(vocabulary, merges))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens(["<|endoftext|>"])
    return raw


def wordpiece() -> tokenizers.Tokenizer:
    """As BertTokenizer makes it, with [CLS] before a text."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    tokens = [*special, *HAN, *KANA, *WORDS, *(f"##{part}" for part in PARTS)]
    tokens += [*"0123456789-.,!?'()", "##7", "2", "##02"]
    raw = tokenizers.Tokenizer(models.WordPiece(_numbered(tokens), unk_token="[UNK]"))
    raw.normalizer = normalizers.BertNormalizer(lowercase=True)
    raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    raw.decoder = decoders.WordPiece()
    raw.add_special_tokens(special)
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A", special_tokens=[("[CLS]", 2)]
    )
    return raw


def words() -> tokenizers.Tokenizer:
    """Whole words, and no decoder."""
    raw = tokenizers.Tokenizer(
        models.WordLevel(_numbered(["<unk>", *WORDS, "e2e4", "e7e5", "。"]), unk_token="<unk>")
    )
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    raw.add_special_tokens(["<unk>"])
    return raw


def metaspace() -> tokenizers.Tokenizer:
    """As sentencepiece's Unigram: words with a leading mark."""
    pieces = ["<unk>", "<s>", "</s>", "▁", *HAN, *KANA, "天気", "です", "▁天気"]
    pieces += [*(f"▁{word}" for word in WORDS), *PARTS, "cat", "the", *"abcdehlnorstw", "."]
    scored = [(piece, -1.0 - len(pieces) / 9 / len(piece)) for piece in dict.fromkeys(pieces)]
    raw = tokenizers.Tokenizer(models.Unigram(scored, unk_id=0, byte_fallback=False))
    raw.pre_tokenizer = pre_tokenizers.Metaspace()
    raw.decoder = decoders.Metaspace()
    raw.add_special_tokens(["<unk>", "<s>", "</s>"])
    return raw


def byte_fallback() -> tokenizers.Tokenizer:
    """As Llama's: pieces of words, and bytes for the rest."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁"]
    tokens += [*"abcdehlnorstw.", "天", "気", "の", "▁t", "▁th", "▁the", "▁c", "▁ca", "▁cat"]
    merges = [("▁", "t"), ("▁t", "h"), ("▁th", "e"), ("▁", "c"), ("▁c", "a"), ("▁ca", "t")]
    raw = tokenizers.Tokenizer(
        models.BPE(_numbered(tokens), merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    raw.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    raw.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    raw.add_special_tokens(["<unk>", "<s>", "</s>"])
    return raw


def characters() -> tokenizers.Tokenizer:
    """One token a character, and no decoder; what it lacks is dropped by no token."""
    tokens = ["<unk>", *HAN, *KANA, *"abcdefghijklmnopqrstuvwxyz .,!?\n0123456789"]
    raw = tokenizers.Tokenizer(models.WordLevel(_numbered(tokens), unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    raw.add_special_tokens(["<unk>"])
    return raw


def suffixes() -> tokenizers.Tokenizer:
    """As GPT-1's: the mark stands at a word's end."""
    tokens = ["<unk>", *"abcehlotw", *(f"{letter}</w>" for letter in "abcehlotw")]
    tokens += ["th", "the</w>", "ca", "cat</w>"]
    merges = [("t", "h"), ("th", "e</w>"), ("c", "a"), ("ca", "t</w>")]
    raw = tokenizers.Tokenizer(
        models.BPE(_numbered(tokens), merges, unk_token="<unk>", end_of_word_suffix="</w>")
    )
    raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    raw.decoder = decoders.BPEDecoder(suffix="</w>")
    raw.add_special_tokens(["<unk>"])
    return raw


KINDS: dict[str, Callable[[], tokenizers.Tokenizer]] = {
    made.__name__: made
    for made in (
        byte_level,
        wordpiece,
        words,
        metaspace,
        byte_fallback,
        characters,
        suffixes,
    )
}


def made(kind: str) -> Tokenizer:
    """A tokenizer of that kind."""
    return Tokenizer(KINDS[kind](), None)
