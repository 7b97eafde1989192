"""Log-probabilities in OpenAI's two shapes: lists beside each other, and objects.

A token that is a part of a character has no text of its own; OpenAI writes such tokens as
`bytes:\\xe6\\xbc`, so that no two of them have one name. Of two tokens with one text in a place,
the likelier stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gptcli.checkpoints.tokenization.tokenizer import Tokenizer
from gptcli.protocol import Alternative
from gptcli.server.openai.text_places import TextPlaces

LOWEST = -9999.0  # stands for minus infinity, which JSON lacks


@dataclass(frozen=True)
class ListedToken:
    """A token of a prompt or of a text; `logprob` is None where nothing stands before it.

    `top`: the likeliest tokens in its place, best first.
    """

    id: int
    logprob: float | None
    top: Sequence[Alternative] = ()


@dataclass
class LegacyLogprobs:
    """`logprobs` of a text completion, filled token by token.

    as_ids: `token_id:N` in place of texts. places: where the tokens that are written begin.
    """

    tokenizer: Tokenizer
    as_ids: bool
    places: TextPlaces

    def lists(
        self, tokens: Sequence[ListedToken], offsets: Sequence[int] | None = None
    ) -> dict[str, list[object]]:
        """The lists of these tokens; without `offsets` they go on from the tokens before."""
        if offsets is None:
            offsets = [self.places.push(token.id) for token in tokens]
        return {
            "text_offset": list(offsets),
            "tokens": [self.name(token.id) for token in tokens],
            "token_logprobs": [printable(token.logprob) for token in tokens],
            "top_logprobs": [self._top(token) for token in tokens],
        }

    def _top(self, token: ListedToken) -> dict[str, float] | None:
        if token.logprob is None:
            return None
        own = Alternative(token.id, "", token.logprob)
        found: dict[str, float] = {}
        for other in (*token.top, own):
            name, value = self.name(other.id), printable(other.logprob)
            if value is not None and value > found.get(name, float("-inf")):
                found[name] = value
        return found

    def name(self, id: int) -> str:
        """What a token is called."""
        return f"token_id:{id}" if self.as_ids else token_name(self.tokenizer, id)


def token_name(tokenizer: Tokenizer, id: int) -> str:
    """A token's text; of a part of a character its bytes, as OpenAI writes them."""
    data = tokenizer.token_bytes(id)
    if data:
        try:
            return data.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)
    return tokenizer.token_text(id)


def chat_entry(
    tokenizer: Tokenizer, token: ListedToken, with_top: bool = True
) -> dict[str, object]:
    """A token of a chat's `logprobs.content`."""
    name = tokenizer.token_text(token.id)
    data = tokenizer.token_bytes(token.id)
    entry: dict[str, object] = {
        "token": name,
        "logprob": printable(token.logprob),
        "bytes": list(name.encode() if data is None else data),
    }
    if with_top:
        others = [ListedToken(other.id, other.logprob) for other in token.top]
        entry["top_logprobs"] = [chat_entry(tokenizer, other, False) for other in others]
    return entry


def printable(logprob: float | None) -> float | None:
    """A log-probability that JSON can hold."""
    return None if logprob is None else max(logprob, LOWEST)
