"""A document that is cut for the tokenizer has the ids that it has whole."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
from support.odd_texts import odd_texts
from support.training_data import prepared, tales_tokenizer
from tokenizers import AddedToken, normalizers, pre_tokenizers

from gptcli.checkpoints.tokenization.tokenizer import Tokenizer
from gptcli.training.data import cutting
from gptcli.training.data.cutting import DocumentCutter, border, can_cut
from gptcli.training.data.input.separating import DocumentPart, separated

ODD = odd_texts(["don't", "it's 'tis", "x! y? z.", "a\u180eb", "\x1c\x1d\x1e\x1f \x85"], count=400)


def all_borders(text: str) -> set[int]:
    """Every place that either rule calls a border."""
    rules = (cutting._SPACE, cutting._MARK)
    return {match.start() for rule in rules for match in rule.finditer(text)} - {0}


def test_ids_are_the_same_at_every_border_of_odd_texts() -> None:
    """Cut at one border at a time, at all of them, and at some of them."""
    encode, chance = tales_tokenizer().encode, random.Random(1)
    tried = 0
    for text in [*ODD, *("".join(chance.sample(ODD, 4)) for _ in range(200))]:
        whole, borders = encode(text, bare=True), sorted(all_borders(text))
        some = [at for at in borders if chance.random() < 0.3]
        for chosen in ([], borders, some, *([at] for at in borders[:40])):
            parts = [text[a:b] for a, b in zip([0, *chosen], [*chosen, len(text)], strict=True)]
            assert [id for part in parts for id in encode(part, bare=True)] == whole, (text, chosen)
            tried += 1
    assert tried > 3000


def test_ids_of_a_long_document_are_those_of_all_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut after a few characters, in texts that come in pieces of any size."""
    monkeypatch.setattr(cutting, "UNIT_CHARACTERS", 40)
    monkeypatch.setattr(cutting, "NEAR", 10)
    monkeypatch.setattr("gptcli.training.data.input.reading.READ_BYTES", 7)
    text = " ".join(ODD).replace("\0", "").replace("\r\n", "\n").strip("\n")
    corpus = prepared(tmp_path, {"a.txt": text}, valid_share=0)
    end = tales_tokenizer().eos_id
    assert corpus.train.ids.tolist() == [end, *tales_tokenizer().encode(text), end]


def test_the_last_border_is_taken_and_else_the_next() -> None:
    assert border("one two three", 0, 9) == 7
    assert border("one two  three", 0, 9) == 7  # inside white space there is none
    assert border("onetwo three", 0, 3) == 6
    assert border("onetwo", 0, 3) == 0
    assert border("天气好。春眠", 0, 5) == 3
    assert border("don't", 0, 5) == 0


def test_other_tokenizers_get_a_document_whole() -> None:
    own = tales_tokenizer()
    assert can_cut(own)
    changes = [
        lambda raw: setattr(raw, "normalizer", normalizers.NFC()),
        lambda raw: setattr(raw, "pre_tokenizer", pre_tokenizers.ByteLevel(add_prefix_space=True)),
        lambda raw: setattr(raw, "pre_tokenizer", pre_tokenizers.ByteLevel(False, use_regex=False)),
        lambda raw: setattr(raw, "pre_tokenizer", pre_tokenizers.Metaspace()),
        lambda raw: raw.add_tokens([AddedToken("two words")]),
        lambda raw: raw.add_tokens([AddedToken("<mask>", lstrip=True)]),
    ]
    for change in changes:
        raw = type(own.raw).from_str(own.raw.to_str())
        change(raw)
        assert not can_cut(Tokenizer(raw, 0)), raw.pre_tokenizer
    cutter = DocumentCutter(whole=True)
    assert list(cutter.units(DocumentPart("a b " * 20_000, last=False))) == []
    (unit,) = cutter.units(DocumentPart("c", last=True))
    assert unit.text == "a b " * 20_000 + "c"


def test_a_tokenizer_with_tokens_of_its_own_around_a_text_gives_what_generate_gives(
    tmp_path: Path,
) -> None:
    from tokenizers import processors

    own = tales_tokenizer()
    raw = type(own.raw).from_str(own.raw.to_str())
    raw.post_processor = processors.TemplateProcessing(
        single="!:0 $A:0", special_tokens=[("!", raw.token_to_id("!"))]
    )
    tokenizer = Tokenizer(raw, own.eos_id)
    corpus = prepared(tmp_path, {"a.txt": "one two"}, tokenizer=tokenizer, valid_share=0)
    assert corpus.train.ids.tolist() == [own.eos_id, *tokenizer.encode("one two"), own.eos_id]
    assert tokenizer.encode("one two")[0] == raw.token_to_id("!")


@pytest.mark.parametrize("by", ["file", "line", "blank"])
def test_documents_do_not_depend_on_how_a_text_comes(by: str) -> None:
    text = "a\n\n \nb<|endoftext|>c\n\n\n\n\td\ne <|endof\n\n<|endoftext|>\n\nf \n \n"
    chance = random.Random(0)

    def documents(pieces: list[str]) -> list[str]:
        found, held = [], ""
        for part in separated(iter(pieces), by, ["<|endoftext|>", "<|end|>"]):
            held += part.text
            if part.last:
                found.append(held)
                held = ""
        return [one for one in found if one.strip()]

    whole = documents([text])
    patterns = {"file": "", "line": "|\n", "blank": r"|\n\s*\n"}
    split = re.split(re.escape("<|endoftext|>") + patterns[by], text)
    assert [one.strip() for one in whole] == [one.strip() for one in split if one.strip()]
    for _ in range(50):
        places = sorted(chance.sample(range(len(text)), chance.randrange(len(text))))
        pieces = [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]
        assert documents(pieces) == whole
