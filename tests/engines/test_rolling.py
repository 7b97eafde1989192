"""Requests with a window: each token measured, against transformers' own arithmetic."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.engines import built_in, by_torch, through_transformers
from torch import Tensor
from transformers import GPT2LMHeadModel

from gptcli.checkpoints.tokenization.loading import load_tokenizer
from gptcli.engines.decoding.loglikelihood_rolling import ranked_logprobs
from gptcli.engines.gpt2.engine import PREFILL_TOKENS
from gptcli.errors import BadInput, BadModel, Unavailable
from gptcli.options import Sampling
from gptcli.protocol import (
    Completion,
    Engine,
    Event,
    GenerateRequest,
    RollingRequest,
    Window,
    WindowLogprobs,
)

IDS = tuple(int(x) for x in torch.randint(512, (64,), generator=torch.Generator().manual_seed(1)))
CLOSE = 1e-4


@pytest.fixture(
    scope="module",
    params=[built_in, by_torch, through_transformers],
    ids=["gpt2", "gpt2-torch", "auto"],
)
def engine(request: pytest.FixtureRequest, tiny: Path) -> Engine:
    return request.param(tiny)


@pytest.fixture(scope="module")
def table(tiny: Path) -> Tensor:
    """transformers' log-probabilities, (64, 512), after each of IDS."""
    return expected(tiny, IDS)


def expected(folder: Path, ids: tuple[int, ...]) -> Tensor:
    model = GPT2LMHeadModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        return model(torch.tensor([ids])).logits[0].log_softmax(-1)


def ask(window: Window, id: str = "0") -> RollingRequest:
    return RollingRequest(id=id, window=window)


def measured(engine: Engine, asked: list[RollingRequest]) -> list[WindowLogprobs]:
    done = [event for event in engine.run(asked) if isinstance(event, WindowLogprobs)]
    assert not [event.error for event in done if event.error]
    return sorted(done, key=lambda event: int(event.id))


@pytest.mark.parametrize("first", [1, 2, 40, 63])
def test_logprobs_equal_those_of_transformers(engine: Engine, table: Tensor, first: int) -> None:
    [found] = measured(engine, [ask(Window(IDS, first))])
    assert [token.id for token in found.tokens] == list(IDS[first:])
    wanted = [table[place - 1, IDS[place]].item() for place in range(first, len(IDS))]
    assert [token.logprob for token in found.tokens] == pytest.approx(wanted, abs=CLOSE)


def test_details_are_left_out_unless_asked_for(engine: Engine) -> None:
    [found] = measured(engine, [ask(Window(IDS))])
    assert {(token.rank, token.entropy, token.top, token.among) for token in found.tokens} == {
        (None, None, (), ())
    }


def test_a_rank_is_one_and_how_many_tokens_are_likelier(engine: Engine, table: Tensor) -> None:
    [found] = measured(engine, [ask(Window(IDS, detailed=True))])
    for place, token in enumerate(found.tokens):
        order = table[place].argsort(descending=True).tolist()
        assert token.rank == order.index(token.id) + 1


def test_the_entropy_is_that_of_the_whole_distribution(engine: Engine, table: Tensor) -> None:
    [found] = measured(engine, [ask(Window(IDS, detailed=True))])
    wanted = torch.distributions.Categorical(logits=table[:-1]).entropy().tolist()
    assert [token.entropy for token in found.tokens] == pytest.approx(wanted, abs=CLOSE)


def test_the_likeliest_tokens_come_best_first(engine: Engine, table: Tensor, tiny: Path) -> None:
    [found] = measured(engine, [ask(Window(IDS[:9], 5, top=3))])
    text = load_tokenizer(tiny).token_text
    for place, token in enumerate(found.tokens, 4):
        values, ids = table[place].topk(3)
        assert [(one.id, one.token) for one in token.top] == [(id, text(id)) for id in ids.tolist()]
        assert [one.logprob for one in token.top] == pytest.approx(values.tolist(), abs=CLOSE)


