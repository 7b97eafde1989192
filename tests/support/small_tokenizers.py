"""Small tokenizers of each kind, made here, in three sizes.

KINDS have some words of several languages, and are raw: `made` gives one as our class. FEW have as
many tokens as a table of expected values can hold. `chinese` and `japanese` have every character
that stands in our tasks.
"""

# ruff: noqa: RUF001 - full-width marks are signs of text here

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Raw

from gptcli.checkpoints.tokenization.builders.byte_level import BYTES
from gptcli.checkpoints.tokenization.roles import TokenRoles
from gptcli.checkpoints.tokenization.text.marks import BYTE_TOKENS
from gptcli.checkpoints.tokenization.tokenizer import Tokenizer
from gptcli.tasks.definition import catalog

Merges = Sequence[tuple[str, str]]

BERT = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
T5 = ("<unk>", "<s>", "</s>")
HAN = "今天气真好我们走在路上。，？《》“”「年月北京"
KANA = "のはがですカナー"
WORDS = ("model", "gpt", "new", "york", "play", "the", "cat", "hello", "world")
PARTS = ("ing", "s", "ed", "s1")
LATIN = "abcdefghijklmnopqrstuvwxyz0123456789"


# How a tokenizer of each kind is put together.


def _numbered(tokens: Iterable[str]) -> dict[str, int]:
    return {token: id for id, token in enumerate(dict.fromkeys(tokens))}


def _with_special(raw: Raw, tokens: Sequence[str]) -> Raw:
    raw.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in tokens])
    return raw


def bytes_of(tokens: Iterable[str], merges: Merges, end: str) -> Raw:
    """GPT-2's kind."""
    raw = Raw(models.BPE(_numbered(tokens), merges))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    return _with_special(raw, [end])


def word_pieces_of(tokens: Iterable[str], special: Sequence[str] = BERT) -> Raw:
    """BertTokenizer's kind, with [CLS] before a text."""
    numbered = _numbered([*special, *tokens])
    raw = Raw(models.WordPiece(numbered, unk_token="[UNK]"))
    raw.normalizer = normalizers.BertNormalizer(lowercase=True)
    raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    raw.decoder = decoders.WordPiece()
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A", special_tokens=[("[CLS]", numbered["[CLS]"])]
    )
    return _with_special(raw, special)


def pieces_of(scored: Sequence[tuple[str, float]], rewritten: bool = True) -> Raw:
    """sentencepiece's Unigram: words with a leading mark; `rewritten` is NFKC."""
    raw = Raw(models.Unigram(list(scored), unk_id=0, byte_fallback=False))
    if rewritten:
        raw.normalizer = normalizers.NFKC()
    raw.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    raw.decoder = decoders.Metaspace(prepend_scheme="always")
    return _with_special(raw, T5)


def words_of(tokens: Iterable[str], cut: pre_tokenizers.PreTokenizer) -> Raw:
    """Whole words, and no decoder."""
    raw = Raw(models.WordLevel(_numbered(["<unk>", *tokens]), unk_token="<unk>"))
    raw.pre_tokenizer = cut
    return _with_special(raw, ["<unk>"])


# With some words of several languages.


def byte_level() -> Raw:
    """Bytes, and a few merges."""
    merges = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("c", "a"), ("ca", "t")]
    return bytes_of([*BYTES, *("".join(pair) for pair in merges)], merges, "<|endoftext|>")


def wordpiece() -> Raw:
    """Chinese and Japanese by characters, English in pieces."""
    tokens = [*HAN, *KANA, *WORDS, *(f"##{part}" for part in PARTS)]
    return word_pieces_of([*tokens, *"0123456789-.,!?'(%", "##7", "2", "##02"])


def words() -> Raw:
    """Words, and moves of chess."""
    return words_of([*WORDS, "e2e4", "e7e5", "。"], pre_tokenizers.WhitespaceSplit())


def metaspace() -> Raw:
    """sentencepiece's Unigram."""
    tokens = [*T5, "▁", *HAN, *KANA, "天気", "です", "▁天気", *(f"▁{word}" for word in WORDS)]
    tokens += [*PARTS, "cat", "the", *"abcdehlnorstw", "."]
    score = len(tokens) / 9
    return pieces_of(
        [(piece, -1.0 - score / len(piece)) for piece in dict.fromkeys(tokens)], rewritten=False
    )


def byte_fallback() -> Raw:
    """As Llama's: pieces of words, and bytes for the rest."""
    tokens = [*T5, *BYTE_TOKENS, "▁", *"abcdehlnorstw.", "天", "気", "の"]
    tokens += ["▁t", "▁th", "▁the", "▁c", "▁ca", "▁cat"]
    merges = [("▁", "t"), ("▁t", "h"), ("▁th", "e"), ("▁", "c"), ("▁c", "a"), ("▁ca", "t")]
    raw = Raw(
        models.BPE(_numbered(tokens), merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    raw.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    raw.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)])
    return _with_special(raw, T5)


