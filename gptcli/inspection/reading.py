"""From a text to its views: one function a view.

`text_view` asks any engine, and reads a text beyond the context in windows. The other views need
the `Tracer` of a built-in GPT-2, which `inside` gives, and a text that fits the context. Not here:
how views are shown is in `gptcli.cli.output`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from gptcli.checkpoints.tokenization.tokenizer import Tokenizer
from gptcli.errors import BadInput, UsageError
from gptcli.inspection.tokens import begin_id, naming, placed, text_after, tokenized, unfinished
from gptcli.inspection.views import (
    AttentionView,
    AttributionView,
    Candidate,
    LensView,
    NextView,
    TemperaturePoint,
    TextView,
    TokenView,
)
from gptcli.options import Filters, Overflow
from gptcli.protocol import (
    Alternative,
    Engine,
    RankedLogprob,
    RollingRequest,
    Window,
    WindowLogprobs,
)
from gptcli.scoring.scores import BITS_PER_NAT
from gptcli.scoring.windows import checked_stride, stretches

if TYPE_CHECKING:
    from gptcli.engines.gpt2.tracing import Tracer

Method = Literal["gradient-x-input", "integrated-gradients"]
MAX_WEIGHTS = 2**28  # attention weights of a view: 1 GiB
STEPS = 32  # points of the integral
TEMPERATURES = tuple(step / 10 for step in range(1, 21))  # that a page can show


def inside(engine: Engine) -> Tracer:
    """The inside of an opened model, in float32, read from its checkpoint.

    Raises UsageError for any but a GPT-2 here; MissingInput and BadModel if the checkpoint is no
    longer what the engine opened.
    """
    from gptcli.engines.gpt2.tracing import tracer

    return tracer(engine)


def tokens_view(tokenizer: Tokenizer, text: str, model: str, revision: str | None) -> TextView:
    """How a text is tokenised; nothing is measured."""
    return TextView(model, revision, text, tokenized(tokenizer, text))


def text_view(
    engine: Engine, text: str, top: int = 5, bos: bool = True, stride: int | None = None
) -> TextView:
    """Each token's log-probability, rank and entropy, with the `top` likeliest in its place.

    With `bos` the text is read after the begin token, so that its first token is measured, too;
    without it, or where the tokenizer names no begin token, the first token has nothing before it.
    A text beyond the context is measured in windows, as `gptcli.scoring.windows` has it. Raises
    UsageError for a bad stride, and what the engine does: BadInput, BadModel, Unavailable.
    """
    info = engine.info
    tokens = tokenized(engine.tokenizer, text)
    begin = begin_id(engine.tokenizer) if bos and tokens else None
    ids = (*(() if begin is None else (begin,)), *(token.id for token in tokens))
    places = stretches(len(ids), 1, info.context, checked_stride(stride, info.context))
    windows = [
        Window(ids[at.begin : at.end], at.first - at.begin, detailed=True, top=top) for at in places
    ]
    logprobs = _ranked(engine, windows)
    unseen = len(tokens) - len(logprobs)  # the first token, where nothing is before it
    before = [b"", *unfinished(token.raw for token in tokens)]
    seen = (
        _with_logprob(engine.tokenizer, *found)
        for found in zip(tokens[unseen:], logprobs, before[unseen:], strict=False)
    )
    name = None if begin is None else engine.tokenizer.token_text(begin)
    return TextView(info.name, info.revision, text, (*tokens[:unseen], *seen), name)


def next_view(
    tracer: Tracer,
    text: str,
    filters: Filters,
    count: int = 20,
    on_overflow: Overflow = "error",
    bos: bool = True,
) -> NextView:
    """The `count` likeliest next tokens, and what temperature and filters leave of each.

    The text is read after the begin token, unless `bos` is False or the tokenizer names none; this
    holds for all views. Raises BadInput for a text beyond the context, unless `on_overflow` says to
    cut it: the begin token stays.
    """
    from gptcli.engines.gpt2 import tracing

    text, tokens, begin = placed(tracer, text, on_overflow, bos)
    ids = [token.id for token in tokens]
    found = tracing.following(tracer, ids, filters, count, TEMPERATURES)
    names = naming(tracer.tokenizer, tokens)[-1]
    return NextView(
        tracer.info.name,
        tracer.info.revision,
        text,
        settings=_in_force(filters),
        candidates=tuple(Candidate(id, names(id), *shares) for id, *shares in found.rows),
        remaining=found.remaining,
        entropy_bits=found.entropy * BITS_PER_NAT,
        kept_entropy_bits=found.kept_entropy * BITS_PER_NAT,
        temperatures=tuple(
            TemperaturePoint(temperature, log_partition, entropy * BITS_PER_NAT)
            for temperature, log_partition, entropy in found.temperatures
        ),
        bos=begin,
    )


def attention_view(
    tracer: Tracer,
    text: str,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    on_overflow: Overflow = "error",
    bos: bool = True,
) -> AttentionView:
    """The attention of some layers and heads, counted from 0; of all without a choice.

    Raises UsageError for a layer or head that there is not, BadInput for a text beyond the context
    or for more than 1 GiB of weights.
    """
    from gptcli.engines.gpt2 import tracing

    chosen_layers = _chosen("--layer", layers, tracer.layers, tracer.info.name)
    chosen_heads = _chosen("--head", heads, tracer.heads, tracer.info.name)
    text, tokens, begin = placed(tracer, text, on_overflow, bos)
    size = len(chosen_layers) * len(chosen_heads) * len(tokens) ** 2
    if size > MAX_WEIGHTS:
        why = f"{len(tokens)} tokens in {len(chosen_layers)} layers have {size:,} weights"
        raise BadInput("attention", why, "Choose one with --layer and --head, or shorten the text")
    ids = [token.id for token in tokens]
    return AttentionView(
        tracer.info.name,
        tracer.info.revision,
        text,
        tokens,
        tracing.attention(tracer, ids, chosen_layers, chosen_heads),
        layers=chosen_layers,
        heads=chosen_heads,
        bos=begin,
    )


def lens_view(
    tracer: Tracer,
    text: str,
    top: int = 5,
    on_overflow: Overflow = "error",
    bos: bool = True,
) -> LensView:
    """What each layer would say next after each token. Raises BadInput as `next_view`."""
    from gptcli.engines.gpt2 import tracing

    text, tokens, begin = placed(tracer, text, on_overflow, bos)
    found = tracing.lens(tracer, [token.id for token in tokens], top)
    names = naming(tracer.tokenizer, tokens)
    layers = tuple(
        tuple(
            tuple(Alternative(id, name(id), value) for id, value in zip(ids, values, strict=True))
            for name, ids, values in zip(names, *layer, strict=True)
        )
        for layer in zip(found.ids.tolist(), found.logprobs.tolist(), strict=True)
    )
    return LensView(
        tracer.info.name,
        tracer.info.revision,
        text,
        tokens,
        layers,
        found.ranks,
        found.states,
        bos=begin,
    )


def attribution_view(
    tracer: Tracer,
    text: str,
    target: str | None = None,
    method: Method = "gradient-x-input",
    steps: int = STEPS,
    on_overflow: Overflow = "error",
    bos: bool = True,
) -> AttributionView:
    """How much each token speaks for the next one being `target`: the likeliest by default.

    `target` is a token's id, in digits, or its text. What is explained are the target's log-odds;
    the methods are those of `gptcli.engines.gpt2.attribution`. Raises UsageError for a target that
    is no single token, BadInput as `next_view`.
    """
    from gptcli.engines.gpt2 import attribution, tracing

    text, tokens, begin = placed(tracer, text, on_overflow, bos)
    ids = [token.id for token in tokens]
    wanted = None if target is None else _target(tracer, target)
    id, logprob = tracing.outcome(tracer, ids, wanted)
    if method == "integrated-gradients":
        found = attribution.integrated_gradients(tracer, ids, id, steps)
    else:
        found = attribution.gradient_x_input(tracer, ids, id)
    return AttributionView(
        tracer.info.name,
        tracer.info.revision,
        text,
        tokens,
        target=Alternative(id, naming(tracer.tokenizer, tokens)[-1](id), logprob),
        method=method,
        scores=found.scores,
        log_odds=found.value,
        baseline=found.baseline,
        bos=begin,
    )


def _ranked(engine: Engine, windows: Sequence[Window]) -> list[RankedLogprob]:
    """What the engine says of each window, one after the other. Raises the first window's error."""
    requests = (
        RollingRequest(id=str(place), window=window) for place, window in enumerate(windows)
    )
    found = [event for event in engine.run(requests) if isinstance(event, WindowLogprobs)]
    found.sort(key=lambda event: int(event.id))
    for event in found:
        if event.error is not None:
            raise event.error
    return [token for event in found for token in event.tokens]


