"""The JSON of an OpenAI-compatible server: request bodies and messages; no network here.

`/v1/completions` has fewer settings than Sampling. Sent as they are: max_tokens, temperature,
top_p, seed, n, the first four stop strings (all are watched for here as well), both penalties, and
logit_bias by token id. Sent as vLLM names them, and only where they differ from gptcli's defaults,
because OpenAI's own server refuses what it does not know: top_k (so the default of 50 is not sent;
0 goes as -1), min_p, repetition_penalty, min_tokens and stop_token_ids. Everything else is refused
by its flag's name. What comes back is checked here as strictly as a file would be.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gptcli.errors import BadInput, Unavailable, UsageError
from gptcli.options import DEFAULT_NEW_TOKENS, Sampling
from gptcli.protocol import (
    Alternative,
    GenerateRequest,
    Likelihood,
    Request,
    RollingRequest,
    TokenLogprob,
    Usage,
)

MAX_STOPS = 4  # OpenAI's limit
PART = re.compile(r"bytes:(\\x[0-9a-f]{2})+")
MAX_COUNT = 10**9  # tokens
DEFAULTS = Sampling()
RUN_HERE = "Leave it out, or run the model here: without --server."
NO_TOKENS = "the server's tokens are not known here"
UNKNOWN_ID = -1  # the API gives a token's text, not its id


@dataclass(frozen=True)
class SequenceDelta:
    """What one message adds to one sequence; `finish` is the server's word for the end."""

    index: int
    text: str
    finish: str | None = None
    logprobs: tuple[TokenLogprob, ...] = ()  # NaN where the server gives none


@dataclass(frozen=True)
class ServerMessage:
    """One message of a stream, or a whole answer."""

    pieces: tuple[SequenceDelta, ...]
    usage: Usage | None = None


def refuse(request: Request) -> None:
    """Raises UsageError, naming the flag, for what a server cannot be asked for."""
    if isinstance(request, GenerateRequest):
        _refuse_settings(request.sampling)
    if not isinstance(request, RollingRequest) and request.on_overflow != "error":
        raise UsageError("--on-overflow", NO_TOKENS, "Shorten the prompt yourself.")


def _refuse_settings(sampling: Sampling) -> None:
    words = any(not token.isdigit() for token, _ in sampling.logit_bias)
    for flag, given, why, hint in (
        ("--typical-p", sampling.typical_p != 1, "", RUN_HERE),
        ("--no-repeat-ngram-size", sampling.no_repeat_ngram_size, "", RUN_HERE),
        ("--stop-on-loop", sampling.stop_on_loop, "", RUN_HERE),
        ("--bad-words", sampling.bad_words, "", RUN_HERE),
        ("--num-beams", sampling.num_beams > 1, "", RUN_HERE),
        ("--logit-bias", words, NO_TOKENS, "Give the token's id."),
        ("--max-length", sampling.max_length is not None, NO_TOKENS, "Use --max-new-tokens."),
    ):
        if given:
            raise UsageError(flag, why or "OpenAI's API has no such setting", hint)