def test_among_is_the_probability_of_any_of_some_ids(engine: Engine, table: Tensor) -> None:
    everything = tuple(range(512))
    [found] = measured(engine, [ask(Window(IDS, 1, among=((3, 5, 511), everything)))])
    wanted = table[:-1, [3, 5, 511]].logsumexp(-1).tolist()
    assert [token.among[0] for token in found.tokens] == pytest.approx(wanted, abs=CLOSE)
    assert [token.among[1] for token in found.tokens] == pytest.approx([0] * 63, abs=CLOSE)


def test_many_rows_are_scored_each_on_its_own(tiny: Path) -> None:
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(131, 512, generator=generator)
    targets = list(range(len(logits)))
    window = Window((0, *targets), detailed=True)
    found = ranked_logprobs(logits.numpy(), targets, window, load_tokenizer(tiny))
    wanted = logits.log_softmax(-1)[targets, targets].tolist()
    assert [token.logprob for token in found] == pytest.approx(wanted, abs=1e-5)


def test_a_window_may_predict_one_token_behind_the_context(tiny: Path, table: Tensor) -> None:
    [found] = measured(built_in(tiny), [ask(Window((*IDS, 7), 64))])
    assert found.tokens[0].logprob == pytest.approx(table[63, 7].item(), abs=CLOSE)


@pytest.mark.parametrize("slots", [1, 3, 16])
def test_windows_do_not_depend_on_their_neighbours(tiny: Path, slots: int) -> None:
    windows = [Window(IDS[n : n + 2 + 5 * n], 1 + n % 2) for n in range(9)] * 2
    asked = [ask(window, str(n)) for n, window in enumerate(windows)]
    for one, window in zip(measured(built_in(tiny, slots), asked), windows, strict=True):
        table = expected(tiny, window.ids)
        places = range(window.first, len(window.ids))
        wanted = [table[place - 1, window.ids[place]].item() for place in places]
        assert [token.logprob for token in one.tokens] == pytest.approx(wanted, abs=CLOSE)


def test_a_prefix_that_is_cached_skips_no_token_that_is_measured(tiny: Path, table: Tensor) -> None:
    asked = [ask(Window(IDS, first), str(n)) for n, first in enumerate((1, 1, 40, 40, 20))]
    found = measured(built_in(tiny, 2), asked)
    for one, request in zip(found, asked, strict=True):
        places = range(request.window.first, len(IDS))
        wanted = [table[place - 1, IDS[place]].item() for place in places]
        assert [token.logprob for token in one.tokens] == pytest.approx(wanted, abs=CLOSE)
    assert [one.usage.cached_tokens for one in found[:2]] == [0, 0]
    assert found[3].usage.cached_tokens == 39


