"""What every engine promises: the built-in one, and transformers behind the same protocol."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
import torch
from support.engines import built_in, by_torch, completions, requests, through_transformers
from transformers import GPT2LMHeadModel

from gptcli.engines import open_engine
from gptcli.engines.gpt2.engine import GPT2Engine
from gptcli.engines.hf import HFEngine
from gptcli.errors import BadInput, BadModel, Unavailable, UsageError
from gptcli.options import Load, Sampling
from gptcli.protocol import Chunk, Completion, Engine, GenerateRequest, Request

PROMPTS = ["Once upon a time", "The", "a b c d e f g h", "Data: corpus and books, of tales", "x"]
GREEDY = Sampling(greedy=True, max_new_tokens=12)


@pytest.fixture(
    scope="module",
    params=[built_in, by_torch, through_transformers],
    ids=["gpt2", "gpt2-torch", "auto"],
)
def engine(request: pytest.FixtureRequest, tiny: Path) -> Engine:
    return request.param(tiny)


def one(engine: Engine, prompt: str, sampling: Sampling, on_overflow="error") -> Completion:
    request = GenerateRequest(id="0", prompt=prompt, sampling=sampling, on_overflow=on_overflow)
    return completions(engine, [request])[0]


def test_the_right_engine_is_opened(tiny: Path) -> None:
    assert isinstance(built_in(tiny), GPT2Engine)
    assert isinstance(through_transformers(tiny), HFEngine)


def test_greedy_tokens_equal_those_of_transformers(engine: Engine, tiny: Path) -> None:
    model = GPT2LMHeadModel.from_pretrained(tiny).eval()
    for completion in completions(engine, requests(PROMPTS, GREEDY)):
        ids = torch.tensor([engine.tokenizer.encode(completion.prompt)])
        out = model.generate(ids, do_sample=False, max_new_tokens=12, pad_token_id=0)
        assert list(completion.tokens) == out[0, ids.shape[1] :].tolist()


def test_greedy_tokens_of_the_bundled_model_equal_those_of_transformers(tales: Path) -> None:
    engine = built_in(tales, 2)
    model = GPT2LMHeadModel.from_pretrained(tales, dtype=torch.float32).eval()
    sampling = Sampling(greedy=True, max_new_tokens=60)
    for completion in completions(engine, requests(["Once upon a time", "The king"], sampling)):
        ids = torch.tensor([engine.tokenizer.encode(completion.prompt)])
        out = model.generate(ids, do_sample=False, max_new_tokens=60, pad_token_id=0)
        assert list(completion.tokens) == out[0, ids.shape[1] :].tolist()


@pytest.mark.parametrize("batch_size", [1, 2, 3, 8])
def test_text_does_not_depend_on_batch_size_or_neighbours(tiny: Path, batch_size: int) -> None:
    sampling = Sampling(seed=5, temperature=1.2, max_new_tokens=20)
    alone = [one(built_in(tiny, 1), prompt, sampling).text for prompt in PROMPTS]
    together = completions(built_in(tiny, batch_size), requests(PROMPTS, sampling))
    assert [completion.text for completion in together] == alone


def test_both_engines_write_the_same_text_for_a_seed(tiny: Path) -> None:
    sampling = Sampling(
        seed=3, num_return_sequences=3, max_new_tokens=15, repetition_penalty=1.3, min_p=0.01
    )
    ours = completions(built_in(tiny), requests(PROMPTS, sampling))
    theirs = completions(through_transformers(tiny), requests(PROMPTS, sampling))
    assert [c.text for c in ours] == [c.text for c in theirs]
    assert [c.finish_reason for c in ours] == [c.finish_reason for c in theirs]


def test_sequences_of_a_prompt_differ_and_each_equals_itself_alone(engine: Engine) -> None:
    sampling = Sampling(seed=1, num_return_sequences=7, max_new_tokens=10)
    first = completions(engine, requests(["Once"], sampling))
    again = completions(engine, requests(["Once"], sampling))
    assert [c.index for c in first] == list(range(7))
    assert len({c.text for c in first}) > 1
    assert [c.text for c in first] == [c.text for c in again]


def test_the_number_of_slots_does_not_change_the_sequences_of_a_prompt(tiny: Path) -> None:
    sampling = Sampling(seed=1, num_return_sequences=9, max_new_tokens=6)
    few_slots, many_slots = (
        completions(built_in(tiny, slots), requests(["Once upon", "The"], sampling))
        for slots in (2, 16)
    )
    assert [c.text for c in few_slots] == [c.text for c in many_slots]


def test_a_drawn_seed_is_reported_and_repeats_the_text(engine: Engine) -> None:
    first = one(engine, "Once", Sampling(max_new_tokens=10))
    second = one(engine, "Once", Sampling(max_new_tokens=10, seed=first.seed))
    assert first.text == second.text
    assert one(engine, "Once", Sampling(max_new_tokens=10)).seed != first.seed


def test_chunks_join_to_the_text_and_come_before_the_completion(engine: Engine) -> None:
    events = list(engine.run(requests(["Once"], Sampling(seed=2, max_new_tokens=15))))
    *chunks, last = events
    assert isinstance(last, Completion)
    assert all(isinstance(chunk, Chunk) for chunk in chunks)
    assert "".join(chunk.text for chunk in chunks) == last.text
    assert tuple(t for chunk in chunks for t in chunk.tokens) == last.tokens


def test_text_is_the_decoded_tokens(engine: Engine) -> None:
    done = one(engine, "Once", Sampling(seed=9, temperature=3, top_k=0, top_p=1, max_new_tokens=40))
    assert done.text == engine.tokenizer.decode(list(done.tokens))


def test_requests_are_pulled_only_when_a_slot_is_free(engine: Engine) -> None:
    pulled: list[str] = []

    def endless() -> Iterator[Request]:
        number = 0
        while True:
            pulled.append(str(number))
            yield GenerateRequest(id=str(number), prompt="Once", sampling=GREEDY)
            number += 1

    finished = (event for event in engine.run(endless()) if isinstance(event, Completion))
    assert len(list(islice(finished, 6))) == 6
    assert len(pulled) <= 6 + 4


def test_none_means_no_request_right_now(engine: Engine) -> None:
    asked = requests(["Once", "The"], GREEDY)
    assert len(completions(engine, [None, asked[0], None, None, asked[1], None])) == 2


def test_a_second_run_while_one_is_open_does_not_disturb_it(engine: Engine) -> None:
    sampling = Sampling(seed=4, max_new_tokens=10)
    expected = one(engine, "Once", sampling).text
    open_run = engine.run(requests(["Once"], sampling))
    text = next(open_run).text
    one(engine, "The", sampling)
    text += "".join(event.text for event in open_run if isinstance(event, Chunk))
    assert text == expected


def test_a_cancelled_request_ends_and_the_others_go_on(engine: Engine) -> None:
    long = Sampling(greedy=True, max_new_tokens=40, min_new_tokens=40)
    run = engine.run(requests(["Once", "The"], long))
    next(run)
    engine.cancel("0")
    first, second = (event for event in run if isinstance(event, Completion))
    assert (first.id, first.finish_reason, first.error) == ("0", "cancelled", None)
    assert len(first.tokens) < 40
    assert (second.id, len(second.tokens)) == ("1", 40)


def test_a_request_can_be_cancelled_before_it_is_pulled(tiny: Path) -> None:
    engine = built_in(tiny, 1)
    run = engine.run(requests(["Once", "The", "x"], GREEDY))
    next(run)
    engine.cancel("2")
    done = {event.id: event for event in run if isinstance(event, Completion)}
    assert [done[id].finish_reason == "cancelled" for id in ("0", "1", "2")] == [False, False, True]


def test_a_run_can_be_cancelled_after_another_has_ended(engine: Engine) -> None:
    long = Sampling(greedy=True, max_new_tokens=40, min_new_tokens=40)
    first, second = (engine.run(requests(["Once"], long)) for _ in range(2))
    next(first)
    next(second)
    second.close()
    engine.cancel("0")
    *_, last = first
    assert isinstance(last, Completion)
    assert last.finish_reason == "cancelled"


def test_a_cancelled_text_keeps_what_was_held_back(engine: Engine) -> None:
    sampling = Sampling(seed=6, max_new_tokens=30, min_new_tokens=30)
    whole = one(engine, "Once", sampling).text
    held = Sampling(seed=6, max_new_tokens=30, min_new_tokens=30, stop=(whole[:20] + "never",))
    run = engine.run(requests(["Once"], held))
    first = next(run)
    engine.cancel("0")
    *chunks, last = run
    assert isinstance(last, Completion)
    assert last.text
    assert "".join(chunk.text for chunk in [first, *chunks]) == last.text


def test_reading_may_stop_at_an_error_without_harm(make_tiny) -> None:
    from safetensors.torch import load_file, save_file

    folder = make_tiny(tie_word_embeddings=False)
    tensors = load_file(folder / "model.safetensors")
    tensors["transformer.wte.weight"][engine_token(folder, "!")] = float("nan")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    engine = built_in(folder, 2)
    stopped = engine.run(requests(["a b c d e f g h!"], GREEDY))
    next(stopped)
    stopped.close()
    sampling = Sampling(seed=2, max_new_tokens=9, bad_words=("!",))
    done = completions(engine, requests(["x", "a b c d e f g h i j k"], sampling))
    assert [c.error for c in done] == [None, None]


def test_a_cancelled_id_can_be_used_again(engine: Engine) -> None:
    engine.cancel("0")
    assert one(engine, "Once", GREEDY).finish_reason != "cancelled"


def test_abandoning_a_run_frees_its_slots(engine: Engine) -> None:
    for _ in range(6):
        run = engine.run(requests(PROMPTS, GREEDY))
        next(run)
        run.close()
    assert len(completions(engine, requests(PROMPTS, GREEDY))) == len(PROMPTS)


def test_a_stop_string_ends_the_text_before_it(engine: Engine) -> None:
    whole = one(engine, "Once", Sampling(seed=6, max_new_tokens=30, min_new_tokens=30)).text
    stop = whole[8:11]
    done = one(engine, "Once", Sampling(seed=6, max_new_tokens=30, min_new_tokens=30, stop=(stop,)))
    assert done.finish_reason == "stop"
    assert done.text == whole[: whole.index(stop)]


def test_the_end_of_text_token_ends_it(engine: Engine) -> None:
    done = one(engine, "Once", Sampling(greedy=True, logit_bias=(("0", 100.0),)))
    assert (done.text, done.finish_reason, done.tokens) == ("", "stop", (0,))


def test_min_new_tokens_delays_the_end(engine: Engine) -> None:
    sampling = Sampling(greedy=True, logit_bias=(("0", 100.0),), min_new_tokens=5)
    done = one(engine, "Once", sampling)
    assert (len(done.tokens), done.tokens[-1]) == (6, 0)


def test_a_loop_ends_the_text_where_asked(engine: Engine) -> None:
    bias = (("40", 100.0),)
    sampling = Sampling(greedy=True, logit_bias=bias, stop_on_loop=True)
    done = one(engine, "Once", sampling)
    assert done.finish_reason == "loop"
    assert len(done.tokens) < 60


@pytest.mark.parametrize(
    ("sampling", "new"),
    [
        (Sampling(greedy=True, max_new_tokens=3), 3),
        (Sampling(greedy=True, max_length=8), 8),
        (Sampling(greedy=True, max_length=8, max_new_tokens=2), 2),
        (Sampling(greedy=True, max_length=60, max_new_tokens=2), 2),
    ],
)
def test_the_smaller_limit_ends_the_text(engine: Engine, sampling: Sampling, new: int) -> None:
    done = one(engine, "x", Sampling(**{**vars(sampling), "logit_bias": (("0", -100.0),)}))
    prompt = done.usage.prompt_tokens
    assert done.finish_reason == "length"
    assert len(done.tokens) == new - (prompt if sampling.max_new_tokens is None else 0)
    assert done.notices == ()


def prompt_of(engine: Engine, tokens: int) -> str:
    prompt = "x" * tokens
    while len(engine.tokenizer.encode(prompt)) > tokens:
        prompt = prompt[:-1]
    assert len(engine.tokenizer.encode(prompt)) == tokens
    return prompt


@pytest.mark.parametrize("room", [1, 2, 10])
def test_new_tokens_are_cut_at_the_context(engine: Engine, room: int) -> None:
    sampling = Sampling(greedy=True, max_new_tokens=20, logit_bias=(("0", -100.0),))
    done = one(engine, prompt_of(engine, 64 - room), sampling)
    assert (len(done.tokens), done.finish_reason) == (room, "length")
    assert "64" in done.notices[0]


@pytest.mark.parametrize("length", [64, 65, 128, 1000])
def test_a_prompt_beyond_the_context_is_refused_with_both_counts(
    engine: Engine, length: int
) -> None:
    done = one(engine, prompt_of(engine, length), GREEDY)
    assert isinstance(done.error, BadInput)
    assert str(length) in str(done.error)
    assert "64" in str(done.error)


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_prompt_beyond_the_context_is_cut_where_asked(engine: Engine, side: str) -> None:
    prompt = " ".join(f"{n}" for n in range(80))
    done = one(engine, prompt, GREEDY, f"truncate-{side}")
    whole = engine.tokenizer.encode(prompt)
    kept = whole[-52:] if side == "left" else whole[:52]
    same = one(engine, engine.tokenizer.decode(kept), GREEDY)
    assert done.truncated == len(whole) - 52
    assert done.tokens == same.tokens
    assert str(len(whole)) in done.notices[0]


def test_a_prompt_that_fills_max_length_is_refused(engine: Engine) -> None:
    done = one(engine, "a b c d e f", Sampling(max_length=2))
    assert isinstance(done.error, BadInput)
    assert "--max-length" in str(done.error)


def test_a_prompt_is_cut_to_max_length_where_asked(engine: Engine) -> None:
    done = one(engine, "a b c d e f g h", Sampling(max_length=4, greedy=True), "truncate-left")
    assert (done.usage.prompt_tokens, done.error) == (2, None)
    assert "--max-length" in done.notices[0]


def test_megabytes_are_refused_without_tokenising_them(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(engine.tokenizer), "encode", lambda *_: pytest.fail("tokenised"))
    done = one(engine, "word " * 500_000, GREEDY)
    assert isinstance(done.error, BadInput)


def test_a_refused_request_does_not_stop_the_others(engine: Engine) -> None:
    done = completions(engine, requests(["Once", "x " * 200, "The"], GREEDY))
    assert [c.finish_reason == "error" for c in done] == [False, True, False]


def test_an_empty_prompt_starts_a_document(engine: Engine) -> None:
    done = one(engine, "", GREEDY)
    assert done.usage.prompt_tokens == 1
    assert done.tokens == one(engine, "<|endoftext|>", GREEDY).tokens


def test_logprobs_are_those_of_the_model(engine: Engine, tiny: Path) -> None:
    done = one(engine, "Once", Sampling(seed=1, temperature=2, logprobs=3, max_new_tokens=4))
    ids = engine.tokenizer.encode("Once") + list(done.tokens)
    with torch.no_grad():
        logits = GPT2LMHeadModel.from_pretrained(tiny).eval()(torch.tensor([ids])).logits[0]
    want = logits.log_softmax(-1)[-5:-1]
    assert done.logprobs is not None
    for item, row, token in zip(done.logprobs, want, done.tokens, strict=True):
        assert item.id == token
        assert item.logprob == pytest.approx(float(row[token]), abs=1e-4)
        assert [other.id for other in item.top] == row.topk(3).indices.tolist()


def test_a_bias_on_what_is_no_token_is_refused(engine: Engine) -> None:
    done = one(engine, "Once", Sampling(logit_bias=(("two words", 1.0),)))
    assert isinstance(done.error, UsageError)


def test_non_finite_scores_end_a_beam_search(make_tiny) -> None:
    from safetensors.torch import load_file, save_file

    folder = make_tiny()
    tensors = load_file(folder / "model.safetensors")
    tensors["transformer.ln_f.weight"][:] = float("nan")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    done = one(through_transformers(folder), "Once", Sampling(num_beams=2))
    assert isinstance(done.error, BadModel)


def test_beams_are_refused_where_there_are_none(tiny: Path) -> None:
    assert isinstance(one(built_in(tiny), "Once", Sampling(num_beams=2)).error, UsageError)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 1e38])
@pytest.mark.parametrize("name", ["ln_f.weight", "wte.weight", "h.1.mlp.c_fc.bias"])
def test_non_finite_scores_end_with_an_error(make_tiny, name: str, value: float) -> None:
    from safetensors.torch import load_file, save_file

    folder = make_tiny()
    tensors = load_file(folder / "model.safetensors")
    tensors[f"transformer.{name}"].flatten()[:] = value
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    done = one(built_in(folder), "Once", GREEDY)
    assert isinstance(done.error, BadModel)
    assert "non-finite" in str(done.error)


def test_a_row_that_failed_does_not_poison_its_slot(make_tiny) -> None:
    from safetensors.torch import load_file, save_file

    folder = make_tiny(tie_word_embeddings=False)
    tensors = load_file(folder / "model.safetensors")
    tensors["transformer.wte.weight"][engine_token(folder, "!")] = float("nan")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    no_bad_token = Sampling(seed=2, max_new_tokens=9, bad_words=("!",))
    asked = requests(["a b c d e f g h i j!", "x y", "a b c d e f g h", "z"], no_bad_token)
    done = completions(built_in(folder, 2), asked)
    assert [c.finish_reason == "error" for c in done] == [True, False, False, False]
    for completion, request in zip(done[1:], asked[1:], strict=True):
        assert completion.text == one(built_in(folder, 1), request.prompt, no_bad_token).text


def engine_token(folder: Path, text: str) -> int:
    (token,) = built_in(folder).tokenizer.encode(text)
    return token


def test_beams_find_what_transformers_finds(tiny: Path) -> None:
    engine = through_transformers(tiny)
    done = completions(
        engine,
        requests(["Once"], Sampling(num_beams=4, num_return_sequences=2, max_new_tokens=8)),
    )
    ids = torch.tensor([engine.tokenizer.encode("Once")])
    model = GPT2LMHeadModel.from_pretrained(tiny).eval()
    want = model.generate(
        ids, num_beams=4, num_return_sequences=2, max_new_tokens=8, do_sample=False, pad_token_id=0
    )
    assert [list(c.tokens) for c in done] == [
        row[: row.index(0) + 1] if 0 in row else row for row in want[:, ids.shape[1] :].tolist()
    ]


def test_a_device_that_is_not_there_is_said(tiny: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(Unavailable, match="cuda"):
        open_engine(Load(model=str(tiny), device="cuda"))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_every_dtype_runs_and_is_reported(tiny: Path, dtype) -> None:
    engine = open_engine(Load(model=str(tiny), dtype=dtype))
    assert engine.info.dtype == dtype
    assert len(one(engine, "Once", GREEDY).tokens) > 0
