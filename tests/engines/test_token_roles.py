"""Begin and end tokens where they belong, in both engines and in every command's request."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from support.engines import built_in, by_torch, completions, requests, through_transformers
from transformers import AutoTokenizer, GPT2LMHeadModel

from gptcli.errors import BadInput, UsageError
from gptcli.inspection.reading import text_view
from gptcli.options import Sampling
from gptcli.protocol import Engine, GenerateRequest
from gptcli.scoring.options import Scoring
from gptcli.scoring.scorer import TextToScore, score

ENGINES = pytest.mark.parametrize(
    "opened", [built_in, by_torch, through_transformers], ids=["gpt2", "gpt2-torch", "auto"]
)
BEGIN, END, PAD, BEYOND = 512, 513, 514, 515
ADDED = {"<s>": BEGIN, "</s>": END, "<pad>": PAD, "<beyond>": BEYOND}
TEXT = "Once upon a time"


@pytest.fixture(scope="module")
def folder(make_tiny) -> Path:
    """A model with tokens of its own for begin, end and padding, and one without an embedding.

    Its tokenizer puts <s> before a text; its configuration says that the word " the" ends one.
    """
    made = make_tiny(vocab_size=515, bos_token_id=0, eos_token_id=0)
    raw = json.loads((made / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = raw["model"]["vocab"]
    vocabulary |= {f"unused {id}": id for id in range(len(vocabulary), 512)}
    special = {"id": "<s>", "ids": [BEGIN], "tokens": ["<s>"]}
    parts = [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    raw["post_processor"] = {
        "type": "TemplateProcessing",
        "single": parts,
        "pair": parts,
        "special_tokens": {"<s>": special},
    }
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    raw["added_tokens"] += [
        {"id": id, "content": text, "special": True, **flags} for text, id in ADDED.items()
    ]
    (made / "tokenizer.json").write_text(json.dumps(raw), encoding="utf-8")
    (made / "tokenizer_config.json").write_text(
        json.dumps({"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"})
    )
    word = raw["model"]["vocab"]["Ġthe"]
    (made / "generation_config.json").write_text(json.dumps({"eos_token_id": word}))
    return made


@pytest.fixture(
    scope="module",
    params=[built_in, by_torch, through_transformers],
    ids=["gpt2", "gpt2-torch", "auto"],
)
def engine(request: pytest.FixtureRequest, folder: Path) -> Engine:
    return request.param(folder)


@pytest.fixture(scope="module")
def model(folder: Path) -> GPT2LMHeadModel:
    return GPT2LMHeadModel.from_pretrained(folder).eval()


def one(engine: Engine, prompt: str = TEXT, **sampling: object):
    asked = Sampling(greedy=True, **{"max_new_tokens": 6, **sampling})
    (found,) = completions(engine, requests([prompt], asked))
    return found


def test_every_file_has_its_say(engine: Engine) -> None:
    (word,) = engine.tokenizer.encode(" the", bare=True)
    roles = engine.tokenizer.roles
    assert (roles.begin, roles.end, roles.ends, roles.words) == (BEGIN, END, (word, 0, END), {word})
    assert any("' the'" in notice for notice in engine.info.notices)


def test_an_empty_prompt_is_the_begin_token(engine: Engine, model: GPT2LMHeadModel) -> None:
    found = one(engine, "", min_new_tokens=6)
    with torch.inference_mode():
        ids = [BEGIN]
        for _ in range(6):
            logits = model(torch.tensor([ids])).logits[0, -1]
            logits[list(engine.tokenizer.roles.ends)] = -torch.inf
            ids.append(int(logits.argmax()))
    assert list(found.tokens) == ids[1:]
    assert found.usage.prompt_tokens == 1


def test_a_text_is_scored_and_inspected_after_the_begin_token(
    engine: Engine, model: GPT2LMHeadModel, folder: Path
) -> None:
    ids = AutoTokenizer.from_pretrained(folder)(TEXT)["input_ids"]
    assert ids[0] == BEGIN
    with torch.inference_mode():
        logprobs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    expected = [logprobs[at - 1, ids[at]].item() for at in range(1, len(ids))]
    (scored,) = score(engine, [TextToScore("0", TEXT)], Scoring(), "tokens")
    assert [token.logprob for token in scored.token_scores] == pytest.approx(expected, abs=1e-4)
    view = text_view(engine, TEXT)
    assert [token.logprob for token in view.tokens] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("id", [0, END])
def test_any_end_token_ends_the_text_and_leaves_none(engine: Engine, id: int) -> None:
    found = one(engine, logit_bias=((str(id), 100.0),))
    assert (found.text, found.finish_reason, found.tokens) == ("", "stop", (id,))


def test_a_word_that_ends_the_text_is_its_last(engine: Engine) -> None:
    found = one(engine, logit_bias=((" the", 100.0),))
    assert (found.text, found.finish_reason) == (" the", "stop")


def test_a_special_token_runs_on_unless_it_is_a_stop_string(engine: Engine) -> None:
    bias = (("<pad>", 100.0),)
    found = one(engine, logit_bias=bias)
    assert (found.text, found.finish_reason, len(found.tokens)) == ("", "length", 6)
    found = one(engine, logit_bias=bias, stop=("<pad>",))
    assert (found.text, found.finish_reason, found.tokens) == ("", "stop", (PAD,))
    found = one(engine, logit_bias=bias, stop=("<pad>",), min_new_tokens=3)
    assert found.tokens == (PAD,)  # as for any stop string


def test_bad_words_and_biases_are_encoded_bare(engine: Engine) -> None:
    (word,) = engine.tokenizer.encode(" time", bare=True)[:1]
    text = engine.tokenizer.token_text(word)
    bias = ((text, 100.0),)
    assert one(engine, logit_bias=bias).tokens == (word,) * 6
    banned = one(engine, logit_bias=bias, bad_words=(text,))
    assert word not in banned.tokens


def test_a_beam_search_stops_at_every_end(folder: Path) -> None:
    engine = through_transformers(folder)
    for id in (0, END):
        found = one(engine, num_beams=2, logit_bias=((str(id), 100.0),))
        assert (found.text, found.finish_reason) == ("", "stop")


def test_a_text_with_a_token_that_has_no_embedding_is_refused(engine: Engine) -> None:
    good, bad = completions(engine, requests([TEXT, f"{TEXT}<beyond>"], Sampling(max_new_tokens=2)))
    assert good.error is None
    assert isinstance(bad.error, BadInput)
    assert "<beyond>" in str(bad.error)


def test_a_vocabulary_without_a_begin_token_takes_no_empty_prompt(
    make_tiny, tmp_path: Path
) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder = tmp_path / "words"
    shutil.copytree(make_tiny(vocab_size=4, bos_token_id=None, eos_token_id=None), folder)
    words = {"e2e4": 0, "e7e5": 1, "g1f3": 2, "b8c6": 3}
    raw = Tokenizer(models.WordLevel(words))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    raw.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").unlink()
    engine = built_in(folder)
    found = one(engine, "e2e4 e7e5", max_new_tokens=3)
    assert f"e2e4 e7e5{found.text}" == engine.tokenizer.decode([0, 1, *found.tokens])
    assert found.text.startswith(" ")
    refused = one(engine, "")
    assert isinstance(refused.error, UsageError)
    assert "names no token that begins a text" in str(refused.error)
    unknown = one(engine, "Hello")
    assert isinstance(unknown.error, BadInput)


@ENGINES
def test_a_head_of_its_own_is_used_though_the_configuration_ties_it(
    make_tiny, tmp_path: Path, opened
) -> None:
    folder = tmp_path / "apart"
    shutil.copytree(make_tiny(tie_word_embeddings=False), folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))
    engine = opened(folder)
    model = GPT2LMHeadModel.from_pretrained(folder, tie_word_embeddings=False).eval()
    ids = torch.tensor([engine.tokenizer.encode(TEXT)])
    out = model.generate(ids, do_sample=False, max_new_tokens=6, pad_token_id=0)
    assert list(one(engine).tokens) == out[0, ids.shape[1] :].tolist()
    assert any("lm_head.weight differs" in notice for notice in engine.info.notices)


@ENGINES
def test_streamed_pieces_of_words_join_to_the_text(folder: Path, opened) -> None:
    engine = opened(folder)
    asked = GenerateRequest(id="0", prompt=TEXT, sampling=Sampling(greedy=True, max_new_tokens=8))
    events = list(engine.run([asked]))
    assert "".join(event.text for event in events[:-1]) == events[-1].text


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "module._orig_mod."])
@ENGINES
def test_the_names_that_wrappers_give_change_nothing(
    tiny: Path, tmp_path: Path, opened, prefix: str
) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "wrapped"
    shutil.copytree(tiny, folder)
    named = load_file(folder / "model.safetensors")
    save_file(
        {prefix + name: tensor for name, tensor in named.items()}, folder / "model.safetensors"
    )
    assert one(opened(folder)).tokens == one(opened(tiny)).tokens