def characters() -> Raw:
    """One token a character, and no decoder; what it lacks is dropped by no token."""
    tokens = [*HAN, *KANA, *"abcdefghijklmnopqrstuvwxyz .,!?\n0123456789"]
    return words_of(tokens, pre_tokenizers.Split("", "isolated"))


def suffixes() -> Raw:
    """As GPT-1's: the mark stands at a word's end."""
    tokens = ["<unk>", *"abcehlotw", *(f"{letter}</w>" for letter in "abcehlotw")]
    tokens += ["th", "the</w>", "ca", "cat</w>"]
    merges = [("t", "h"), ("th", "e</w>"), ("c", "a"), ("ca", "t</w>")]
    raw = Raw(models.BPE(_numbered(tokens), merges, unk_token="<unk>", end_of_word_suffix="</w>"))
    raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    raw.decoder = decoders.BPEDecoder(suffix="</w>")
    return _with_special(raw, ["<unk>"])


KINDS: dict[str, Callable[[], Raw]] = {
    made.__name__: made
    for made in (byte_level, wordpiece, words, metaspace, byte_fallback, characters, suffixes)
}


def made(kind: str) -> Tokenizer:
    """A tokenizer of that kind."""
    return Tokenizer(KINDS[kind](), None)


# Of few tokens.


def few_word_pieces() -> Tokenizer:
    """Chinese by characters, English in pieces."""
    raw = word_pieces_of([*"今天气很好我爱北京。", "un", "##aff", "##able", "new", "a", "##a"])
    return Tokenizer(raw, None, roles=TokenRoles(begin=2, end=3, ends=(3,)))


def few_pieces() -> Tokenizer:
    """Tokens of several characters, and a mark for a space."""
    pieces = [*T5, "▁", "▁猫", "吾", "輩", "は", "猫", "である", "。", "名前"]
    raw = pieces_of([(piece, -float(place)) for place, piece in enumerate(pieces)])
    return Tokenizer(raw, None, roles=TokenRoles(begin=1, end=2, ends=(2,)))


def few_bytes() -> Tokenizer:
    """A token ends one character and begins the next.

    中 is e4 b8 ad and 国 is e5 9b bd: the tokens are e4b8, ade5, 9b, bd.
    """
    letter = {byte: text for text, byte in BYTES.items()}
    merges = [(letter[0xE4], letter[0xB8]), (letter[0xAD], letter[0xE5])]
    tokens = ["<|endoftext|>", *letter.values(), *(left + right for left, right in merges)]
    return Tokenizer(bytes_of(tokens, merges, tokens[0]), 0)


def few_bytes_of_fallback() -> Tokenizer:
    """A character that the vocabulary lacks is three tokens of a byte each."""
    raw = Raw(models.BPE(_numbered(["<s>", *BYTE_TOKENS, "猫", "▁"]), [], byte_fallback=True))
    raw.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    return Tokenizer(_with_special(raw, ["<s>"]), 0)


FEW: dict[str, Callable[[], Tokenizer]] = {
    "wordpiece": few_word_pieces,
    "unigram": few_pieces,
    "byte-level": few_bytes,
    "byte fallback": few_bytes_of_fallback,
}


# Of the characters of our tasks.


def _of_tasks(low: str, high: str) -> list[str]:
    """The characters of a range that stand in the built-in tasks."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(catalog.BUILT_IN.glob("*.toml"))]
    return sorted({character for text in texts for character in text if low <= character <= high})


def chinese_raw() -> Raw:
    """A token a Chinese character, no spaces, no line breaks, [CLS] and [SEP]."""
    han = [*_of_tasks("\u4e00", "\u9fff"), *"狐狸河边森林"]
    signs = "。，！？：、；“”《》（）!?.,'=-_|<>"
    tokens = [*signs, *LATIN, *(f"##{letter}" for letter in LATIN), *han]
    return word_pieces_of([*tokens, *(f"##{character}" for character in han)], (*BERT, "[MASK]"))


def chinese() -> Tokenizer:
    """The tokenizer of BERT's kind."""
    return Tokenizer(chinese_raw(), None)


def japanese() -> Tokenizer:
    """The tokenizer of sentencepiece's kind: a piece of its own for the beginning of a text."""
    kana, han = _of_tasks("\u3041", "\u30ff"), _of_tasks("\u4e00", "\u9fff")
    singles = dict.fromkeys([*kana, *han, *"。、！？：:!?.,()（）", *LATIN])
    scored = [*((token, 0.0) for token in T5), ("▁", -2.0), *((one, -6.0) for one in singles)]
    scored += [(word, -3.0) for word in ("です", "ます", "肯定", "否定", "カタ", "ひらがな")]
    return Tokenizer(pieces_of(scored), 2)


def put_chinese(folder: Path) -> Path:
    """Give a checkpoint the tokenizer of BERT's kind."""
    chinese_raw().save(str(folder / "tokenizer.json"))
    named = {f"{token[1:-1].lower()}_token": token for token in (*BERT, "[MASK]")}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", **named}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder
