"""What `--to`, `--type` and `--output` mean together."""

from __future__ import annotations

from pathlib import Path

import pytest

from gptcli.conversion.target import TYPES, written
from gptcli.errors import CannotCreate, UsageError
from gptcli.models.options import Target


@pytest.mark.parametrize(
    ("output", "to", "type", "wanted"),
    [
        ("a.gguf", None, None, ("gguf", "f16")),
        ("a.GGUF", None, "Q8_0", ("gguf", "q8_0")),
        ("a", "gguf", "bf16", ("gguf", "bf16")),
        ("a", "ctranslate2", None, ("ctranslate2", "int8")),
        ("a", "ctranslate2", "float16", ("ctranslate2", "float16")),
        ("a", None, None, None),
        ("a", "safetensors", None, None),
        (None, None, None, None),
    ],
)
def test_the_format_is_asked_for_or_follows_from_the_suffix(
    output: str | None,
    to: str | None,
    type: str | None,
    wanted: tuple[str, str] | None,
    tmp_path: Path,
) -> None:
    place = None if output is None else str(tmp_path / output)
    found = written(Target(output=place, to=to, type=type))
    assert (found and (found.format, found.type)) == wanted


@pytest.mark.parametrize(
    ("output", "to", "type", "what", "hint"),
    [
        ("a.gguf", "ctranslate2", None, "named as a file for llama.cpp", "--to gguf"),
        ("a.gguf", "safetensors", None, "named as a file for llama.cpp", "--to gguf"),
        ("a", None, "f16", "safetensors keep the numbers", "--to gguf or --to ctranslate2"),
        ("a", "gguf", "q4_k_m", "not one of f32, f16, bf16, q8_0", "--type f32"),
        ("a", "gguf", "int8", "not one of", "--type q8_0"),
        ("a", "ctranslate2", "f16", "not one of int8,", "--type float16"),
        ("a", "ctranslate2", "q8_0", "not one of int8,", "--type int8"),
        (None, "gguf", None, "needs a place", "-o NAME.gguf"),
        (None, "ctranslate2", None, "needs a place", "-o FOLDER"),
        ("\0", "gguf", None, "needs a place", "-o NAME.gguf"),
    ],
)
def test_what_does_not_go_together_is_refused_with_a_way_that_works(
    output: str | None, to: str | None, type: str | None, what: str, hint: str
) -> None:
    with pytest.raises(UsageError) as caught:
        written(Target(output=output, to=to, type=type))
    assert what in caught.value.why
    assert hint in caught.value.hint


def test_every_type_has_a_format() -> None:
    assert {"f16", "q8_0"} <= set(TYPES["gguf"])
    assert {"int8", "float32"} <= set(TYPES["ctranslate2"])


def test_a_place_that_is_taken_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    cases = [
        (Target(output=str(tmp_path / "a.gguf")), "--force"),
        (Target(output=str(tmp_path), to="gguf"), "model.gguf"),
        (Target(output=str(tmp_path / "full"), to="ctranslate2"), "--force"),
    ]
    for target, hint in cases:
        with pytest.raises(CannotCreate) as caught:
            written(target)
        assert hint in caught.value.hint
    assert written(Target(output=str(tmp_path / "a.gguf"), force=True))
    assert written(Target(output=str(tmp_path / "full"), to="ctranslate2", force=True))


def test_nothing_is_written_into_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UsageError, match="it is in the cache"):
        written(Target(output=str(tmp_path / "models--a" / "b.gguf")))
