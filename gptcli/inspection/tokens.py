"""A text as its tokens: ids, bytes, and where each stands in the text.

No model runs and torch is not imported. Not here: probabilities are in `gptcli.inspection.reading`.
"""

from __future__ import annotations

from gptcli.checkpoints.tokenizer import Tokenizer
from gptcli.inspection.views import TokenView


def tokenized(tokenizer: Tokenizer, text: str) -> tuple[TokenView, ...]:
    """The tokens of a text, none of them measured. Raises as `Tokenizer.encode`."""
    ids, places = tokenizer.encode_places(text)
    return tuple(
        token_at(tokenizer, index, id, place)
        for index, (id, place) in enumerate(zip(ids, places, strict=True))
    )


def token_at(tokenizer: Tokenizer, index: int, id: int, place: tuple[int, int]) -> TokenView:
    """One token; of a special one, or where tokens have no bytes, the bytes are its text's."""
    text = tokenizer.token_text(id)
    return TokenView(index, id, text, tokenizer.token_bytes(id) or text.encode(), *place)
