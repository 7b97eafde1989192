"""`gptcli train tokenizer`: GPT-2's kind of BPE, on any text, the same each time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.odd_texts import odd_texts
from support.training_data import lay, prepared, sentences

from gptcli.checkpoints.tokenization.loading import load_tokenizer
from gptcli.errors import BadInput, CannotCreate
from gptcli.training import tokenizer as module
from gptcli.training.data.cutting import can_cut
from gptcli.training.data.options import DataReading
from gptcli.training.tokenizer import FILES, TrainedTokenizer, train_tokenizer

ODD = odd_texts(["<|endoftext|>", "don't"], count=200)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainedTokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    lay(
        folder, {"a.txt": "<|endoftext|>".join(sentences(300)), "b.jsonl": '{"text": "na\u00efve"}'}
    )
    data = [str(folder / "a.txt"), str(folder / "b.jsonl")]
    return train_tokenizer(data, 320, DataReading(), folder / "made")


def test_the_folder_is_a_tokenizer_with_the_size_that_is_asked_for(
    trained: TrainedTokenizer,
) -> None:
    tokenizer = load_tokenizer(trained.folder)
    assert (tokenizer.size, trained.size, tokenizer.eos_id) == (320, 320, 319)
    assert tokenizer.encode("a<|endoftext|>")[-1] == 319
    assert can_cut(tokenizer)
    assert sorted(path.name for path in trained.folder.iterdir()) == sorted(FILES)
    for text in ODD:
        assert tokenizer.decode(tokenizer.encode(text), special=True) == text
    assert len(tokenizer.encode("Tale 5: the old king")) < 10
    # No pair of tokens was joined across a space, nor from the token that ends a text.
    assert not [token for token in tokenizer.raw.get_vocab() if "\u0120" in token[1:]]
    assert {token for token in tokenizer.raw.get_vocab() if "|" in token} == {"|", "<|endoftext|>"}


def test_transformers_reads_the_same_ids_from_its_files(trained: TrainedTokenizer) -> None:
    from transformers import GPT2Tokenizer

    ours, theirs = load_tokenizer(trained.folder), GPT2Tokenizer.from_pretrained(trained.folder)
    assert theirs.eos_token_id == theirs.bos_token_id == 319
    for text in ODD:
        assert theirs(text).input_ids == ours.encode(text), text


def test_vocab_and_merges_alone_are_the_same_tokenizer(
    trained: TrainedTokenizer, tmp_path: Path
) -> None:
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).write_bytes((trained.folder / name).read_bytes())
    whole, pair = load_tokenizer(trained.folder), load_tokenizer(tmp_path)
    assert all(whole.encode(text) == pair.encode(text) for text in ODD)
    assert pair.eos_id == 319


def test_the_same_data_gives_the_same_files(trained: TrainedTokenizer, tmp_path: Path) -> None:
    data = [str(trained.folder.parent / name) for name in ("a.txt", "b.jsonl")]
    for number in range(3):
        again = train_tokenizer(data, 320, DataReading(), tmp_path / str(number))
        for name in FILES:
            assert (again.folder / name).read_bytes() == (trained.folder / name).read_bytes()


def test_a_text_that_gives_fewer_tokens_says_so(tmp_path: Path) -> None:
    lay(tmp_path, {"a.txt": "one two one two"})
    found = train_tokenizer([str(tmp_path / "a.txt")], 4096, DataReading(), tmp_path / "made")
    assert 257 < found.size < 270
    assert f"the text gives {found.size} tokens, not 4096" in found.notices[0]
    assert load_tokenizer(found.folder).eos_id == found.size - 1
    smallest = train_tokenizer([str(tmp_path / "a.txt")], 257, DataReading(), tmp_path / "bytes")
    assert smallest.size == 257
    assert not smallest.notices


def test_of_much_text_every_so_manieth_piece_is_read_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = "\n".join(json.dumps({"text": row}) for row in sentences(300))
    lay(tmp_path, {"a.jsonl": rows})
    monkeypatch.setattr(module, "SAMPLE_BYTES", len(rows) // 3 + 1)
    found = train_tokenizer([str(tmp_path / "a.jsonl")], 300, DataReading(), tmp_path / "made")
    assert found.notices[0].startswith("trained on every 3rd piece of the text, 0.0")
    assert len(rows) // 5 < found.characters < len(rows) // 3


def test_of_text_without_spaces_less_is_read_because_its_words_are_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = ["".join(sentences(1, seed)).replace(" ", "\u6625") for seed in range(400)]
    lay(tmp_path, {"a.jsonl": "\n".join(json.dumps({"text": row}) for row in long)})
    lay(tmp_path, {"b.jsonl": "\n".join(json.dumps({"text": row}) for row in sentences(400))})
    monkeypatch.setattr(module, "WORD_BYTES", 6000)
    for name, read in (("a.jsonl", (2000, 6000)), ("b.jsonl", (20_000, 30_000))):
        data = [str(tmp_path / name)]
        found = train_tokenizer(data, 300, DataReading(), tmp_path / f"made-{name}")
        assert read[0] < found.characters < read[1]
        assert ("trained on every" in "".join(found.notices)) is (name == "a.jsonl")


def test_a_tokenizer_that_is_there_is_not_overwritten_unasked(
    trained: TrainedTokenizer, tmp_path: Path
) -> None:
    data, place = [str(trained.folder.parent / "a.txt")], tmp_path / "made"
    lay(place, {"merges.txt": "mine", "notes.txt": "mine, too"})
    with pytest.raises(CannotCreate, match=r"merges\.txt exists"):
        train_tokenizer(data, 300, DataReading(), place)
    train_tokenizer(data, 300, DataReading(), place, force=True)
    assert load_tokenizer(place).size == 300
    assert (place / "notes.txt").read_text() == "mine, too"
    assert not list(tmp_path.glob(".*"))


def test_no_text_is_refused(tmp_path: Path) -> None:
    lay(tmp_path, {"a.txt": "\n"})
    with pytest.raises(BadInput, match=r"a\.txt: there is no text in it"):
        train_tokenizer([str(tmp_path / "a.txt")], 300, DataReading(), tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_a_corpus_is_made_with_it(trained: TrainedTokenizer, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(trained.folder)
    text = " ".join(sentences(5))
    corpus = prepared(tmp_path, {"a.txt": text}, tokenizer=tokenizer, valid_share=0)
    assert corpus.train.ids.tolist() == [319, *tokenizer.encode(text), 319]


def test_the_command_prints_the_folder(main_in, tmp_path: Path) -> None:
    lay(tmp_path, {"a.txt": "\n".join(sentences(50))})
    made, data = str(tmp_path / "made"), str(tmp_path / "a.txt")
    code, out, err = main_in("train", "tokenizer", data, "--size", "280", "-o", made)
    assert (code, out) == (0, made + "\n")
    assert "280 tokens" in err
    code, out, _ = main_in("train", "tokenizer", data, "-o", made, "--force", "--json", "-q")
    assert code == 0
    assert json.loads(out)["folder"] == made
    code, _, err = main_in("train", "tokenizer", data)
    assert code == 2
    assert "a folder for the tokenizer is needed" in err
