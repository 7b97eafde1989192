"""Tokenizers: the same ids as transformers, bytes that add up, and broken files refused."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptcli.checkpoints.tokenization.loading import check_vocabulary, load_tokenizer
from gptcli.checkpoints.tokenization.tokenizer import Tokenizer
from gptcli.errors import BadInput, BadModel

TEXTS = [
    "Hello, world!",
    "Once upon a time,\n\nthere was  a\tfox. ",
    " leading and trailing ",
    "café naïve Ünïcode",
    "漢字 かな 한국어 العربية",
    "👩‍🚀🇺🇳 \x00\x1b[31m\x7f",
    "it's I'll we've 1234567890",
    "a<|endoftext|>b",
    "",
]


@pytest.fixture(scope="module")
def tokenizer(tales: Path) -> Tokenizer:
    return load_tokenizer(tales)


@pytest.fixture
def folder(tales: Path, tmp_path: Path) -> Path:
    """The tokenizer files of tiny-tales, to be damaged."""
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(tales / name, tmp_path / name)
    return tmp_path


@pytest.fixture
def old_folder(tales: Path, tmp_path: Path) -> Path:
    """The same tokenizer as older checkpoints have it."""
    for name in ("vocab.json", "merges.txt"):
        shutil.copyfile(tales / name, tmp_path / name)
    return tmp_path


def change(folder: Path, edit: Callable[[dict[str, object]], None]) -> None:
    file = folder / "tokenizer.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    edit(content)
    file.write_text(json.dumps(content), encoding="utf-8")


# --- the same as transformers


@pytest.fixture(scope="module")
def reference(tales: Path) -> Callable[[str], list[int]]:
    transformers = pytest.importorskip("transformers")
    return transformers.AutoTokenizer.from_pretrained(tales).encode


@pytest.mark.parametrize("text", TEXTS)
def test_ids_are_those_of_transformers(
    tokenizer: Tokenizer, reference: Callable[[str], list[int]], text: str
) -> None:
    assert tokenizer.encode(text) == reference(text)


@pytest.mark.parametrize("text", TEXTS)
def test_two_files_give_the_ids_of_transformers(
    old_folder: Path, reference: Callable[[str], list[int]], text: str
) -> None:
    assert load_tokenizer(old_folder).encode(text) == reference(text)


@pytest.mark.parametrize("text", TEXTS)
def test_text_is_that_of_tokenizers(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.raw.encode(text).ids
    assert tokenizer.decode(ids) == tokenizer.raw.decode(ids) == text.replace("<|endoftext|>", "")


# --- text and bytes


@settings(deadline=None)
@given(text=st.text().filter(lambda text: "<|endoftext|>" not in text))  # which leaves no text
def test_text_survives_its_tokens(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert b"".join(tokenizer.token_bytes(id) or b"" for id in ids) == text.encode()


@settings(deadline=None)
@given(ids=st.lists(st.integers(0, 4095), max_size=20))
def test_bytes_of_any_tokens_add_up_to_their_text(tokenizer: Tokenizer, ids: list[int]) -> None:
    joined = b"".join(tokenizer.token_bytes(id) or b"" for id in ids)
    assert joined.decode("utf-8", "replace") == tokenizer.decode(ids)


def test_special_and_unknown_tokens_have_no_bytes(tokenizer: Tokenizer) -> None:
    assert tokenizer.token_bytes(4095) == b""
    assert tokenizer.token_bytes(10**6) == b""


def test_token_can_be_part_of_a_character(tokenizer: Tokenizer) -> None:
    pieces = [tokenizer.token_bytes(id) for id in tokenizer.encode("漢")]
    assert len(pieces) > 1
    assert b"".join(piece or b"" for piece in pieces) == "漢".encode()


def test_added_token_is_its_own_text(folder: Path) -> None:
    added = {"id": 4096, "content": "two words", "special": False, "normalized": False}
    added |= dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
    change(folder, lambda content: content["added_tokens"].append(added))
    tokenizer = load_tokenizer(folder)
    assert tokenizer.encode("two words") == [4096]
    assert tokenizer.token_bytes(4096) == b"two words"
    assert tokenizer.size == 4097


def test_special_token_is_shown_where_asked_for(tokenizer: Tokenizer) -> None:
    assert tokenizer.token_text(4095) == "<|endoftext|>"
    assert tokenizer.decode([4095]) == ""


def test_lone_surrogate_is_bad_input(tokenizer: Tokenizer) -> None:
    with pytest.raises(BadInput, match="surrogate"):
        tokenizer.encode("a\ud800b")


def test_tokenizer_of_words_has_no_bytes(tmp_path: Path) -> None:
    from tokenizers import Tokenizer as Raw
    from tokenizers import models, pre_tokenizers

    words = {"[UNK]": 0, "Probe": 1}
    raw = Raw(models.WordLevel(words, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.save(str(tmp_path / "tokenizer.json"))
    tokenizer = load_tokenizer(tmp_path)
    assert not tokenizer.byte_level
    assert tokenizer.token_bytes(1) is None


# --- what the files say


def test_end_token_is_found(tokenizer: Tokenizer) -> None:
    assert (tokenizer.eos_id, tokenizer.size) == (4095, 4096)


@pytest.mark.parametrize("eos", ["!", {"content": "!", "special": True}])
@pytest.mark.parametrize("name", ["tokenizer_config.json", "special_tokens_map.json"])
def test_end_token_can_be_named(folder: Path, name: str, eos: object) -> None:
    (folder / "tokenizer_config.json").unlink()
    (folder / name).write_text(json.dumps({"eos_token": eos}))
    tokenizer = load_tokenizer(folder)
    assert tokenizer.eos_id == 0
    assert tokenizer.decode([0]) == ""


def test_special_token_that_does_not_exist_is_not_added(folder: Path) -> None:
    (folder / "tokenizer_config.json").write_text(json.dumps({"pad_token": "[PAD]"}))
    assert load_tokenizer(folder).size == 4096


def test_truncation_and_padding_of_the_file_are_off(folder: Path) -> None:
    cut = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    change(folder, lambda content: content.update(truncation=cut))
    tokenizer = load_tokenizer(folder)
    assert tokenizer.decode(tokenizer.encode("A longer text than that.")).endswith("that.")


def test_added_tokens_of_two_files_keep_their_ids(old_folder: Path) -> None:
    (old_folder / "added_tokens.json").write_text('{"<b>": 4097, "<a>": 4096}')
    tokenizer = load_tokenizer(old_folder)
    assert tokenizer.encode("<a><b>") == [4096, 4097]


def test_vocabulary_without_single_bytes_is_lossy_but_works(tmp_path: Path) -> None:
    letters = dict.fromkeys("Ġabcdefghijklmnopqrstuvwxyzéè")
    (tmp_path / "vocab.json").write_text(json.dumps({c: i for i, c in enumerate(letters)}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    assert load_tokenizer(tmp_path).encode("a") == [1]


def test_tokenizer_of_another_model_is_refused(tokenizer: Tokenizer) -> None:
    check_vocabulary(tokenizer, 4096)
    check_vocabulary(tokenizer, 5000)
    with pytest.raises(BadModel, match="4096 tokens, but the model has embeddings for 2000"):
        check_vocabulary(tokenizer, 2000)


@pytest.mark.parametrize("files", ["folder", "old_folder"])
def test_a_token_without_an_embedding_is_refused_where_a_text_uses_it(
    files: str, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(files)
    entry = {"content": "[PAD]", "special": True}
    listed = {"added_tokens_decoder": {"4096": entry}, "pad_token": "[PAD]"}
    (folder / "tokenizer_config.json").write_text(json.dumps(listed))
    tokenizer = load_tokenizer(folder)
    assert tokenizer.encode("a[PAD]")[-1] == 4096
    check_vocabulary(tokenizer, 4096)
    assert tokenizer.size == 4096
    assert tokenizer.encode("The cat")
    with pytest.raises(BadInput, match=r"'\[PAD\]': its id is 4096, .* 4096 tokens"):
        tokenizer.encode("a[PAD]")


# --- vocabularies of other things than text

VOCABULARIES = {
    "music": (["[UNK]", "BAR", "NOTE_ON=60"], "[UNK]", "BAR NOTE_ON=60", [1, 2]),
    "chess": (["<s>", "e2e4", "e7e5"], None, "e2e4 e7e5", [1, 2]),
    "amino acids": (["A", "R", "N"], None, "A R N", [0, 1, 2]),
}


@pytest.mark.parametrize(
    ("words", "unknown", "text", "ids"), VOCABULARIES.values(), ids=list(VOCABULARIES)
)
def test_a_vocabulary_without_words_is_tried_with_its_own_tokens(
    tmp_path: Path, words: list[str], unknown: str | None, text: str, ids: list[int]
) -> None:
    from tokenizers import Tokenizer as Raw
    from tokenizers import models, pre_tokenizers

    vocabulary = {word: id for id, word in enumerate(words)}
    raw = Raw(models.WordLevel(vocabulary, **({"unk_token": unknown} if unknown else {})))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    raw.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"unk_token": unknown}))
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.encode(text) == ids
    assert tokenizer.decode(ids) == text
    assert tokenizer.encode_word("Probe") == []


def test_a_word_that_is_not_in_the_vocabulary_is_bad_input(tmp_path: Path) -> None:
    from tokenizers import Tokenizer as Raw
    from tokenizers import models

    Raw(models.WordLevel({"e2e4": 0}, unk_token="?")).save(str(tmp_path / "tokenizer.json"))
    tokenizer = load_tokenizer(tmp_path)
    with pytest.raises(BadInput, match="not in the vocabulary"):
        tokenizer.encode("Hello")


# --- tokens beside the vocabulary


def listed(**tokens: bool) -> dict[str, object]:
    """added_tokens_decoder with tokens from 4096 on: whether each is special."""
    entries = [{"content": text, "special": special} for text, special in tokens.items()]
    return {str(4096 + place): entry for place, entry in enumerate(entries)}


@pytest.mark.parametrize("files", ["folder", "old_folder"])
def test_tokens_of_the_configuration_alone_are_tokens(
    files: str, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(files)
    added = listed(**{"<|user|>": True, "<|bot|>": False})
    (folder / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": added}))
    tokenizer = load_tokenizer(folder)
    ids = tokenizer.encode("<|user|>The cat<|bot|>")
    assert (ids[0], ids[-1]) == (4096, 4097)
    assert tokenizer.decode(ids) == "The cat<|bot|>"


def test_a_token_of_the_configuration_keeps_its_id_across_a_gap(folder: Path) -> None:
    added = {"4100": {"content": "<x>"}, "99999999": {"content": "<far>"}, "0": {"content": "<y>"}}
    (folder / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": added}))
    tokenizer = load_tokenizer(folder)
    assert tokenizer.encode("<x>") == [4100]
    assert len(tokenizer.encode("<far>")) > 1  # no model has so many tokens
    assert len(tokenizer.encode("<y>")) > 1  # its id is another token's


@pytest.mark.parametrize("extra", [["<x>"], {"image_token": "<x>"}])
@pytest.mark.parametrize("key", ["additional_special_tokens", "extra_special_tokens"])
def test_further_special_tokens_leave_no_text(folder: Path, key: str, extra: object) -> None:
    settings = {key: extra, "added_tokens_decoder": listed(**{"<x>": False})}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = load_tokenizer(folder)
    assert tokenizer.decode(tokenizer.encode("a<x>b")) == "ab"


@pytest.mark.parametrize("files", ["folder", "old_folder"])
@pytest.mark.parametrize("text", ["café", "überall", "Ġx", "<|señal|>", "日本"])
def test_the_text_of_an_added_token_is_its_utf_8(
    files: str, text: str, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(files)
    settings = {"added_tokens_decoder": listed(**{text: False})}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, ensure_ascii=False))
    tokenizer = load_tokenizer(folder)
    ids = tokenizer.encode(f"The {text} é.")
    assert 4096 in ids
    assert tokenizer.token_bytes(4096) == text.encode()
    assert tokenizer.decode(ids) == f"The {text} é."
    assert tokenizer.token_text(4096) == text


def test_a_tokenizer_of_two_files_can_begin_every_text(old_folder: Path) -> None:
    settings = {"add_bos_token": True, "bos_token": "<|endoftext|>"}
    (old_folder / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = load_tokenizer(old_folder)
    assert tokenizer.encode("The")[0] == 4095
    assert tokenizer.encode("The", bare=True)[0] != 4095
    assert tokenizer.decode(tokenizer.encode("The")) == "The"


# --- broken files


def test_folder_without_a_tokenizer_is_refused_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(BadModel, match="no tokenizer") as caught:
        load_tokenizer(tmp_path)
    assert "Copy the tokenizer" in caught.value.hint


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        b'{"model": null}',
        b'{"version": "9.9", "model": {"type": "BPE", "vocab": {}, "merges": []}}',
        b'{"version": "1.0", "added_tokens": [], "model": {"type": "None"}}',
    ],
)
def test_file_that_is_no_tokenizer_is_refused(
    folder: Path, data: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    (folder / "tokenizer.json").write_bytes(data)
    with pytest.raises(BadModel, match=r"tokenizer\.json"):
        load_tokenizer(folder)
    assert capfd.readouterr() == ("", "")


DAMAGES: dict[str, Callable[[dict[str, object]], None]] = {
    "no vocabulary": lambda c: c["model"].update(vocab={}, merges=[]),
    "unknown merge": lambda c: c["model"]["merges"].append(["zzqq", "qqzz"]),
    "text for an id": lambda c: c["model"]["vocab"].update({"!": "0"}),
    "negative id": lambda c: c["model"]["vocab"].update({"!": -1}),
    "huge id": lambda c: c["model"]["vocab"].update({"Ġ": 2**31}),
    "other decoder": lambda c: c.update(decoder=None),
    "no pre-tokenizer": lambda c: c.update(pre_tokenizer=None),
    "bad regex": lambda c: c.update(
        pre_tokenizer={
            "type": "Split",
            "pattern": {"Regex": "("},
            "behavior": "Isolated",
            "invert": False,
        }
    ),
    "template of an unknown token": lambda c: c["post_processor"].update(
        single=[{"SpecialToken": {"id": "[X]", "type_id": 0}}]
    ),
    "dropout": lambda c: c["model"].update(dropout=7.0),
    "prefix longer than a token": lambda c: c["model"].update(continuing_subword_prefix="漢字漢字"),
    "negative truncation": lambda c: c.update(truncation={"max_length": -1}),
    "added token without text": lambda c: c["added_tokens"].append({"id": 1}),
    "broken precompiled map": lambda c: c.update(
        normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"}
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_tokenizer_is_refused_without_talk(
    folder: Path, damage: str, capfd: pytest.CaptureFixture[str]
) -> None:
    change(folder, DAMAGES[damage])
    with pytest.raises(BadModel, match=r"tokenizer\.json"):
        load_tokenizer(folder)
    assert capfd.readouterr() == ("", "")


def test_panic_of_the_library_is_refused_without_talk(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    class PanicException(BaseException):
        """As pyo3 raises it, after Rust wrote to file descriptor 2."""

    def panic(self: Tokenizer, text: str) -> list[int]:
        os.write(2, b"thread '<unnamed>' panicked at src/lib.rs:1:1\n")
        raise PanicException("index out of bounds\nmore")

    monkeypatch.setattr(Tokenizer, "encode", panic)
    with pytest.raises(
        BadModel, match=r"tokenizer\.json: the tokenizer does not work: index out of bounds\."
    ):
        load_tokenizer(folder)
    os.write(2, b"still there")
    assert capfd.readouterr().err == "still there"


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, MemoryError])
def test_end_of_the_program_is_not_taken_for_a_bad_model(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    def end(self: Tokenizer, text: str) -> list[int]:
        raise error

    monkeypatch.setattr(Tokenizer, "encode", end)
    with pytest.raises(error):
        load_tokenizer(folder)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("vocab.json", b"[]"),
        ("vocab.json", b'{"a": "0"}'),
        ("vocab.json", b'{"a": 0, "a": 1}'),
        ("vocab.json", b'{"a": -1}'),
        ("vocab.json", b"{}"),
        ("merges.txt", b"\xff"),
        ("merges.txt", b"#version: 0.2\nalone\n"),
        ("merges.txt", b"#version: 0.2\na b c\n"),
        ("merges.txt", b"#version: 0.2\nzzqq qqzz\n"),
        ("added_tokens.json", b'{"<a>": 9999}'),
        ("special_tokens_map.json", b"[1]"),
        ("tokenizer_config.json", b"["),
    ],
)
def test_damaged_file_beside_the_tokenizer_is_refused(
    old_folder: Path, name: str, data: bytes
) -> None:
    (old_folder / name).write_bytes(data)
    with pytest.raises(BadModel):
        load_tokenizer(old_folder)
