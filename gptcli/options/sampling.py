"""Options that choose the next token and the end of a text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gptcli.errors import UsageError
from gptcli.options.spec import MAX_LOGIT_BIAS, Options, option, parse_bias, parse_id, unescape

DEFAULT_NEW_TOKENS = 128
SEED_LIMIT = 2**63  # seeds are below it
MIN_TEMPERATURE = (
    0.01  # a lower temperature above 0 is raised to this: float32 logits would overflow
)


def _no_empty(flag: str) -> Callable[[tuple[str, ...]], None]:
    """A check for the texts of a flag: none may be empty."""

    def check(texts: tuple[str, ...]) -> None:
        if "" in texts:
            raise UsageError(flag, "the text is empty", "Give at least one character.")

    return check


def _ids(ids: tuple[int, ...]) -> None:
    """Raises UsageError for a number that no model has as an id."""
    for id in ids:
        parse_id(id)


@dataclass(frozen=True, kw_only=True)
class Filters(Options):
    """Temperature and filters: what can be applied to the distribution of one token alone.

    Names and meanings are those of Hugging Face's GenerationConfig.
    """

    panel = "Sampling"

    temperature: float = option(
        0.8,
        "-t --temperature --temp",
        "Randomness; 0 always takes the likeliest token.",
        low=0,
        high=100,
    )
    greedy: bool = option(
        False,
        "--greedy",
        "Always take the likeliest token, as -t 0.",
        instead="Write temperature = 0.",
    )
    top_k: int = option(
        50, "--top-k", "Sample among the K likeliest tokens; 0 is off.", low=0, high=10**9
    )
    top_p: float = option(
        0.95,
        "--top-p",
        "Sample among the fewest tokens that hold this probability; 1 is off.",
        above=0,
        high=1,
    )
    min_p: float = option(
        0.0,
        "--min-p",
        "Drop tokens less likely than this share of the likeliest; 0 is off.",
        low=0,
        high=1,
        rare=True,
    )
    typical_p: float = option(
        1.0,
        "--typical-p",
        "Locally typical sampling: keep this probability; 1 is off.",
        above=0,
        high=1,
        rare=True,
    )

    @property
    def effective_temperature(self) -> float:
        """The temperature that is used: 0 for greedy, else at least `MIN_TEMPERATURE`."""
        return (
            0.0 if self.greedy or self.temperature == 0 else max(self.temperature, MIN_TEMPERATURE)
        )


@dataclass(frozen=True, kw_only=True)
class Sampling(Filters):
    """How to choose the next token, and when to stop.

    Names and meanings are those of Hugging Face's GenerationConfig; presence and frequency penalty
    are OpenAI's, over the generated tokens.
    """

    repetition_penalty: float = option(
        1.0,
        "--repetition-penalty",
        "Lower the logits of tokens of the prompt and the text by this factor; 1 is off.",
        rare=True,
        above=0,
        high=10,
    )
    no_repeat_ngram_size: int = option(
        0,
        "--no-repeat-ngram-size",
        "Never generate the same N tokens in a row twice; 0 is off.",
        rare=True,
        low=0,
        high=10**9,
    )
    presence_penalty: float = option(
        0.0,
        "--presence-penalty",
        "Subtract this from the logits of tokens already generated.",
        rare=True,
        low=-2,
        high=2,
    )
    frequency_penalty: float = option(
        0.0,
        "--frequency-penalty",
        "Subtract this for each time a token was already generated.",
        rare=True,
        low=-2,
        high=2,
    )
    bad_words: tuple[str, ...] = option(
        (),
        "--bad-words",
        "Never write this word or phrase, in any case and any tokens; repeatable.",
        metavar="TEXT",
        check=_no_empty("--bad-words"),
        rare=True,
    )
    logit_bias: tuple[tuple[str, float], ...] = option(
        (),
        "--logit-bias",
        "Add VALUE (-100 to 100) to a token's logit; TOKEN is an id or a text; repeatable.",
        metavar="TOKEN=VALUE",
        parse=parse_bias,
        rare=True,
    )
    max_new_tokens: int | None = option(
        None,
        "--max-new-tokens --max-tokens",
        "Longest continuation, in tokens.",
        low=1,
        high=10**9,
        shown_default=str(DEFAULT_NEW_TOKENS),
    )
    max_length: int | None = option(
        None,
        "--max-length",
        "Longest prompt and continuation together, in tokens.",
        rare=True,
        low=1,
        high=10**9,
    )
    min_new_tokens: int = option(
        0,
        "--min-new-tokens",
        "Do not end the text before this many new tokens.",
        low=0,
        high=10**9,
        rare=True,
    )
    num_return_sequences: int = option(
        1, "-n --num-return-sequences", "How many continuations to generate.", low=1, high=1000
    )
    num_beams: int = option(
        1,
        "--num-beams",
        "Beam search with this many beams (deterministic, not streamed); 1 is off.",
        low=1,
        high=64,
        rare=True,
    )
    seed: int | None = option(
        None,
        "--seed",
        "The same seed gives the same text.",
        low=0,
        high=SEED_LIMIT - 1,
        shown_default="random",
    )
    stop: tuple[str, ...] = option(
        (),
        "--stop",
        r"End before this text, such as \n; repeatable.",
        metavar="TEXT",
        parse=unescape,
        check=_no_empty("--stop"),
    )
    stop_token_id: tuple[int, ...] = option(
        (),
        "--stop-token-id",
        "End before the token of this id; repeatable.",
        metavar="ID",
        parse=parse_id,
        check=_ids,
        rare=True,
    )
    stop_on_loop: bool = option(
        False, "--stop-on-loop", "End when the text repeats itself.", rare=True
    )
    logprobs: int | None = option(
        None,
        "--logprobs",
        "Add each token's log-probability (natural) and the N likeliest others (JSON only).",
        rare=True,
        low=0,
        high=100,
        metavar="N",
        panel="Output",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for token, value in self.logit_bias:
            if not abs(value) <= MAX_LOGIT_BIAS:
                hint = f"Give a value from -{MAX_LOGIT_BIAS} to {MAX_LOGIT_BIAS}."
                raise UsageError("--logit-bias", f"{token!r}: {value} is out of range", hint)
        if self.num_beams > 1 and self.num_return_sequences > self.num_beams:
            raise UsageError(
                "--num-return-sequences",
                f"{self.num_beams} beams cannot give {self.num_return_sequences} sequences",
                "Raise --num-beams.",
            )
        self._refuse_with_beams()

    def _refuse_with_beams(self) -> None:
        """Refuse options that need one growing text, which beam search does not have."""
        for flag, given in (
            ("--presence-penalty", self.presence_penalty),
            ("--frequency-penalty", self.frequency_penalty),
            ("--stop-on-loop", self.stop_on_loop),
            ("--logprobs", self.logprobs is not None),
        ):
            if given and self.num_beams > 1:
                raise UsageError(flag, "does not go with --num-beams", "Leave one of them out.")

    @property
    def effective_temperature(self) -> float:
        """As `Filters.effective_temperature`; 0 for beam search too."""
        return 0.0 if self.num_beams > 1 else super().effective_temperature

    @property
    def notices(self) -> tuple[str, ...]:
        """Notices about values that were changed."""
        if 0 < self.temperature < MIN_TEMPERATURE and not self.greedy:
            return (f"temperature {self.temperature:g} raised to {MIN_TEMPERATURE:g}",)
        return ()

    def new_token_limit(self, prompt_tokens: int, context: int) -> int:
        """How many new tokens the limits and the context (tokens) allow; may be 0 or less."""
        limits = [context - prompt_tokens]
        if self.max_length is not None:
            limits.append(self.max_length - prompt_tokens)
        if self.max_new_tokens is not None:
            limits.append(self.max_new_tokens)
        elif self.max_length is None:
            limits.append(DEFAULT_NEW_TOKENS)
        return min(limits)
