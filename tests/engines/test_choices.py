"""The tokens of a choice: those that continue the prompt, whatever the vocabulary."""

# ruff: noqa: RUF001 - full-width marks are signs of text here

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support.fake_engine import INFO
from support.small_tokenizers import chinese, japanese

from gptcli.checkpoints.tokenization.loading import load_tokenizer
from gptcli.checkpoints.tokenization.tokenizer import Tokenizer
from gptcli.engines.decoding.request import encode_loglikelihood
from gptcli.protocol import LoglikelihoodRequest

ROOM = replace(INFO, context=200)


def tokens(tokenizer: Tokenizer, prompt: str, *choices: str) -> list[list[str]]:
    request = LoglikelihoodRequest(id="0", prompt=prompt, choices=choices)
    found = encode_loglikelihood(request, tokenizer, ROOM).choices
    return [[tokenizer.raw.id_to_token(id) or "" for id in ids] for ids in found]


def test_pieces_after_a_prompt_do_not_begin_a_text() -> None:
    assert tokens(japanese(), "評価：", "肯定", "否定です") == [["肯定"], ["否定", "です"]]
    assert tokens(japanese(), "a b" * 60, " です") == [["▁", "です"]]
    assert tokens(japanese(), "", "です") == [["▁", "です"]]


def test_word_pieces_after_a_prompt_have_no_token_for_a_space() -> None:
    assert tokens(chinese(), "情感：", "正面", " 负面") == [["正", "面"], ["负", "面"]]
    assert tokens(chinese(), "", "正面") == [["正", "面"]]


@pytest.mark.parametrize("joined", ["c", "1"])
def test_a_choice_that_would_join_the_prompts_last_word_is_encoded_by_itself(joined: str) -> None:
    [found] = tokens(chinese(), "ab", joined)
    assert found in ([joined], [f"##{joined}"])


def test_the_prompt_has_its_token_at_the_beginning_and_a_choice_has_none() -> None:
    request = LoglikelihoodRequest(id="0", prompt="情感：", choices=("正面",))
    tokenizer = chinese()
    encoded = encode_loglikelihood(request, tokenizer, ROOM)
    assert tokenizer.token_text(encoded.prompt_ids[0]) == "[CLS]"
    assert tokenizer.special_id("[CLS]") not in encoded.choices[0]


def test_a_choice_of_bytes_is_encoded_by_itself(tales: Path) -> None:
    tokenizer = load_tokenizer(tales)
    request = LoglikelihoodRequest(id="0", prompt="The king", choices=(" was", "dom"))
    found = encode_loglikelihood(request, tokenizer, ROOM).choices
    assert found == tuple(tuple(tokenizer.encode(text)) for text in (" was", "dom"))
