"""Inside a model: attention, states and gradients against transformers."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.fake_engine import FakeEngine
from transformers import GPT2LMHeadModel

from gptcli.engines import open_engine
from gptcli.engines.gpt2 import attribution, tracing
from gptcli.engines.gpt2.tracing import Tracer, tracer
from gptcli.errors import BadModel, UsageError
from gptcli.options import Filters, Load, Sampling
from gptcli.protocol import GenerateRequest

CLOSE = 1e-5
IDS = [17, 300, 5, 5, 411, 2, 99, 300, 8]


def traced(folder: Path, **settings: object) -> Tracer:
    return tracer(open_engine(Load(model=str(folder), **settings)))


def reference(folder: Path) -> GPT2LMHeadModel:
    """The model in transformers, with attention that gives its weights away."""
    model = GPT2LMHeadModel.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    )
    return model.eval()


def everything(tracer: Tracer) -> np.ndarray:
    return tracing.attention(tracer, IDS, range(tracer.layers), range(tracer.heads))


@pytest.fixture(scope="module")
def inside(tiny: Path) -> Tracer:
    return traced(tiny)


@pytest.fixture(scope="module")
def peer(tiny: Path) -> GPT2LMHeadModel:
    return reference(tiny)


@pytest.fixture(params=["tiny", "tales"])
def folder(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


# Attention and states


def test_attention_equals_that_of_transformers(folder: Path) -> None:
    with torch.no_grad():
        expected = reference(folder)(torch.tensor([IDS]), output_attentions=True).attentions
    assert np.abs(everything(traced(folder)) - torch.cat(expected).numpy()).max() < CLOSE


@pytest.mark.parametrize(
    "changes", [{"scale_attn_weights": False}, {"scale_attn_by_inverse_layer_idx": True}]
)
def test_attention_is_scaled_as_the_model_says(make_tiny, changes: dict[str, object]) -> None:
    folder = make_tiny(**changes)
    with torch.no_grad():
        expected = reference(folder)(torch.tensor([IDS]), output_attentions=True).attentions
    assert np.abs(everything(traced(folder)) - torch.cat(expected).numpy()).max() < CLOSE


def test_attention_of_some_heads_is_a_part_of_all(inside: Tracer) -> None:
    some = tracing.attention(inside, IDS, [1, 0], [3, 1])
    assert np.array_equal(some, everything(inside)[[1, 0]][:, [3, 1]])


def test_a_head_that_is_asked_for_twice_is_given_twice(inside: Tracer) -> None:
    some = tracing.attention(inside, IDS, [1, 1], [2, 0, 2])
    assert np.array_equal(some, everything(inside)[[1, 1]][:, [2, 0, 2]])


def test_no_token_looks_ahead_and_every_row_sums_to_one(inside: Tracer) -> None:
    weights = everything(inside)
    assert np.triu(weights, 1).max() == 0
    assert np.abs(weights.sum(-1) - 1).max() < CLOSE


def test_states_equal_those_of_transformers(folder: Path) -> None:
    with torch.no_grad():
        expected = reference(folder)(torch.tensor([IDS]), output_hidden_states=True).hidden_states
    states = tracing.lens(traced(folder), IDS, 1).states
    for ours, theirs in zip(states, torch.cat(expected).numpy(), strict=True):
        # States grow to 40 and more from layer to layer, and rounding with them.
        assert np.abs(ours - theirs).max() < CLOSE * max(np.abs(theirs).max(), 1)


# The lens


def test_each_layer_is_read_through_the_last_norm_and_the_head(
    inside: Tracer, peer: GPT2LMHeadModel
) -> None:
    found = tracing.lens(inside, IDS, 3)
    with torch.no_grad():
        output = peer(torch.tensor([IDS]), output_hidden_states=True)
        middle = peer.lm_head(peer.transformer.ln_f(output.hidden_states[1][0]))
    expected = middle.log_softmax(-1).topk(3)
    assert found.ids[1].tolist() == expected.indices.tolist()
    assert np.abs(found.logprobs[1] - expected.values.numpy()).max() < 1e-4
    final = output.logits[0].argmax(-1)
    ranks = (middle > middle.gather(1, final[:, None])).sum(-1) + 1
    assert found.ranks[1].tolist() == ranks.tolist()


def test_the_last_layer_reads_what_the_model_says(inside: Tracer, peer: GPT2LMHeadModel) -> None:
    found = tracing.lens(inside, IDS, 1)
    with torch.no_grad():
        logits = peer(torch.tensor([IDS])).logits[0]
    assert found.ids[-1][:, 0].tolist() == logits.argmax(-1).tolist()
    assert set(found.ranks[-1].tolist()) == {1}


def test_the_lens_reads_long_texts_in_parts(
    inside: Tracer, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tracing.lens(inside, IDS, 2)
    monkeypatch.setattr(tracing, "LOGIT_ROWS", 4)
    parts = tracing.lens(inside, IDS, 2)
    assert np.array_equal(parts.ids, whole.ids)
    assert np.array_equal(parts.ranks, whole.ranks)


def test_the_lens_orders_equals_by_their_ids() -> None:
    found = tracing._top(np.array([[1, 3, 2, 3, 3, 0]], np.float32), 4)
    assert found.tolist() == [[1, 3, 4, 2]]


def test_the_lens_shows_a_whole_vocabulary_at_most(inside: Tracer) -> None:
    found = tracing.lens(inside, IDS, 10**6)
    assert found.ids.shape == (3, len(IDS), 512)
    assert np.abs(np.exp(found.logprobs.astype(np.float64)).sum(-1) - 1).max() < CLOSE


# The next token


def test_the_distribution_is_the_models_own(inside: Tracer, peer: GPT2LMHeadModel) -> None:
    found = tracing.following(inside, IDS, Filters(), 4)
    with torch.no_grad():
        expected = peer(torch.tensor([IDS])).logits[0, -1].softmax(-1)
    values, ids = expected.topk(4)
    assert [row[0] for row in found.rows] == ids.tolist()
    assert [row[1] for row in found.rows] == pytest.approx(values.tolist(), abs=CLOSE)
    assert found.entropy == pytest.approx(-float((expected * expected.log()).sum()), abs=1e-4)


def test_filters_leave_what_sampling_would_draw_from(inside: Tracer) -> None:
    found = tracing.following(inside, IDS, Filters(temperature=0.5, top_k=3, top_p=1.0), 512)
    kept = [row for row in found.rows if row[2] > 0]
    assert [row[0] for row in kept] == [row[0] for row in found.rows[:3]]
    assert found.remaining == 3
    squares = [row[1] ** 2 for row in kept]  # temperature 1/2, and made to sum to 1
    shares = [one / sum(squares) for one in squares]
    assert [row[2] for row in kept] == pytest.approx(shares, abs=CLOSE)
    entropy = -sum(share * math.log(share) for share in shares)
    assert found.kept_entropy == pytest.approx(entropy, abs=1e-4)


def test_greedy_leaves_one_token(inside: Tracer) -> None:
    found = tracing.following(inside, IDS, Filters(greedy=True), 2)
    assert (found.remaining, found.kept_entropy) == (1, 0)
    assert [row[2] for row in found.rows] == [1, 0]


def test_the_outcome_is_the_likeliest_or_the_target(inside: Tracer) -> None:
    best, _, _ = tracing.following(inside, IDS, Filters(), 1).rows[0]
    assert tracing.outcome(inside, IDS, None)[0] == best
    assert tracing.outcome(inside, IDS, 7)[0] == 7
    assert tracing.outcome(inside, IDS, 7)[1] < tracing.outcome(inside, IDS, None)[1]


# Attribution


def log_odds(model: GPT2LMHeadModel, embeddings: torch.Tensor, target: int) -> torch.Tensor:
    probability = model(inputs_embeds=embeddings[None]).logits[0, -1].double().softmax(-1)[target]
    return torch.log(probability / (1 - probability))


def test_gradient_x_input_equals_that_through_transformers(folder: Path) -> None:
    model, target = reference(folder), 42
    tokens = model.transformer.wte(torch.tensor(IDS)).detach().requires_grad_()
    places = model.transformer.wpe.weight[: len(IDS)].detach()
    value = log_odds(model, tokens, target)
    (gradient,) = torch.autograd.grad(value, tokens)  # positions are added: the same by the sum
    expected = (gradient * (tokens + places)).sum(-1).tolist()
    found = attribution.gradient_x_input(traced(folder), IDS, target)
    assert found.scores == pytest.approx(expected, abs=1e-4)
    assert found.value == pytest.approx(value.item(), abs=1e-4)


def test_integrated_gradients_are_complete(tales: Path) -> None:
    found = attribution.integrated_gradients(traced(tales), IDS, 42, 200)
    assert found.baseline is not None
    assert sum(found.scores) == pytest.approx(found.value - found.baseline, abs=1e-2)


def test_integrated_gradients_of_one_point_are_the_gradient_half_way(inside: Tracer) -> None:
    found = attribution.integrated_gradients(inside, IDS, 42, 1)
    network = attribution.Gradients(inside)
    x, start = network.embedded(IDS), network.embedded([0] * len(IDS))
    _, (gradient,) = network.of_log_odds((x + start)[None] / 2, 42)
    assert found.scores == pytest.approx((gradient * (x - start)).sum(-1).tolist(), abs=1e-4)


def test_points_computed_together_do_not_mix(
    inside: Tracer, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = attribution.integrated_gradients(inside, IDS, 42, 5)
    monkeypatch.setattr(attribution, "GRADIENT_TOKENS", 1)
    alone = attribution.integrated_gradients(inside, IDS, 42, 5)
    assert alone.scores == pytest.approx(together.scores, abs=1e-4)


def test_the_baseline_itself_has_no_scores(inside: Tracer) -> None:
    found = attribution.integrated_gradients(inside, [inside.filler] * 4, 42, 3)
    assert found.scores == (0.0,) * 4
    assert found.value == pytest.approx(found.baseline)


# Which models


def test_a_model_in_fewer_bits_is_traced_in_float32(tiny: Path, inside: Tracer) -> None:
    reduced = tracer(open_engine(Load(model=str(tiny), dtype="bfloat16")))
    assert np.array_equal(everything(reduced), everything(inside))


def test_gradients_are_there_after_the_engine_has_packed_its_weights(
    tiny: Path, inside: Tracer
) -> None:
    engine = open_engine(Load(model=str(tiny)), batch_size=2)
    sampling = Sampling(max_new_tokens=40, num_return_sequences=2)
    assert list(engine.run([GenerateRequest(id="0", prompt="Once", sampling=sampling)]))
    expected = attribution.gradient_x_input(inside, IDS, 42)
    assert attribution.gradient_x_input(tracer(engine), IDS, 42) == expected


def test_a_gpt2_of_another_engine_is_read_from_its_checkpoint(tiny: Path, inside: Tracer) -> None:
    other = tracer(open_engine(Load(model=str(tiny)), beams=True))
    assert np.array_equal(everything(other), everything(inside))


def test_only_the_built_in_engine_can_be_looked_into() -> None:
    with pytest.raises(UsageError, match="only the inside of a GPT-2 that runs here"):
        tracer(FakeEngine())


def test_numbers_that_are_none_are_an_error(tiny: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny, tmp_path / "model"))
    tensors = load_file(folder / "model.safetensors")
    # Before the last attention, whose weights are a view, but not in it: some of torch's kernels
    # hide a query that is NaN.
    tensors["transformer.h.0.mlp.c_proj.bias"][0] = math.nan
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    broken = traced(folder)
    for view in (
        lambda: everything(broken),
        lambda: tracing.lens(broken, IDS, 1),
        lambda: tracing.following(broken, IDS, Filters(), 1),
        lambda: attribution.gradient_x_input(broken, IDS, 1),
    ):
        with pytest.raises(BadModel, match="not finite"):
            view()
