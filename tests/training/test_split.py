"""Validation: by document, seeded, and never on what is trained on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support.training_data import lay, prepared, sentences, tales_tokenizer, texts

from gptcli.errors import BadInput
from gptcli.training.data.pieces import PieceTable
from gptcli.training.data.splitting import copies, split
from gptcli.training.data.store import ArrayFile


def positions(table: PieceTable) -> set[int]:
    """Where the tokens lie that a table reads or predicts, but for the ends of documents."""
    found: set[int] = set()
    for start, length in zip(table.starts.tolist(), table.lengths.tolist(), strict=True):
        found |= set(range(start, start + length + 1))
    ids = table.ids
    return {at for at in found if ids[at] != tales_tokenizer().eos_id}


def test_a_seeded_share_of_whole_documents_is_kept(tmp_path: Path) -> None:
    rows = sentences(200)
    lay(tmp_path, {"a.txt": "\n".join(rows)})
    kept = {}
    for seed in (0, 1):
        corpus = prepared(tmp_path, {}, "a.txt", documents="line", seed=seed, out=f"run{seed}")
        train, valid = texts(corpus.train), texts(corpus.valid)
        assert sorted(train + valid) == sorted(rows)
        assert not set(train) & set(valid)
        assert 0.03 <= corpus.valid.tokens / (corpus.valid.tokens + corpus.train.tokens) <= 0.07
        assert not positions(corpus.train) & positions(corpus.valid)
        kept[seed] = valid
    assert kept[0] != kept[1]


def test_copies_of_a_document_stand_on_one_side(tmp_path: Path) -> None:
    rows = sentences(60) * 2 + sentences(5)
    corpus = prepared(tmp_path, {"a.txt": "\n".join(rows)}, documents="line", valid_share=0.3)
    train, valid = texts(corpus.train), texts(corpus.valid)
    assert not set(train) & set(valid)
    assert sorted(train + valid) == sorted(rows)
    assert "65 documents are copies of others, on the same side of the split" in corpus.notices


def test_of_one_document_the_last_part_is_kept_and_no_token_is_on_both_sides(
    tmp_path: Path,
) -> None:
    text = " ".join(sentences(100))
    corpus = prepared(tmp_path, {"novel.txt": text})
    assert corpus.valid is not None
    seen, unseen = positions(corpus.train), positions(corpus.valid)
    assert not seen & unseen
    assert len(seen) + len(unseen) == len(tales_tokenizer().encode(text))
    assert max(seen) < min(unseen)
    assert any("the last" in notice and "longest one" in notice for notice in corpus.notices)


def test_the_tail_of_a_long_document_is_not_trained_on_in_a_copy_of_it(tmp_path: Path) -> None:
    text = " ".join(sentences(100))
    corpus = prepared(tmp_path, {"a.txt": text, "b.txt": text})
    assert corpus.valid is not None
    tail = text[-60:]
    assert tail not in tales_tokenizer().decode(
        [int(corpus.train.ids[at]) for at in sorted(positions(corpus.train))]
    )


def test_a_novel_beside_notes_is_not_held_out_whole(tmp_path: Path) -> None:
    for seed in range(5):
        files = {"novel.txt": " ".join(sentences(200)), "a.txt": "A note.", "b.txt": "Another."}
        corpus = prepared(tmp_path / str(seed), files, seed=seed)
        assert corpus.train.tokens > 10 * corpus.valid.tokens > 0


def test_too_little_text_has_no_validation(tmp_path: Path) -> None:
    corpus = prepared(tmp_path, {"a.txt": "Once upon a time."})
    assert corpus.valid is None
    assert "too little text to keep some for validation" in corpus.notices
    silent = prepared(tmp_path, {}, "a.txt", valid_share=0.0, out="other")
    assert silent.valid is None
    assert not silent.notices


def test_a_file_to_validate_on_is_used_whole_and_never_trained_on(tmp_path: Path) -> None:
    rows = sentences(30)
    files = {"a.txt": "\n".join(rows), "v.txt": "\n".join([rows[3], rows[7], "Another tale."])}
    corpus = prepared(tmp_path, files, "a.txt", documents="line", valid="v.txt")
    assert texts(corpus.valid) == [rows[3], rows[7], "Another tale."]
    assert texts(corpus.train) == [row for row in rows if row not in (rows[3], rows[7])]
    assert any("2 documents left out of training" in notice for notice in corpus.notices)
    assert [file.documents for file in corpus.valid_sources] == [3]
    with pytest.raises(BadInput, match="every document of the data is in --valid"):
        prepared(tmp_path, {}, "v.txt", documents="line", valid="v.txt", out="b")
    lay(tmp_path, {"empty.txt": "\n"})
    with pytest.raises(BadInput, match=r"empty\.txt: there is no text"):
        prepared(tmp_path, {}, "a.txt", valid="empty.txt", out="c")


def test_pairs_are_split_by_row_and_a_single_one_is_not_cut(tmp_path: Path) -> None:
    row = json.dumps({"prompt": "The", "completion": " " + " ".join(sentences(40))})
    corpus = prepared(tmp_path, {"a.jsonl": row})
    assert corpus.valid is None
    assert corpus.documents == 1


def test_millions_of_documents_are_split_by_hash_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gptcli.training.data.splitting.LISTED", 1000)
    monkeypatch.setattr("gptcli.training.data.splitting.BUCKET", 700)
    random = np.random.default_rng(0)
    hashes = random.integers(0, 2**64, 5000, np.uint64)
    hashes[4000:] = hashes[:1000]
    lengths = np.full(5000, 20)
    paths = {}
    for name, dtype, values in (
        ("lengths", "<i8", lengths),
        ("hashes", "<u8", hashes),
        ("muted", "<i4", np.zeros(5000)),
    ):
        file = ArrayFile(tmp_path / name, dtype)
        file.append(values)
        file.close()
        paths[name] = file.path
    found = split(**paths, documents=5000, tokens=100_000, share=0.1, seed=3)
    valid = found.valid(hashes, lengths)
    assert 0.07 < valid.mean() < 0.13
    assert (valid[4000:] == valid[:1000]).all()
    assert copies(paths["hashes"], 5000) == 1000
    assert copies(paths["hashes"], 4000) == 0
