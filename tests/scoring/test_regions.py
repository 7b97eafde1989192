"""Regions of interest: where marks and labels cut a text, and what is summed."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.engines import built_in
from transformers import GPT2LMHeadModel

from gptcli.checkpoints.tokenization.loading import load_tokenizer
from gptcli.checkpoints.tokenization.tokenizer import Tokenizer
from gptcli.errors import BadInput, UsageError
from gptcli.scoring.options import Scoring
from gptcli.scoring.regions import is_mark, labelled, marked
from gptcli.scoring.scorer import TextToScore, score
from gptcli.scoring.scores import TextScore
from gptcli.scoring.units import cutter

PLAIN = "The horse raced past the barn fell."
MARKED = "The horse | raced past the barn | fell."
CLOSE = 2e-4
EOS = 0


def places(text: str) -> list[tuple[int, int]]:
    return list(cutter("word")(text))


@pytest.fixture(scope="module")
def tokenizer(tiny: Path) -> Tokenizer:
    return load_tokenizer(tiny)


def scored(folder: Path, text: str | TextToScore, detail="regions", **settings) -> TextScore:
    item = text if isinstance(text, TextToScore) else TextToScore("0", text)
    [found] = score(built_in(folder), [item], Scoring(**settings), detail)
    return found


def by_transformers(folder: Path, tokenizer: Tokenizer, text: str) -> list[float]:
    """Surprisal in bits of each token after <|endoftext|>."""
    ids = [EOS, *tokenizer.encode(text)]
    model = GPT2LMHeadModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        table = model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    return [-table[at - 1, id].item() / math.log(2) for at, id in enumerate(ids) if at]


@pytest.mark.parametrize(
    ("text", "plain", "parts"),
    [
        ("a b | c", "a b c", ["a b", "c"]),
        ("a b| c", "a b c", ["a b", "c"]),
        ("a b |c", "a b c", ["a b", "c"]),
        ("no|thing", "nothing", ["no", "thing"]),
        ("a || b", "a b", ["a", "", "b"]),
        ("a | | b", "a b", ["a", "", "b"]),
        ("| a | b |", "a b", ["", "a", "b", ""]),
        ("a  b |\n c", "a  b c", ["a  b", "c"]),
        ("none here ", "none here ", ["none here"]),
        ("", "", [""]),
        ("|", "", ["", ""]),
    ],
)
def test_marks_cut_a_text_and_are_no_part_of_it(text: str, plain: str, parts: list[str]) -> None:
    clean, regions = marked(text, "|")
    assert clean == plain
    assert [clean[region.start : region.end] for region in regions] == parts


@given(st.text(alphabet="ab |\n\t"))
def test_regions_are_in_order_and_hold_all_but_white_space(text: str) -> None:
    clean, regions = marked(text, "|")
    assert len(regions) == text.count("|") + 1
    ends = [place for region in regions for place in (region.start, region.end)]
    assert ends == sorted(ends)
    kept = "".join(clean[region.start : region.end] for region in regions)
    assert "".join(kept.split()) == "".join(text.replace("|", "").split())
    assert "".join(clean.split()) == "".join(kept.split())


@pytest.mark.parametrize(
    ("value", "mark"),
    [("|", True), ("||", True), ("/", True), ("^", True), ("region", False), ("3", False)],
)
def test_a_value_without_a_letter_or_digit_is_a_mark(value: str, mark: bool) -> None:
    assert is_mark(value) is mark


def test_a_label_a_word_joins_equal_neighbours() -> None:
    found = labelled(places("The  old man\nleft early."), ["subj", "subj", "subj", "verb", "adv"])
    assert [(region.start, region.end, region.label) for region in found] == [
        (0, 12, "subj"),
        (13, 17, "verb"),
        (18, 24, "adv"),
    ]


def test_another_number_of_labels_is_refused() -> None:
    with pytest.raises(BadInput, match="2 labels for 3 words"):
        labelled(places("a b c"), ["x", "y"])


def test_the_surprisal_of_a_region_is_the_sum_over_its_tokens(
    tiny: Path, tokenizer: Tokenizer
) -> None:
    bits = by_transformers(tiny, tokenizer, PLAIN)
    found = scored(tiny, MARKED, regions="|")
    assert found.error is None
    assert found.text == PLAIN
    place = 0
    for region in found.region_scores:
        assert region.surprisal_bits == pytest.approx(
            sum(bits[place : place + region.tokens]), abs=CLOSE
        )
        place += region.tokens
    assert place == len(bits)
    assert [region.region for region in found.region_scores] == [
        "The horse",
        "raced past the barn",
        "fell.",
    ]
    assert [(region.word, region.words) for region in found.region_scores] == [
        (0, 2),
        (2, 4),
        (6, 1),
    ]


@pytest.mark.parametrize("method", ["leading", "trailing"])
def test_regions_of_whole_words_are_the_sums_of_their_words(tiny: Path, method: str) -> None:
    settings = {"regions": "|", "word_method": method}
    words = scored(tiny, MARKED, "words", **settings).word_scores
    assert [word.region for word in words] == [0, 0, 1, 1, 1, 1, 2]
    for region in scored(tiny, MARKED, **settings).region_scores:
        own = [word.logprob or 0 for word in words if word.region == region.index]
        assert region.logprob == pytest.approx(sum(own), abs=CLOSE)


def test_marks_do_not_change_what_the_model_reads(tiny: Path) -> None:
    plain = scored(tiny, PLAIN, "words").word_scores
    cut = scored(tiny, MARKED, "words", regions="|").word_scores
    assert [word.surprisal_bits for word in cut] == pytest.approx(
        [word.surprisal_bits for word in plain], abs=1e-5
    )


def test_an_empty_region_has_no_surprisal_and_keeps_the_numbers(tiny: Path) -> None:
    one, empty, three = scored(tiny, "The horse || fell.", regions="|").region_scores
    assert (empty.region, empty.tokens, empty.surprisal_bits, empty.rank) == ("", 0, 0, None)
    assert [region.to_dict()["region_number"] for region in (one, empty, three)] == [1, 2, 3]


def test_a_border_inside_a_token_is_an_error_of_its_text(tiny: Path, tokenizer: Tokenizer) -> None:
    longest = next(word for word in (" king", " the", " he") if len(tokenizer.encode(word)) == 1)
    found = scored(tiny, f"a{longest[:2]}|{longest[2:]}", regions="|")
    assert isinstance(found.error, BadInput)
    assert "lies inside the token" in str(found.error)


def test_rank_and_entropy_of_a_word_are_those_where_it_begins(tiny: Path) -> None:
    text = "Once  upon a\nhippopotamus."
    [tokens] = [scored(tiny, text, "tokens").token_scores]
    for word in scored(tiny, text, "words").word_scores:
        first = next(token for token in tokens if token.end > word.start)
        assert (word.rank, word.entropy_bits) == (first.rank, pytest.approx(first.entropy_bits))


def test_regions_can_come_with_the_text(tiny: Path) -> None:
    item = TextToScore("7", PLAIN, regions=labelled(places(PLAIN), list("aabbbbc")))
    given_ = scored(tiny, item).region_scores
    assert [region.label for region in given_] == ["a", "b", "c"]
    cut = scored(tiny, MARKED, regions="|").region_scores
    assert [region.logprob for region in given_] == pytest.approx(
        [region.logprob for region in cut], abs=1e-5
    )


def test_regions_without_a_mark_or_a_column_are_refused(tiny: Path) -> None:
    assert isinstance(scored(tiny, PLAIN, regions="condition").error, UsageError)
    assert isinstance(scored(tiny, PLAIN).error, UsageError)
