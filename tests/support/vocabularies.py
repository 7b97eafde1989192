"""Small vocabularies of each kind of tokenizer, in the files that checkpoints have."""

# ruff: noqa: RUF001 - characters that look like others are the point

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

SENTENCES = (
    "Once upon a time there was a fox, and the fox said hello to the world.",
    "It's not the end; they've been here before, and we'll see them again!",
    "今天天气很好，我们去公园散步。",
    "春天来了，花开了，小鸟在树上唱歌。北京是中国的首都。",
    "東京タワーは高い。こんにちは、世界。",
    "Café naïve, 1234567890 and 3.14; snake_case (brackets) [more] <less>.",
)


def write_model(
    folder: Path,
    settings: Mapping[str, object] | None = None,
    config: Mapping[str, object] | None = None,
) -> None:
    """tokenizer_config.json, if there are settings, and the config.json of a GPT-2."""
    if settings is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    content = {"model_type": "gpt2"} | dict(config or {})
    (folder / "config.json").write_text(json.dumps(content), encoding="utf-8")


def write_wordpieces(folder: Path, lower: bool = False) -> None:
    """BERT's vocab.txt: special tokens, characters, their pieces, and some words."""
    words = " ".join(SENTENCES).replace(",", " ").replace(".", " ").split()
    known = [word.lower() if lower else word for word in words if word.isascii()]
    letters = sorted(set("".join(SENTENCES)) - {" "})
    lines = ["[PAD]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters]
    lines += [f"##{letter}" for letter in letters if letter.isalnum()]
    lines += sorted({*known, "##ing", "##lo", "[unused2]"} - {*lines})
    (folder / "vocab.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_bpe(
    folder: Path,
    specials: tuple[str, ...] = (),
    word_ends: bool = False,
    names: tuple[str, str] = ("vocab.json", "merges.txt"),
) -> None:
    """vocab.json and merges.txt, of bytes or of characters with ends of words."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    suffix = "</w>" if word_ends else ""
    raw = Tokenizer(models.BPE(end_of_word_suffix=suffix))
    if word_ends:
        raw.normalizer = normalizers.BertNormalizer(lowercase=True)
        raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        alphabet = []
    else:
        raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        initial_alphabet=alphabet,
        special_tokens=list(specials),
        end_of_word_suffix=suffix,
        show_progress=False,
    )
    raw.train_from_iterator(SENTENCES, trainer)
    model = json.loads(raw.to_str())["model"]
    merges = "".join(f"{left} {right}\n" for left, right in model["merges"])
    (folder / names[0]).write_text(json.dumps(model["vocab"]), encoding="utf-8")
    (folder / names[1]).write_text(f"#version: 0.2\n{merges}", encoding="utf-8")
