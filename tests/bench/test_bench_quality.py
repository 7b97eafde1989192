"""`gptcli bench --only quality`: perplexity in each number format."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.commands import TALES
from transformers import GPT2LMHeadModel

from gptcli.bench import quality
from gptcli.bench.quality import perplexity, windows
from gptcli.checkpoints.tokenization.loading import load_tokenizer
from gptcli.engines import open_engine
from gptcli.errors import BadInput, Unavailable
from gptcli.options import Load

TEXT = "The king had  three sons,\nand each of them\n\nhad a horse. " * 4


def words(text: str) -> int:
    """A count that is easy to follow: one token a character."""
    return len(text)


@given(st.text(max_size=200), st.integers(6, 40))
def test_windows_fit_the_context(text: str, context: int) -> None:
    found = windows(text, words, context)
    assert all(len(first) + len(rest) <= context - 2 for first, rest in found)


@given(st.lists(st.text("ab", min_size=1, max_size=4), min_size=2, max_size=60))
def test_windows_hold_all_but_a_last_lonely_word(parts: list[str]) -> None:
    text = " ".join(parts)
    joined = "".join(first + rest for first, rest in windows(text, words, 14))
    assert joined in (text, text[: -len(" " + parts[-1])])


def test_a_window_is_cut_before_white_space() -> None:
    assert list(windows("ab cd ef gh ij", words, 10)) == [("ab", " cd ef"), (" gh", " ij")]


def test_a_word_longer_than_a_window_is_cut() -> None:
    found = list(windows("a" * 20, words, 10))
    assert "".join(first + rest for first, rest in found) == "a" * 20
    assert all(len(first + rest) <= 8 for first, rest in found)


def test_cutting_before_white_space_keeps_the_tokens(tales: Path) -> None:
    tokenizer = load_tokenizer(tales)
    parts = [
        part for window in windows(TEXT, lambda s: len(tokenizer.encode(s)), 30) for part in window
    ]
    ids = [id for part in parts for id in tokenizer.encode(part)]
    assert ids == tokenizer.encode("".join(parts))
    assert len("".join(parts)) > len(TEXT) - 12


def test_the_perplexity_is_that_of_transformers(tiny: Path) -> None:
    engine = open_engine(Load(model=str(tiny), dtype="float32"), 2)
    model, tokenizer = GPT2LMHeadModel.from_pretrained(tiny), load_tokenizer(tiny)
    losses: list[float] = []
    for first, rest in windows(TEXT, engine.count, engine.info.context):
        head, ids = len(tokenizer.encode(first)), tokenizer.encode(first + rest)
        with torch.no_grad():
            logprobs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        losses += [-float(logprobs[at - 1, ids[at]]) for at in range(head, len(ids))]
    tokens, found = perplexity(engine, TEXT)
    assert tokens == len(losses)
    assert found == pytest.approx(math.exp(sum(losses) / len(losses)), rel=1e-3)


def test_a_text_of_one_word_has_no_perplexity(tales: Path) -> None:
    with pytest.raises(BadInput, match="fewer than two words"):
        perplexity(open_engine(Load(model=str(tales))), "king")


def test_every_number_format_is_compared_with_float32(tmp_path: Path, main_in: Any) -> None:
    file = tmp_path / "text.txt"
    file.write_text(TEXT)
    code, out, _ = main_in("bench", *TALES, "--only", "quality", "--text", str(file), "--json")
    assert code == 0
    found = {(one := json.loads(line))["name"]: one["ours"]["median"] for line in out.splitlines()}
    exact = next(value for name, value in found.items() if name.endswith("tokens, float32"))
    assert "change by float32" not in found
    for dtype in ("bfloat16", "float16"):
        value = next(value for name, value in found.items() if name.endswith(f"tokens, {dtype}"))
        assert found[f"change by {dtype}"] == pytest.approx(100 * (value / exact - 1))


def test_a_number_format_that_the_engine_lacks_is_left_out(
    monkeypatch: pytest.MonkeyPatch, tales: Path
) -> None:
    def open_only_float32(load: Load, slots: int) -> object:
        if load.dtype != "float32":
            raise Unavailable(f"--dtype {load.dtype}", "not here")
        return open_engine(load, slots)

    monkeypatch.setattr(quality, "open_engine", open_only_float32)
    said: list[str] = []
    found = list(quality.quality(Load(model=str(tales)), TEXT, said.append))
    assert [figure.ours.engine for figure in found] == ["gptcli float32"]
    assert "bfloat16 is left out: --dtype bfloat16: not here" in said


def test_quality_needs_a_text(main_in: Any) -> None:
    code, _, err = main_in("bench", *TALES, "--only", "quality")
    assert code == 2
    assert "--only quality: it needs a text" in err


def test_a_text_that_is_not_there_is_told_before_torch(main_in: Any, tmp_path: Path) -> None:
    missing = str(tmp_path / "none.txt")
    assert main_in("bench", *TALES, "--only", "quality", "--text", missing)[0] == 66
