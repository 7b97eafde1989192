"""Which tokens begin and end a text, whatever files name them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gptcli.checkpoints.tokenization.loading import check_vocabulary, load_tokenizer, notices_of
from gptcli.checkpoints.tokenization.roles import END_OF_TEXT, TokenRoles

WORDS = ["<s>", "</s>", "[CLS]", END_OF_TEXT, "cat", "dog", "<pad>"]
Files = dict[str, dict[str, object]]


def roles(folder: Path, files: Files, words: list[str] = WORDS) -> TokenRoles:
    """The roles in a folder of words without any special token, and these files."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    raw = Tokenizer(models.WordLevel({word: id for id, word in enumerate(words)}, unk_token="cat"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    raw.save(str(folder / "tokenizer.json"))
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return load_tokenizer(folder).roles


NAMED = {"tokenizer_config": {"bos_token": "<s>", "eos_token": "</s>"}}


@pytest.mark.parametrize(
    ("files", "begin"),
    [
        (NAMED, 0),
        (NAMED | {"config": {"bos_token_id": 3, "eos_token_id": 1}}, 0),
        ({"special_tokens_map": {"bos_token": {"content": "<s>"}, "eos_token": "</s>"}}, 0),
        ({"config": {"bos_token_id": 0, "eos_token_id": 1}}, 0),
        ({"config": {"bos_token_id": 4}, "generation_config": {"bos_token_id": 0}}, 0),
        ({"tokenizer_config": {"cls_token": "[CLS]", "eos_token": "</s>"}}, 2),
        ({"tokenizer_config": {"eos_token": "</s>"}}, 1),
        ({"tokenizer_config": {"bos_token": "<none>", "eos_token": "</s>"}}, 1),
        # An ordinary word never does.
        ({"config": {"bos_token_id": 4}, **NAMED}, 0),
        ({"config": {"bos_token_id": 4}, "tokenizer_config": {"eos_token": "</s>"}}, 1),
        # GPT-2's own, where nobody names any.
        ({}, 3),
        ({"config": {"bos_token_id": 50256, "eos_token_id": 50256, "vocab_size": 7}}, 3),
    ],
)
def test_a_text_begins_with_bos_else_cls_else_eos(tmp_path: Path, files: Files, begin: int) -> None:
    assert roles(tmp_path, files).begin == begin


@pytest.mark.parametrize(
    ("files", "ends"),
    [
        (NAMED, (1,)),
        (NAMED | {"config": {"eos_token_id": 1}}, (1,)),
        (NAMED | {"config": {"eos_token_id": [3, 6]}}, (3, 6, 1)),
        (NAMED | {"generation_config": {"eos_token_id": [3, 6]}}, (3, 6, 1)),
        # config.json's is passed over by generation_config.json's, unless it is no word.
        (
            NAMED | {"config": {"eos_token_id": 3}, "generation_config": {"eos_token_id": 6}},
            (6, 3, 1),
        ),
        (NAMED | {"config": {"eos_token_id": 4}, "generation_config": {"eos_token_id": 6}}, (6, 1)),
        (NAMED | {"config": {"eos_token_id": 4}}, (4, 1)),
        ({"config": {"eos_token_id": 4}}, (4, 3)),
        ({"config": {"eos_token_id": None}}, (3,)),
        ({"config": {"eos_token_id": "x"}}, (3,)),
        ({"config": {"eos_token_id": 50256, "vocab_size": 7}}, (3,)),
    ],
)
def test_every_end_that_a_file_names_ends_a_text(
    tmp_path: Path, files: Files, ends: tuple[int, ...]
) -> None:
    assert roles(tmp_path, files).ends == ends


def test_an_ordinary_word_that_ends_a_text_belongs_to_it(tmp_path: Path) -> None:
    found = roles(tmp_path, NAMED | {"config": {"eos_token_id": 4}})
    assert (found.words, found.end) == ({4}, 1)
    (notice,) = notices_of(load_tokenizer(tmp_path))
    assert "'cat' (4)" in notice


def test_where_only_words_are_named_nothing_begins_a_text(tmp_path: Path) -> None:
    config = {"bos_token_id": 0, "eos_token_id": 0}
    found = roles(tmp_path, {"config": config}, ["a", "b"])
    assert found == TokenRoles(ends=(0,), words=frozenset({0}))


def test_a_vocabulary_without_special_tokens_has_no_roles(tmp_path: Path) -> None:
    assert roles(tmp_path, {}, ["a", "b"]) == TokenRoles()


def test_a_token_without_an_embedding_has_no_role(tmp_path: Path) -> None:
    roles(tmp_path, {"tokenizer_config": {"bos_token": "<pad>", "eos_token": "</s>"}})
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.roles.begin == 6
    check_vocabulary(tokenizer, 6)
    assert tokenizer.roles == TokenRoles(begin=1, end=1, ends=(1,))
