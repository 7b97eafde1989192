"""UTF-16 is recognised, with and without a byte order mark, and UTF-8 never taken for it."""

# ruff: noqa: RUF001 - texts in other alphabets

from __future__ import annotations

import codecs
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptcli.errors import BadInput
from gptcli.inputs.encoding import foreign_encoding
from gptcli.inputs.lines import read_lines
from gptcli.inputs.prompt import read_prompt
from gptcli.options import Input

TEXTS = [
    "Once upon a time\r\nThe old king\r\n",
    "id,prompt\r\n1,a\r\n",
    "hi\r\n",
    "Жили-были старик со старухой\n",
    "Μια φορά κι έναν καιρό\n",
    "एक समय की बात है, एक गाँव में एक किसान रहता था\n",
    "从前有一只 狐狸。\n它住在森林里。\n",
    "Es war einmal ein König mit 1000 Schäfchen – und so\n",
]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("marked", [True, False])
def test_utf_16_is_recognised(text: str, encoding: str, marked: bool) -> None:
    mark = {"utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE}[encoding]
    data = (mark if marked else b"") + text.encode(encoding)
    expected = "utf-16" if marked else encoding.replace("16-", "16")
    assert foreign_encoding(data) == expected
    assert foreign_encoding(data, marked_only=True) == ("utf-16" if marked else None)


@pytest.mark.parametrize("text", TEXTS)
def test_utf_32_is_recognised_by_its_mark(text: str) -> None:
    assert foreign_encoding(text.encode("utf-32")) == "utf-32"


@given(st.text())
def test_text_in_utf_8_is_never_taken_for_it(text: str) -> None:
    assert foreign_encoding(text.replace("\0", "").encode()) is None


@pytest.mark.parametrize("data", [b"a\0b\n", b"one\0two\0three\0", b"\0" * 99, b"\0\n" * 9, b""])
def test_nul_characters_alone_are_not_utf_16(data: bytes) -> None:
    assert foreign_encoding(data) is None


@pytest.mark.parametrize("errors", ["strict", "replace"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le"])
def test_such_an_input_is_refused_once_with_the_way_out(errors: str, encoding: str) -> None:
    data = TEXTS[0].encode(encoding)
    for read in (
        lambda: list(read_lines(None, Input(errors=errors), BytesIO(data))),  # type: ignore[arg-type]
        lambda: read_prompt(None, Input(errors=errors), BytesIO(data)),  # type: ignore[arg-type]
    ):
        with pytest.raises(BadInput, match="iconv -f utf-16"):
            read()
