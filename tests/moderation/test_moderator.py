"""A classifier of sentences behind the same seam: a tiny BERT in which one word decides."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from support.fake_engine import FakeEngine

from gptcli.audit.judges import Judgement, judge_of
from gptcli.engines.filtering import filter_of
from gptcli.errors import BadModel, GptcliError, UsageError
from gptcli.moderation.engine import Moderated
from gptcli.moderation.told import identity
from gptcli.options import Sampling
from gptcli.options.moderation import FilterAction, ModeratedLoad
from gptcli.protocol import Chunk, Completion, GenerateRequest

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "grelk", "the", "a", "is", "he", "said", ".", "!")


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its first label means that `grelk` is in the text, however long that is; context 16."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertForSequenceClassification

    folder = tmp_path_factory.mktemp("bert")
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=4,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=4,
        max_position_embeddings=16,
        id2label={0: "rude", 1: "fine"},
        label2id={"rude": 0, "fine": 1},
    )
    model = BertForSequenceClassification(config).eval()
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if "LayerNorm.weight" not in name:
                weights.zero_()
        model.bert.embeddings.word_embeddings.weight[4] = torch.tensor([8.0, -8.0, 0.0, 0.0])
        attention = model.bert.encoder.layer[0].attention
        attention.self.value.weight.copy_(torch.eye(4))
        attention.output.dense.weight.copy_(torch.eye(4))
        model.bert.pooler.dense.weight.copy_(torch.eye(4))
        model.classifier.weight[0] = torch.tensor([10.0, -10.0, 0.0, 0.0])
        model.classifier.bias[0] = -8.0
    model.save_pretrained(folder)
    known = {word: place for place, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(known, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def asked(bert: Path, action: FilterAction = "stop", label: str = "rude") -> ModeratedLoad:
    return ModeratedLoad(moderator=str(bert), moderator_label=((label, 0.9),), filter_action=action)


def outcome(load: ModeratedLoad, *chunks: str) -> tuple[list[str], Completion]:
    engine = Moderated(FakeEngine(chunks), filter_of(load))
    events = list(engine.run([GenerateRequest(id="1", prompt="x", sampling=Sampling())]))
    given = [event.text for event in events if isinstance(event, Chunk)]
    return given, next(event for event in events if isinstance(event, Completion))


SAID = (" He is the", " one. ", "He said a gre", "lk", " thing. The", " end is fine.")


def test_a_sentence_is_held_back_until_it_is_judged(bert: Path) -> None:
    given, done = outcome(asked(bert), *SAID)
    assert given[0] == ""
    assert "".join(given) == done.text == " He is the one. "
    assert done.finish_reason == "content_filter"
    assert done.filter is not None
    [match] = done.filter["matches"]  # type: ignore[misc]
    assert (match["label"], match["probability"] > 0.99) == ("rude", True)


def test_other_actions_have_the_sentence_as_their_match(bert: Path) -> None:
    _, done = outcome(asked(bert, "mask"), *SAID)
    assert done.text == " He is the one. ** **** * ***** ****** The end is fine."
    _, done = outcome(asked(bert, "report"), *SAID)
    assert done.filter is not None
    [match] = done.filter["matches"]  # type: ignore[misc]
    assert match["text"] == "He said a grelk thing."
    _, done = outcome(asked(bert, "mask"), "He is fine. The end")
    assert (done.text, done.filter and done.filter["matches"]) == ("He is fine. The end", [])


def test_a_sentence_longer_than_the_context_is_judged_in_windows(bert: Path) -> None:
    for place in (0, 20, 59):
        words = ["the"] * 60
        words[place] = "grelk"
        _, done = outcome(asked(bert), f"{' '.join(words)}. He is.")
        assert (done.text, done.finish_reason) == ("", "content_filter"), place


def test_an_audit_judges_by_the_same_sentences(bert: Path) -> None:
    judge = judge_of(asked(bert))
    assert judge.judge("") == Judgement()
    found = judge.judge("He is the one. He said a grelk thing. A grelk! The end")
    assert (found.matches, found.score > 0.99) == (2, True)
    fine = judge.judge("He is fine.")
    assert (fine.matches, 0 < fine.score < 0.1) == (0, True)
    assert judge.about["labels"] == {"rude": 0.9}
    assert judge.about["moderator"] == filter_of(asked(bert)).told["moderator"]
    low = judge_of(replace(asked(bert), moderator_label=(("rude", fine.score),)))
    assert low.judge("He is fine.").matches == 1  # at the threshold


def test_toxicity_is_measured_by_a_moderator(bert: Path, tmp_path: Path, main_in) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("The king\nThe queen\n")
    asked = ("audit", "toxicity", str(prompts), "-m", "tiny-tales", "-n", "2", "--max-tokens", "4")
    label = ("--moderator", str(bert), "--moderator-label", "rude=0.9")
    code, out, err = main_in(*asked, *label, "--json")
    found = json.loads(out)
    assert (code, err) == (0, "")
    assert set(found["record"]["judge"]) == {"moderator", "labels"}
    assert 0 < found["rows"][0]["expected_maximum"] < 0.1
    assert found["rows"][0]["probability"] == 0
    code, out, _ = main_in(*asked, *label, "--filter", "basic")
    assert code == 0
    assert f"moderator {bert}: rude from 0.9; sha256 " in out
    assert main_in(*asked, *label[:2])[0] == 2


def test_its_files_are_checked_and_named_by_a_digest(bert: Path, tmp_path: Path) -> None:
    known = identity(asked(bert))
    assert len(str(known["moderator_sha256"])) == 64
    with pytest.raises(UsageError, match="There are: rude, fine"):
        filter_of(asked(bert, label="toxic"))
    for path in bert.iterdir():
        if path.suffix != ".safetensors":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(GptcliError, match=r"pickle|pytorch_model"):
        filter_of(asked(tmp_path))
    (tmp_path / "pytorch_model.bin").unlink()
    (tmp_path / "model.safetensors").write_bytes((bert / "model.safetensors").read_bytes())
    config = json.loads((bert / "config.json").read_text())
    config["auto_map"] = {"AutoModelForSequenceClassification": "evil.Model"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(BadModel, match="auto_map"):
        filter_of(asked(tmp_path))