def _with_logprob(
    tokenizer: Tokenizer, token: TokenView, found: RankedLogprob, before: bytes
) -> TokenView:
    return replace(
        token,
        logprob=found.logprob,
        rank=found.rank,
        entropy_bits=None if found.entropy is None else found.entropy * BITS_PER_NAT,
        top=tuple(
            replace(one, token=text_after(tokenizer, one.id, before))
            if "\ufffd" in one.token
            else one
            for one in found.top
        ),
    )


def _chosen(flag: str, wanted: Sequence[int] | None, count: int, model: str) -> tuple[int, ...]:
    """The layers or heads asked for. Raises UsageError for one that there is not."""
    for number in wanted or ():
        if not 0 <= number < count:
            why = f"there is no {number}: {model} has {count}, counted from 0"
            raise UsageError(flag, why, f"Give 0 to {count - 1}.")
    return tuple(range(count) if wanted is None else wanted)


def _target(tracer: Tracer, text: str) -> int:
    """The id that `--target` means. Raises UsageError."""
    if text.isascii() and text.isdigit():
        if len(text) < 10 and int(text) < tracer.info.vocabulary:
            return int(text)
        why = f"the ids of {tracer.info.name} are 0 to {tracer.info.vocabulary - 1}"
        raise UsageError("--target", why, "gptcli inspect tokens TEXT shows those of a text.")
    ids = tracer.tokenizer.encode(text, bare=True)
    if len(ids) != 1:
        hint = f"gptcli inspect tokens {text!r} shows them; most words begin with a space."
        raise UsageError("--target", f"{text!r} is {len(ids)} tokens, not one", hint)
    return ids[0]


def _in_force(filters: Filters) -> tuple[tuple[str, float], ...]:
    """The settings that change something, by name."""
    if filters.effective_temperature == 0:
        return (("temperature", 0.0),)
    found = {
        "temperature": (filters.effective_temperature, 1.0),
        "top_k": (filters.top_k, 0),
        "top_p": (filters.top_p, 1.0),
        "min_p": (filters.min_p, 0.0),
        "typical_p": (filters.typical_p, 1.0),
    }
    return tuple((name, value) for name, (value, off) in found.items() if value != off)
