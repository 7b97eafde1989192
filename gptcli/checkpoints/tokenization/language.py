"""The language that a vocabulary was made for: Chinese, Japanese or Korean, or not known.

Most of the tokens of a GPT-2 for one of these languages are of its script. A vocabulary of Latin
letters tells nothing of the language, and one for many languages has no script that prevails.
"""

from __future__ import annotations

from collections.abc import Iterator

from gptcli.checkpoints.tokenization.tokenizer import Tokenizer
from gptcli.system.text.scripts import language_of_letters

SAMPLED_TOKENS = 2000  # evenly spaced; to look at all of 50000 takes 0.1 s


def language_of(tokenizer: Tokenizer) -> str | None:
    """`zh`, `ja` or `ko`, as the vocabulary tells; None where it does not."""
    return language_of_letters(_sample(tokenizer))


def _sample(tokenizer: Tokenizer) -> Iterator[str]:
    """The texts of some tokens, without those that are a part of a character."""
    size = tokenizer.size
    for id in range(0, size, max(size // SAMPLED_TOKENS, 1)):
        data = tokenizer.token_bytes(id)
        if data is not None:
            yield data.decode("utf-8", "ignore")
        else:
            yield tokenizer.raw.id_to_token(id) or ""
