"""What becomes a document, of every kind of file."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from support.training_data import lay, prepared, sentences, tales_tokenizer, texts

from gptcli.errors import UsageError

NONE = {"valid_share": 0.0}


def test_a_text_is_one_document_without_the_line_breaks_around_it(tmp_path: Path) -> None:
    corpus = prepared(tmp_path, {"a.txt": "\n\nOnce upon\n\na time.\n\n"}, **NONE)
    assert texts(corpus.train) == ["Once upon\n\na time."]
    assert corpus.documents_by.startswith("the whole of ")
    assert "--documents line or blank" in corpus.documents_by


def test_each_of_several_files_is_a_document(tmp_path: Path) -> None:
    corpus = prepared(tmp_path, {"b.txt": "second", "a.txt": "first"}, **NONE)
    assert texts(corpus.train) == ["second", "first"]  # in the order of the command line
    assert corpus.documents_by == "a file"


@pytest.mark.parametrize("documents", ["auto", "file", "end-token"])
def test_the_end_token_in_a_text_ends_a_document(tmp_path: Path, documents: str) -> None:
    text = "one\n<|endoftext|>\ntwo<|endoftext|><|endoftext|>three<|endoftext|>"
    corpus = prepared(tmp_path, {"a.txt": text}, documents=documents, **NONE)
    assert texts(corpus.train) == ["one", "two", "three"]
    assert corpus.documents_by == "what lies between <|endoftext|>"
    end = tales_tokenizer().eos_id
    assert corpus.train.ids.tolist().count(end) == 4  # one before, and one behind each


def test_lines_are_documents(tmp_path: Path) -> None:
    text = "\ufeffone\r\n\r\n  two \r\nthree<|endoftext|>four"
    corpus = prepared(tmp_path, {"a.txt": text}, documents="line", **NONE)
    assert texts(corpus.train) == ["one", "  two ", "three", "four"]
    assert [notice for notice in corpus.notices if "CRLF" in notice]
    assert corpus.documents_by == "a line"


def test_paragraphs_between_blank_lines_are_documents(tmp_path: Path) -> None:
    text = "one\nmore\n\n\n \t\n\ntwo\n\nthree\n\n"
    corpus = prepared(tmp_path, {"a.txt": text}, documents="blank", **NONE)
    assert texts(corpus.train) == ["one\nmore", "two", "three"]
    assert corpus.documents_by == "a paragraph between blank lines"
    assert not corpus.notices


def test_rows_are_documents_whatever_the_table(tmp_path: Path) -> None:
    rows = ['say "so"', "two,\nlines", "three"]
    lines = "".join(json.dumps({"id": n, "text": row}) + "\n" for n, row in enumerate(rows))
    table = "id,text\n" + "".join(
        f'{n},"{row.replace(chr(34), chr(34) * 2)}"\n' for n, row in enumerate(rows)
    )
    files = {"a.jsonl": lines, "b.jsonl.gz": gzip.compress(lines.encode()), "c.csv": table}
    for name in files:
        corpus = prepared(tmp_path / name, files, name, **NONE)
        assert texts(corpus.train) == rows, name
        assert corpus.documents_by == "a row (text)"
        assert corpus.documents == 3


def test_parquet_and_zstd_are_read(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    zstandard = pytest.importorskip("zstandard")
    table = arrow.table({"n": [1, 2, 3], "story": ["one", None, "three"]})
    parquet.write_table(table, tmp_path / "a.parquet")
    lay(tmp_path, {"b.txt.zst": zstandard.compress(b"packed")})
    corpus = prepared(tmp_path, {}, "a.parquet", "b.txt.zst", column="story", **NONE)
    assert texts(corpus.train) == ["one", "three", "packed"]
    assert "1 empty document left out" in corpus.notices
    assert corpus.sources[0].documents == 2
    with pytest.raises(UsageError, match=r"no column 'tale'.*n, story"):
        prepared(tmp_path, {}, "a.parquet", column="tale", out="other")


def test_a_lone_column_and_bare_strings_need_no_name(tmp_path: Path) -> None:
    files = {"a.jsonl": '"one"\n{"story": "two"}\n\n', "b.csv": "story\nthree\n"}
    assert texts(prepared(tmp_path, files, **NONE).train) == ["one", "two", "three"]


def test_empty_documents_are_left_out_and_counted(tmp_path: Path) -> None:
    files = {
        "a.txt": "",
        "b.txt": " \n\n",
        "c.jsonl": '{"text": ""}\n{"text": null}\n{"text": "x y"}\n',
    }
    corpus = prepared(tmp_path, files, **NONE)
    assert texts(corpus.train) == ["x y"]
    assert "4 empty documents left out" in corpus.notices


def test_a_folder_is_read_in_order_without_hidden_and_foreign_files(tmp_path: Path) -> None:
    lay(tmp_path / "data", {"b.txt": "second", "a/z.md": "first", ".hidden.txt": "no"})
    lay(tmp_path / "data", {".git/x.txt": "no", "a/picture.png": "no", "Makefile": "no"})
    corpus = prepared(tmp_path, {}, "data", out="data/run", **NONE)
    assert texts(corpus.train) == ["first", "second"]
    assert (
        "2 files in folders left out, by their names: .png (1), without a suffix (1)"
        in corpus.notices
    )
    again = prepared(tmp_path, {}, "data", out="data/run", **NONE)  # its own files are none of it
    assert again.digest == corpus.digest


def test_in_a_folder_of_tables_a_text_beside_them_is_no_data(tmp_path: Path) -> None:
    lay(tmp_path / "data", {"README.md": "About", "train.jsonl": '{"text": "tale"}\n'})
    corpus = prepared(tmp_path, {}, "data", **NONE)
    assert texts(corpus.train) == ["tale"]
    assert any("1 text beside tables left out" in notice for notice in corpus.notices)


def test_prompts_and_completions_are_encoded_apart_and_prompts_are_muted(tmp_path: Path) -> None:
    pairs = [("The king's", " crown"), ("", "Alone"), ("Why", "not")]
    lines = "".join(json.dumps({"prompt": a, "completion": b}) + "\n" for a, b in pairs)
    corpus = prepared(tmp_path, {"a.jsonl": lines}, **NONE)
    encode, table = tales_tokenizer().encode, corpus.train
    assert table.muted is not None
    for (prompt, completion), start, length, muted in zip(
        pairs, table.starts, table.lengths, table.muted, strict=True
    ):
        ids = [*encode(prompt), *encode(completion), tales_tokenizer().eos_id]
        assert table.ids[start + 1 : start + length + 1].tolist() == ids
        assert muted == len(encode(prompt))
    assert table.targets == table.tokens - sum(len(encode(prompt)) for prompt, _ in pairs)
    assert any("1 completion of 3 without a space" in notice for notice in corpus.notices)
    assert corpus.documents_by == "a prompt and its completion (prompt, completion)"
    colon = {
        "b.jsonl": '{"prompt": "A:", "completion": "Yes."}\n{"prompt": "(", "completion": "a)"}'
    }
    told = prepared(tmp_path, colon, out="colon", **NONE).notices
    assert any("1 completion of 2 without a space" in notice for notice in told)
    everything = prepared(tmp_path, {}, "a.jsonl", loss_on="all", out="all", **NONE)
    assert everything.train.muted is None
    assert everything.train.targets == table.tokens


def test_pairs_stand_in_tables_too_and_under_other_names(tmp_path: Path) -> None:
    files = {"a.csv": "question,reply\nHow?, So.\n", "b.csv": "prompt,completion\nA, big bird\n"}
    names = {"prompt_column": "question", "completion_column": "reply"}
    assert texts(prepared(tmp_path, files, "a.csv", **names, **NONE).train) == ["How? So."]
    assert prepared(tmp_path, {}, "b.csv", out="b", **NONE).train.muted.tolist() == [1]
    only = prepared(tmp_path, {}, "b.csv", out="c", column="completion", **NONE)
    assert texts(only.train) == [" big bird"]


def test_a_long_prompt_is_cut_on_its_left_and_never_leaves_a_piece_without_targets(
    tmp_path: Path,
) -> None:
    long = " ".join(sentences(10))
    lines = [{"prompt": long, "completion": " end."}, {"prompt": long, "completion": " " + long}]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    corpus = prepared(tmp_path, {"a.jsonl": text}, context=32, **NONE)
    table = corpus.train
    assert any("2 prompts cut on the left" in notice for notice in corpus.notices)
    assert (table.muted < table.lengths).all()
    assert table.lengths.max() <= 32
    first = texts(table)[0]
    assert first.endswith(" end.")
    assert long.endswith(first.removesuffix(" end."))
    whole = " " + long
    assert texts(table)[1].endswith(whole)  # the completion is whole
