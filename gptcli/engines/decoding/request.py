"""A request encoded for an engine: tokens, limits, seed, compiled token rules. No tensors here.

`encode_request` checks a request, encodes it and fits it into the context. Each kind of request has
its own class of EncodedRequest, so an engine dispatches once, by class.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace

from gptcli.checkpoints.tokenization.tokenizer import Tokenizer
from gptcli.engines.decoding.bans.automaton import bans_of
from gptcli.engines.decoding.sampler_state import TokenRules, compile_rules, is_sequence
from gptcli.errors import BadInput, GptcliError, UsageError
from gptcli.options import DEFAULT_NEW_TOKENS, Overflow
from gptcli.protocol import (
    GenerateRequest,
    LoglikelihoodRequest,
    ModelInfo,
    Request,
    Result,
    RollingRequest,
    TextOrIds,
    Usage,
)
from gptcli.system.units import counted

PROMPT_CHARACTERS = 32  # of the prompt's end, to encode a choice after it


@dataclass(frozen=True, eq=False, kw_only=True)
class EncodedRequest:
    """What an engine needs of a request of any kind.

    `logits_from` is the position in `prompt_ids` from which on logits are needed; the tokens before
    it are only stored in the KV cache, so a cached prefix that ends there saves their computation.
    """

    request: Request
    info: ModelInfo
    tokenizer: Tokenizer
    prompt_ids: tuple[int, ...]
    logits_from: int
    truncated: int = 0  # tokens cut from the prompt
    notices: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()  # parts of the prompt that the vocabulary lacks

    def usage(self, cached: int, generated: int = 0) -> Usage:
        """The token counts of a result; `cached` tokens of the prompt were in the KV cache."""
        return Usage(
            prompt_tokens=len(self.prompt_ids), completion_tokens=generated, cached_tokens=cached
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class EncodedGenerate(EncodedRequest):
    """A prompt to continue: what all its sequences share."""

    request: GenerateRequest
    new_token_limit: int  # new tokens that the limits and the context allow, at least 1
    seed: int
    rules: TokenRules

    @property
    def prompt_text(self) -> str:
        """The text of the prompt; of token ids what they stand for."""
        prompt = self.request.prompt
        return prompt if isinstance(prompt, str) else self.tokenizer.decode(self.prompt_ids)


@dataclass(frozen=True, eq=False, kw_only=True)
class EncodedLoglikelihood(EncodedRequest):
    """A prompt, and the tokens of each choice after it."""

    request: LoglikelihoodRequest
    choices: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class EncodedRolling(EncodedRequest):
    """A window. Its last token is predicted, not read, so it is not in `prompt_ids`."""

    request: RollingRequest


def encode_request(
    request: Request, tokenizer: Tokenizer, info: ModelInfo, beams: bool
) -> EncodedGenerate | EncodedLoglikelihood | EncodedRolling | Result:
    """The encoded request, or the result that says why it is refused.

    `beams`: whether the engine can do beam search.
    """
    try:
        match request:
            case GenerateRequest():
                return encode_generate(request, tokenizer, info, beams)
            case LoglikelihoodRequest():
                return encode_loglikelihood(request, tokenizer, info)
            case RollingRequest():
                return encode_rolling(request, tokenizer, info)
    except GptcliError as error:
        return request.refused(error, info)


def encode_generate(
    request: GenerateRequest,
    tokenizer: Tokenizer,
    info: ModelInfo,
    beams: bool,
) -> EncodedGenerate:
    """Encode the prompt, fit it into the context and fix the seed.

    Raises BadInput for a prompt that does not fit, UsageError for a bias on an unknown token and
    for beam search where the engine has none.
    """
    sampling = request.sampling
    if sampling.num_beams > 1 and not beams:
        raise UsageError(
            "--num-beams", "the model was opened without beam search", "Say load(beams=True)"
        )
    limit = min(info.context, sampling.max_length or info.context)
    reason = f"the context of {info.name} is {info.context}"
    limits = _PromptLimit(
        limit=limit,
        reserved=sampling.max_new_tokens or DEFAULT_NEW_TOKENS,
        reason=f"--max-length allows {limit}" if limit < info.context else reason,
        also_counted="new ones",
    )
    tokens, truncated, notices = _fitted(
        request.prompt, request.on_overflow, tokenizer, info, limits
    )
    return EncodedGenerate(
        request=request,
        info=info,
        tokenizer=tokenizer,
        prompt_ids=tokens,
        logits_from=len(tokens) - 1,
        truncated=truncated,
        notices=sampling.notices + notices,
        unknown=_unknown(request.prompt, tokens, tokenizer),
        new_token_limit=sampling.new_token_limit(len(tokens), info.context),
        seed=secrets.randbits(32) if sampling.seed is None else sampling.seed,
        rules=_rules(request, tokens, tokenizer, info),
    )


def _rules(
    request: GenerateRequest, tokens: tuple[int, ...], tokenizer: Tokenizer, info: ModelInfo
) -> TokenRules:
    """The rules of a request for tokens behind its prompt."""
    sampling, prompt = request.sampling, request.prompt
    special = tokenizer.special_id
    rules = compile_rules(
        sampling, tokenizer.encode_word, info.vocabulary, tokenizer.roles.ends, special
    )
    words = tuple(word for word in sampling.bad_words if not is_sequence(word, special))
    bans = bans_of(words, sampling.stop, tokenizer, info.vocabulary)
    if bans is None:
        return rules
    text = prompt if isinstance(prompt, str) else tokenizer.decode(tokens)
    return replace(rules, bans=bans, ban_start=bans.begin(tokens, text))


def encode_loglikelihood(
    request: LoglikelihoodRequest, tokenizer: Tokenizer, info: ModelInfo
) -> EncodedLoglikelihood:
    """Encode the prompt and each choice.

    Raises BadInput for a choice that is empty or too long, or a prompt that does not fit.
    """
    choices = _encoded(request.choices, request.prompt, tokenizer, info)
    limits = _PromptLimit(
        # The last token of a choice is predicted, not read; of one token, nothing is.
        limit=info.context + 2 - max(map(len, choices)),
        reserved=1,
        reason=f"the context of {info.name} is {info.context}",
        also_counted="the longest choice",
    )
    tokens, truncated, notices = _fitted(
        request.prompt, request.on_overflow, tokenizer, info, limits
    )
    return EncodedLoglikelihood(
        request=request,
        info=info,
        tokenizer=tokenizer,
        prompt_ids=tokens,
        logits_from=len(tokens) - 1,
        truncated=truncated,
        notices=notices,
        unknown=_unknown(request.prompt, tokens, tokenizer),
        choices=choices,
    )


def encode_rolling(
    request: RollingRequest, tokenizer: Tokenizer, info: ModelInfo
) -> EncodedRolling:
    """Check a window. Raises BadInput for one that cannot be scored."""
    window = request.window
    if not 1 <= window.first < len(window.ids):
        why = f"of {len(window.ids)} tokens those from {window.first} on are to be measured"
        raise BadInput("window", why, "Give at least one token, and one before it")
    if len(window.ids) > info.context + 1:
        why = f"it has {len(window.ids)} tokens, but the context of {info.name} is {info.context}"
        raise BadInput("window too long", why, "Cut the text into several")
    named = [ids for ids in (window.ids, *window.among) if ids]
    if min(map(min, named)) < 0 or max(map(max, named)) >= info.vocabulary:
        why = f"the ids of {info.name} are 0 to {info.vocabulary - 1}"
        raise BadInput("window", why, "Encode the text with this model's tokenizer")
    return EncodedRolling(
        request=request,
        info=info,
        tokenizer=tokenizer,
        prompt_ids=window.ids[:-1],
        logits_from=window.first - 1,
    )


def _encoded(
    choices: Sequence[str], prompt: str, tokenizer: Tokenizer, info: ModelInfo
) -> tuple[tuple[int, ...], ...]:
    """The tokens of each choice. Raises BadInput for one that is empty or too long, or for none."""
    if not choices:
        raise BadInput("choices", "there are none", "Give at least one")
    encoded = tuple(tuple(_continuing(prompt, text, tokenizer)) for text in choices)
    for text, ids in zip(choices, encoded, strict=True):
        if not ids:
            raise BadInput("choice", "it is empty", "Give at least one character")
        if len(ids) > info.context:
            shown = text[:30] + "..." if len(text) > 30 else text
            raise BadInput(
                f"choice {shown!r}",
                f"it has {len(ids)} tokens, but the context of {info.name} is {info.context}",
                "Shorten it",
            )
    return encoded


def _continuing(prompt: str, text: str, tokenizer: Tokenizer) -> list[int]:
    """The tokens of a text after a prompt; by itself if its tokens are bytes, or join the prompt's.

    By itself a text gets a token of its own for the beginning of a word in many vocabularies, such
    as those of sentencepiece: that is none of what continues a prompt.
    """
    alone = tokenizer.encode(text, bare=True)
    end = prompt[-PROMPT_CHARACTERS:]
    if tokenizer.byte_level or not end or not alone:
        return alone
    before, whole = tokenizer.encode(end, bare=True), tokenizer.encode(end + text, bare=True)
    joined = whole[: len(before)] != before or len(whole) == len(before)
    return alone if joined else whole[len(before) :]


@dataclass(frozen=True)
class _PromptLimit:
    """Limit of a prompt in tokens, exclusive; a cut prompt leaves `reserved` tokens free."""

    limit: int
    reserved: int
    reason: str  # what sets the limit, in words
    also_counted: str  # what counts beside the prompt, in words

    def too_long(self, size: str) -> BadInput:
        """The error of a prompt of that size."""
        return BadInput(
            "prompt too long",
            f"it has {size}, but {self.reason}, {self.also_counted} included",
            "Shorten it, or cut it with --on-overflow truncate-left or truncate-right",
        )


def _fitted(
    prompt: TextOrIds,
    on_overflow: Overflow,
    tokenizer: Tokenizer,
    info: ModelInfo,
    limits: _PromptLimit,
) -> tuple[tuple[int, ...], int, tuple[str, ...]]:
    """The tokens of the prompt, how many were cut, and notices for the user.

    An empty prompt is the token that begins a text. Raises BadInput for a prompt that does not fit
    and for ids that the model does not have, UsageError for an empty prompt where no token begins a
    text.
    """
    if on_overflow == "error":
        _refuse_by_size(prompt, tokenizer, limits)
    tokens = _tokens(prompt, tokenizer, info) or (_begin(tokenizer, prompt, info),)
    length = len(tokens)
    if length < limits.limit:
        return tokens, 0, ()
    keep = limits.limit - min(limits.reserved, limits.limit // 2)
    if on_overflow == "error" or keep == limits.limit:
        raise limits.too_long(counted(length, "token"))
    left = on_overflow == "truncate-left"
    tokens = tokens[-keep:] if left else tokens[:keep]
    side = "beginning" if left else "end"
    notice = (
        f"prompt of {counted(length, 'token')} cut to {len(tokens)} at its {side}: {limits.reason}"
    )
    return tokens, length - len(tokens), (notice,)


def _tokens(prompt: TextOrIds, tokenizer: Tokenizer, info: ModelInfo) -> tuple[int, ...]:
    """The tokens of a prompt. Raises BadInput for an id that the model does not have."""
    if isinstance(prompt, str):
        return tuple(tokenizer.encode(prompt))
    for id in (min(prompt), max(prompt)) if prompt else ():
        if not 0 <= id < info.vocabulary:
            why = f"{id} is no token id: those of {info.name} are 0 to {info.vocabulary - 1}"
            raise BadInput("prompt", why, "Give ids of this model's tokens")
    return prompt


def _unknown(prompt: TextOrIds, tokens: tuple[int, ...], tokenizer: Tokenizer) -> tuple[str, ...]:
    return tokenizer.unknown(prompt, tokens) if isinstance(prompt, str) else ()


def _begin(tokenizer: Tokenizer, prompt: TextOrIds, info: ModelInfo) -> int:
    """The token that stands for a prompt without tokens. Raises UsageError where there is none."""
    begin = tokenizer.roles.begin
    if begin is None:
        fault = "the prompt has no token of the model's vocabulary" if prompt else "empty prompt"
        why = f"{info.name} names no token that begins a text"
        raise UsageError(fault, why, "Give a text of the model's own tokens.")
    return begin


def _refuse_by_size(prompt: TextOrIds, tokenizer: Tokenizer, limits: _PromptLimit) -> None:
    """Refuse a prompt that no tokenisation could fit, without tokenising megabytes."""
    if not isinstance(prompt, str):
        return
    characters = len(prompt)  # a character is at least a byte
    if characters > 64 * limits.limit and characters > limits.limit * tokenizer.longest:
        raise limits.too_long(f"more than {characters // tokenizer.longest} tokens")
