"""Tokenizers of the kinds that Chinese and Japanese GPT-2s have, of the characters of our tasks."""

# ruff: noqa: RUF001 - full-width marks are signs of text here

from __future__ import annotations

import json
from pathlib import Path

from gptcli.checkpoints.tokenization.tokenizer import Tokenizer
from gptcli.tasks.definition import catalog

BERT_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LATIN = "abcdefghijklmnopqrstuvwxyz0123456789"


def characters(low: str, high: str) -> list[str]:
    """The characters of a range that stand in the built-in tasks."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(catalog.BUILT_IN.glob("*.toml"))]
    return sorted({character for text in texts for character in text if low <= character <= high})


def word_pieces():
    """BERT's kind: a token a Chinese character, no spaces, no line breaks, [CLS] and [SEP]."""
    from tokenizers import Tokenizer as Raw
    from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

    han = characters("\u4e00", "\u9fff") + list("狐狸河边森林")
    signs = list("。，！？：、；“”《》（）!?.,'=-_|<>")
    tokens = [*BERT_SPECIAL, *signs, *LATIN, *(f"##{letter}" for letter in LATIN), *han]
    tokens += [f"##{character}" for character in han]
    vocabulary = {token: id for id, token in enumerate(dict.fromkeys(tokens))}
    raw = Raw(models.WordPiece(vocabulary, unk_token="[UNK]"))
    raw.normalizer = normalizers.BertNormalizer(lowercase=True)
    raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    raw.decoder = decoders.WordPiece()
    raw.add_special_tokens(BERT_SPECIAL)
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A", special_tokens=[("[CLS]", vocabulary["[CLS]"])]
    )
    return raw


def pieces():
    """Sentencepiece's kind: NFKC, and a piece of its own for the beginning of a text."""
    from tokenizers import Tokenizer as Raw
    from tokenizers import decoders, models, normalizers, pre_tokenizers

    kana = characters("\u3041", "\u30ff")
    han = characters("\u4e00", "\u9fff")
    singles = dict.fromkeys([*kana, *han, *"。、！？：:!?.,()（）", *LATIN])
    vocabulary = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0), ("▁", -2.0)]
    vocabulary += [(one, -6.0) for one in singles]
    vocabulary += [(word, -3.0) for word in ("です", "ます", "肯定", "否定", "カタ", "ひらがな")]
    raw = Raw(models.Unigram(vocabulary, 0, False))
    raw.normalizer = normalizers.NFKC()
    raw.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    raw.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    raw.add_special_tokens(["<unk>", "<s>", "</s>"])
    return raw


def chinese() -> Tokenizer:
    """The tokenizer of BERT's kind."""
    return Tokenizer(word_pieces(), None)


def japanese() -> Tokenizer:
    """The tokenizer of sentencepiece's kind."""
    return Tokenizer(pieces(), 2)


def put_chinese(folder: Path) -> Path:
    """Give a checkpoint the tokenizer of BERT's kind."""
    word_pieces().save(str(folder / "tokenizer.json"))
    named = {f"{token[1:-1].lower()}_token": token for token in BERT_SPECIAL}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", **named}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder
