"""Data that nothing can be learned from is refused by its name, with the place."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from support.training_data import lay, prepared, sentences, tales_tokenizer

import gptcli
from gptcli.checkpoints.tokenization.loading import load_tokenizer
from gptcli.errors import BadInput, BadModel, GptcliError, MissingInput, UsageError, WriteFailed
from gptcli.training.data.options import TrainingData
from gptcli.training.data.preparing import check_fit, prepare

TALES = Path(gptcli.__file__).parent / "bundled" / "tiny-tales"
WORD = "once upon a time "
BAD: dict[str, tuple[str, str | bytes, str]] = {
    "empty": ("a.txt", "", "there is no text in it"),
    "blank": ("a.txt", " \n\n\t\n", "there is no text in it"),
    "only empty rows": ("a.jsonl", '{"text": ""}\n{"text": null}\n', "all documents are empty"),
    "only end tokens": ("a.txt", "<|endoftext|>\n<|endoftext|>", "all documents are empty"),
    "one token": ("a.txt", "a", "its text is a single token"),
    "NUL": ("a.txt", b"abc\0def", "no text: a NUL byte at byte 3"),
    "late NUL": ("a.txt", WORD.encode() * 100_000 + b"\0", "a NUL byte at byte 1700000"),
    "PDF": ("a.txt", b"%PDF-1.7\n1 0 obj", "no text: a PDF"),
    "docx": ("a.docx", b"PK\x03\x04more", r"no text: a zip archive, such as \.docx"),
    "picture": ("a.txt", b"\x89PNG\r\n\x1a\nxx", "no text: a picture"),
    "Parquet by another name": ("a.txt", b"PAR1\x15\x04", r"not end in \.parquet"),
    "no Parquet": ("a.parquet", b"PAR1 no", "not Parquet, or damaged"),
    "UTF-16": ("a.txt", "Once upon".encode("utf-16"), "its text is UTF-16, not UTF-8"),
    "UTF-16 unmarked": ("a.csv", "text\nOnce upon".encode("utf-16le"), "UTF-16, not UTF-8"),
    "Latin-1": ("a.txt", b"one\ntwo\nna\xefve", r"invalid UTF-8 at byte 10 \(0xef, line 3\)$"),
    "mixed": (
        "a.txt",
        "caf\u00e9\n".encode() * 300_000 + b"caf\xe9\n",
        r"invalid UTF-8 at byte 1800003 \(0xe9, line 300001\); before it .* mixed",
    ),
    "cut character": ("a.txt", "caf\u00e9".encode()[:-1], r"invalid UTF-8 at byte 3 \(0xc3"),
    "bad JSON bytes": ("a.jsonl", b'{"text": "a b"}\n{"text": "\xff"}\n', "line 2: invalid UTF-8"),
    "broken JSON": ("a.jsonl", '{"text": "a b"}\n{"text"\n', "line 2: not JSON"),
    "no object": ("a.jsonl", "[1]\n", "line 1: not an object"),
    "no key": ("a.jsonl", '{"id": 1, "body": "x"}\n', "no key text or content; it has id, body"),
    "a number": ("a.jsonl", '{"text": 5}\n', "line 1: key text is a number, not a text"),
    "a surrogate": ("a.jsonl", '{"text": "\\ud800 x"}\n', "half of a surrogate pair"),
    "messages": ("a.jsonl", '{"messages": [{"role": "user"}]}\n', "messages: a conversation"),
    "twice": ("a.jsonl", '{"text": "a", "text": "b"}\n', "the key 'text' stands twice"),
    "a broken row": ("a.csv", 'text,n\n"a b",1\n"c,2\n', "line 3"),
    "not packed": ("a.txt.gz", "plain", "it is not packed by gzip"),
    "cut off": ("a.txt.gz", b"\x1f\x8b\x08\0\0\0\0\0\0\x03", "ends too early"),
    "no place to cut": ("a.txt", "x" * 3_000_000, "million characters without a space"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_data_is_refused_by_name_and_leaves_nothing(case: str, tmp_path: Path) -> None:
    name, content, why = BAD[case]
    with pytest.raises(BadInput) as refused:
        prepared(tmp_path, {name: content})
    assert name in refused.value.message
    assert re.search(why, refused.value.message), refused.value.message
    assert refused.value.hint
    assert not list((tmp_path / "run").iterdir())


BAD_NAMES: dict[str, tuple[list[str], str]] = {
    "none": ([], "nothing to learn from"),
    "empty": ([""], "a name is empty"),
    "stdin": (["-"], "cannot be read again"),
    "JSON": (["a.json"], "JSON, and not JSON lines"),
}


@pytest.mark.parametrize("case", BAD_NAMES)
def test_bad_names_are_refused(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lay(tmp_path, {"a.json": "[]"})
    names, why = BAD_NAMES[case]
    with pytest.raises(UsageError, match=why):
        prepare(names, TrainingData(), tales_tokenizer(), 16, 0, tmp_path / "run")


def test_what_is_not_there_or_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe.txt")
    for name in ("gone.txt", "*.txt.no", "folder", "pipe.txt"):
        with pytest.raises(MissingInput, match=re.escape(name)):
            prepared(tmp_path, {}, name)


def test_options_that_the_data_does_not_fit_are_refused(tmp_path: Path) -> None:
    lay(tmp_path, {"a.txt": "one two", "b.csv": "n,story\n1,x y\n", "c.jsonl": '{"prompt": "x"}\n'})
    bad: list[tuple[str, dict[str, str], str]] = [
        ("a.txt", {"documents": "row"}, "is a text and has no rows"),
        ("b.csv", {"documents": "line"}, "is a table, and its documents are rows"),
        ("b.csv", {}, r"has no column text or content\. Name one: n, story"),
        ("b.csv", {"column": "tale"}, r"no column 'tale'\. Name one: n, story"),
        ("b.csv", {"completion_column": "story"}, r"no column prompt\. Name one: n, story"),
        ("b.csv", {"column": "n", "prompt_column": "n"}, "--column: it excludes"),
        ("c.jsonl", {"prompt_column": "prompt"}, "no key completion or response; it has prompt"),
    ]
    for name, reading, why in bad:
        with pytest.raises(GptcliError, match=why):
            prepared(tmp_path, {}, name, **reading)


def test_bytes_that_are_not_utf8_can_be_replaced_and_are_counted(tmp_path: Path) -> None:
    corpus = prepared(tmp_path, {"a.txt": b"na\xefve \xff"}, errors="replace")
    assert "2 places that are not UTF-8 read as U+FFFD" in corpus.notices


def test_a_tokenizer_without_an_end_token_is_refused(tmp_path: Path) -> None:
    from gptcli.checkpoints.tokenization.tokenizer import Tokenizer

    bare = Tokenizer(tales_tokenizer().raw, None)
    with pytest.raises(BadModel, match="no token that ends a text"):
        prepared(tmp_path, {"a.txt": "one two"}, tokenizer=bare)


def test_ids_beyond_the_vocabulary_are_refused_by_their_token(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(TALES)
    check_fit(tokenizer, 16, 4096, 512)
    with pytest.raises(BadModel, match="4096 tokens, but the model has embeddings for 500"):
        check_fit(tokenizer, 16, 500, 512)
    tokenizer.limit(4000)
    rare = tokenizer.decode([4010])
    with pytest.raises(GptcliError, match="no token that ends a text"):
        prepared(tmp_path, {"a.txt": "one"}, tokenizer=tokenizer)
    from gptcli.checkpoints.tokenization.roles import only_end

    tokenizer.roles = only_end(0)
    with pytest.raises(BadInput, match="its id is 4010, but the model has embeddings for 4000"):
        prepared(tmp_path, {"a.txt": f"one{rare} two"}, tokenizer=tokenizer)


def test_a_context_longer_than_the_positions_is_refused() -> None:
    with pytest.raises(UsageError, match="2048 tokens, and the model has 512 positions"):
        check_fit(tales_tokenizer(), 2048, 4096, 512)


def test_a_disk_without_room_for_the_ids_is_found_out_first(tmp_path: Path) -> None:
    with (tmp_path / "a.txt").open("wb") as file:
        try:
            file.truncate(2**43)  # a sparse file of 8 TiB
        except OSError:
            pytest.skip("the file system has no files of this size")
    with pytest.raises(WriteFailed, match=r"the ids take about 3518\.4 GB, and .* are free"):
        prepared(tmp_path, {}, "a.txt")
    assert not list((tmp_path / "run").iterdir())


def test_a_disk_that_gets_full_leaves_nothing(tmp_path: Path) -> None:
    import resource
    import signal

    lay(tmp_path, {"a.txt": " ".join(sentences(4_000))})
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, limits[1]))
    try:
        with pytest.raises(WriteFailed, match="file too large"):
            prepared(tmp_path, {}, "a.txt")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert not list((tmp_path / "run").iterdir())


def test_a_json_row_may_be_longer_than_a_mebibyte_but_not_than_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = WORD * 70_000
    corpus = prepared(tmp_path, {"a.jsonl": json.dumps({"text": text})}, valid_share=0)
    assert corpus.train.tokens > 200_000
    monkeypatch.setattr("gptcli.training.data.input.rows.MAX_ROW_BYTES", 1 << 20)
    with pytest.raises(BadInput, match="line 1: longer than 1 MiB"):
        prepared(tmp_path, {}, "a.jsonl", out="b")