def generation_body(request: GenerateRequest, model: str, seed: int) -> dict[str, object]:
    """The body that asks for a request's continuations, streamed.

    Of a greedy text one is asked for, whatever n: the others are equal, and vLLM refuses more.
    """
    sampling = request.sampling
    body: dict[str, object] = {
        "model": model,
        "prompt": request.prompt if isinstance(request.prompt, str) else list(request.prompt),
        "max_tokens": sampling.max_new_tokens or DEFAULT_NEW_TOKENS,
        "temperature": sampling.effective_temperature,
        "seed": seed,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    chosen = {**_common(sampling), **(_random(sampling) if sampling.effective_temperature else {})}
    return body | {name: value for name, value in chosen.items() if value}


def _common(sampling: Sampling) -> dict[str, object]:
    """Settings of any text; what is 0 or empty is off and not sent, except logprobs."""
    wanted: dict[str, object] = {
        "stop": list(sampling.stop[:MAX_STOPS]),
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "logit_bias": dict(sampling.logit_bias),
        "min_tokens": sampling.min_new_tokens,
        "stop_token_ids": list(sampling.stop_token_id),
    }
    if sampling.repetition_penalty != DEFAULTS.repetition_penalty:
        wanted["repetition_penalty"] = sampling.repetition_penalty
    if sampling.logprobs is not None:
        # 0 would mean "the token's own" here, but "none" to some servers.
        wanted["logprobs"] = max(sampling.logprobs, 1)
    return wanted


def _random(sampling: Sampling) -> dict[str, object]:
    """Settings of random sampling alone."""
    wanted: dict[str, object] = {"top_p": sampling.top_p, "min_p": sampling.min_p}
    if sampling.top_k != DEFAULTS.top_k:
        wanted["top_k"] = sampling.top_k or -1
    if sampling.num_return_sequences > 1:
        wanted["n"] = sampling.num_return_sequences
    return wanted


def scoring_body(prompt: str | Sequence[str], model: str) -> dict[str, object]:
    """The body that asks for the echo of texts, with the log-probabilities of their tokens."""
    return {
        "model": model,
        "prompt": prompt if isinstance(prompt, str) else list(prompt),
        "max_tokens": 0,
        "temperature": 0,
        "echo": True,
        "logprobs": 1,
    }


def parse_message(value: object) -> ServerMessage:
    """A message of the server, as JSON gives it. Raises ValueError for what is none."""
    if not isinstance(value, Mapping) or not isinstance(value.get("choices"), list):
        raise ValueError("a message without choices")
    return ServerMessage(tuple(map(_piece, value["choices"])), _usage(value.get("usage")))


def _piece(value: object) -> SequenceDelta:
    if not isinstance(value, Mapping):
        raise ValueError("a choice that is no object")
    index, text, finish = value.get("index", 0), value.get("text"), value.get("finish_reason")
    if not isinstance(index, int) or not isinstance(text, str | None):
        raise ValueError("a choice without index and text")
    end = None if finish is None else str(finish)
    return SequenceDelta(index, text or "", end, _logprobs(value.get("logprobs")))


def _usage(value: object) -> Usage | None:
    """The token counts, if both are there and make sense."""
    if not isinstance(value, Mapping):
        return None
    counts = [value.get(name) for name in ("prompt_tokens", "completion_tokens")]
    read, written = (
        count if type(count) is int and 0 <= count <= MAX_COUNT else None for count in counts
    )
    if read is None or written is None:
        return None
    return Usage(prompt_tokens=read, completion_tokens=written)


def _logprobs(value: object) -> tuple[TokenLogprob, ...]:
    """The tokens with their log-probabilities; none where the server gives another shape."""
    if not isinstance(value, Mapping):
        return ()
    tokens, own, top = (
        found if isinstance(found := value.get(name), list) else []
        for name in ("tokens", "token_logprobs", "top_logprobs")
    )
    top = top or [None] * len(tokens)
    if len({len(tokens), len(own), len(top)}) > 1:
        raise ValueError("log-probabilities that do not fit their tokens")
    return tuple(
        TokenLogprob(UNKNOWN_ID, str(token), _number(logprob), _best(others))
        for token, logprob, others in zip(tokens, own, top, strict=True)
    )


def _best(value: object) -> tuple[Alternative, ...]:
    """The likeliest tokens, best first."""
    if not isinstance(value, Mapping):
        return ()
    found = [Alternative(UNKNOWN_ID, str(t), _number(logprob)) for t, logprob in value.items()]
    return tuple(sorted(found, key=lambda other: -other.logprob))


def _number(value: object) -> float:
    """A finite number, else NaN."""
    number = isinstance(value, int | float) and math.isfinite(value)
    return float(value) if number else math.nan  # type: ignore[arg-type]


def likelihood(prompt: str, choice: str, piece: SequenceDelta) -> Likelihood:
    """A choice's log-probabilities, from the answer to `prompt + choice`, echoed.

    Raises Unavailable where the server did not score what it was given, BadInput where one of its
    tokens holds an end of the prompt and a beginning of the choice.
    """
    echo = echoed_tokens(piece, prompt + choice)
    if not echo:
        raise no_scores("it gave no log-probabilities of the prompt")
    wanted = choice.encode("utf-8", "surrogatepass")
    data, values = b"", list[float]()
    for item in reversed(echo):
        if len(data) >= len(wanted):
            break
        data = named_bytes(item.token) + data
        values.insert(0, item.logprob)
    if data != wanted or any(map(math.isnan, values)):
        shown = choice[:30] + "..." if len(choice) > 30 else choice
        why = "to the server it does not begin with a token of its own"
        raise BadInput(
            f"choice {shown!r}", why, "Begin it with a space, after a prompt that has none"
        )
    return Likelihood(choice, (), tuple(values))


def named_bytes(name: str) -> bytes:
    """The bytes of a token; a part of a character is named by them, as OpenAI does: bytes:\\xe4."""
    if PART.fullmatch(name):
        return bytes.fromhex(name.removeprefix("bytes:").replace("\\x", ""))
    return name.encode("utf-8", "surrogatepass")


def echoed_tokens(piece: SequenceDelta, text: str) -> tuple[TokenLogprob, ...]:
    """The tokens of an echoed text, without those that were written after it; none if it is not."""
    if not piece.text.startswith(text):
        return ()
    written, items = piece.text[len(text) :], piece.logprobs
    while written and items and written.endswith(items[-1].token) and items[-1].token:
        written, items = written.removesuffix(items[-1].token), items[:-1]
    return () if written else items


def last_token(piece: SequenceDelta, text: str) -> TokenLogprob | None:
    """The last token of an echoed text; None where it is not echoed."""
    return next(reversed(echoed_tokens(piece, text)), None)


def probes(piece: SequenceDelta, most: int) -> list[tuple[str, str, float]]:
    """Texts whose last token's log-probability an echo tells already: (text, token, logprob).

    A text is the echo up to a place, and the likeliest token there. Places where nothing is
    uncertain come last: their numbers agree with those of many other places.
    """
    found, begun = list[tuple[float, int, str]](), False
    for place, item in enumerate(piece.logprobs):
        for best in item.top[:1] if begun else ():
            if best.token.isascii() and not best.token.startswith("bytes:") and best.logprob < 0:
                found.append((best.logprob, place, best.token))
        begun = begun or bool(item.token)
    return [
        ("".join(item.token for item in piece.logprobs[:place]) + token, token, logprob)
        for logprob, place, token in sorted(found)[:most]
    ]


def no_scores(why: str) -> Unavailable:
    """The error where a server does not score given texts."""
    hint = "Use a server that does (vLLM), or run the model here: without --server"
    return Unavailable("--server", f"it does not score given texts: {why}", hint)