def test_a_long_window_is_run_in_parts(make_tiny) -> None:
    folder = make_tiny(n_positions=3 * PREFILL_TOKENS)
    ids = IDS * (3 * PREFILL_TOKENS // len(IDS))
    asked = [ask(Window(ids), "0"), ask(Window(ids, PREFILL_TOKENS + 9), "1")]
    table = expected(folder, ids)
    found = measured(built_in(folder, 2), asked)
    for one, first in zip(found, (1, PREFILL_TOKENS + 9), strict=True):
        wanted = [table[place - 1, ids[place]].item() for place in range(first, len(ids))]
        assert [token.logprob for token in one.tokens] == pytest.approx(wanted, abs=CLOSE)


def test_measured_and_written_requests_mix(tiny: Path, table: Tensor) -> None:
    writing = GenerateRequest(
        id="a", prompt="Once upon", sampling=Sampling(greedy=True, max_new_tokens=20)
    )
    [alone] = [e for e in built_in(tiny).run([writing]) if isinstance(e, Completion)]
    events = list(built_in(tiny, 3).run([ask(Window(IDS)), writing, ask(Window(IDS, 9), "1")]))
    assert [e.text for e in events if isinstance(e, Completion)] == [alone.text]
    found = sorted((e for e in events if isinstance(e, WindowLogprobs)), key=lambda e: e.id)
    assert [len(one.tokens) for one in found] == [63, 55]
    wanted = [table[place - 1, IDS[place]].item() for place in range(9, 64)]
    for one in found:
        assert [t.logprob for t in one.tokens[-55:]] == pytest.approx(wanted, abs=CLOSE)


@pytest.mark.parametrize(
    "window",
    [
        Window(()),
        Window((1,)),
        Window((1, 2), 0),
        Window((1, 2), 2),
        Window((1, 512)),
        Window((1, -1)),
        Window((1, 2), among=((512,),)),
        Window((*IDS, 1, 1)),
    ],
    ids=["none", "one", "first 0", "behind", "unknown", "negative", "unknown set", "too long"],
)
def test_a_bad_window_is_an_error_of_its_own(engine: Engine, window: Window) -> None:
    events = list(engine.run([ask(window, "bad"), ask(Window(IDS), "good")]))
    found = {event.id: event for event in events if isinstance(event, WindowLogprobs)}
    assert isinstance(found["bad"].error, BadInput)
    assert found["bad"].tokens == ()
    assert found["good"].error is None


def test_scores_that_are_no_numbers_are_an_error_of_that_window_only(make_tiny) -> None:
    from safetensors.torch import load_file, save_file

    folder = make_tiny(seed=5)
    tensors = load_file(folder / "model.safetensors")
    tensors["transformer.wpe.weight"][40] = torch.nan
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    asked = [ask(Window(IDS[:30]), "0"), ask(Window(IDS[:50]), "1"), ask(Window(IDS[:30], 9), "2")]
    for engine in (built_in(folder, 3), built_in(folder, 1), through_transformers(folder)):
        events = {
            event.id: event for event in engine.run(asked) if isinstance(event, WindowLogprobs)
        }
        assert isinstance(events["1"].error, BadModel)
        assert events["1"].tokens == ()
        assert [len(events[id].tokens) for id in "02"] == [29, 21]


def test_a_window_can_be_cancelled(tiny: Path) -> None:
    engine = built_in(tiny, 1)
    events: list[Event] = []
    for event in engine.run([ask(Window(IDS), str(n)) for n in range(3)]):
        engine.cancel("2")
        events.append(event)
    found = {event.id: event for event in events if isinstance(event, WindowLogprobs)}
    assert found["2"].notices == ("cancelled",)
    assert found["2"].tokens == ()
    assert len(found["1"].tokens) == 63


def test_places_cover_the_text_and_share_a_split_character(tiny: Path) -> None:
    text = "Once  upon \N{ROCKET}\n\ne\N{COMBINING ACUTE ACCENT}"
    tokenizer = load_tokenizer(tiny)
    ids, places = tokenizer.encode_places(text)
    assert ids == tokenizer.encode(text)
    at = text.index("\N{ROCKET}")
    assert places.count((at, at + 1)) == len("\N{ROCKET}".encode())
    covered = {character for start, end in places for character in range(start, end)}
    assert covered == set(range(len(text)))
    assert all(start < end for start, end in places)


def test_places_cover_the_text_where_the_tokenizer_trims_them(tiny: Path) -> None:
    from tokenizers import processors

    tokenizer = load_tokenizer(tiny)
    plain = tokenizer.encode_places("Once  upon a time\n\n x")
    tokenizer.raw.post_processor = processors.ByteLevel(trim_offsets=True)
    assert tokenizer.encode_places("Once  upon a time\n\n x") == plain


def test_a_server_measures_no_windows() -> None:
    from support.fake_engine import INFO

    from gptcli.engines.remote.client import endpoint
    from gptcli.engines.remote.engine import RemoteEngine

    engine = RemoteEngine(endpoint("http://127.0.0.1:9/v1"), INFO)
    [found] = engine.run([ask(Window(IDS))])
    assert isinstance(found, WindowLogprobs)
    assert isinstance(found.error, Unavailable)
    with pytest.raises(Unavailable, match="--server"):
        _ = engine.tokenizer
