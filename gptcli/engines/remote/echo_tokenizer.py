"""Tokens of a text as a server's echo tells them, so that texts can be scored by a server.

The server gives each token's text and log-probability, not its id, so ids are numbers given here in
the order in which tokens are met. One request tells both: a text is asked for behind
`<|endoftext|>`, where the server knows that token, and the log-probabilities are kept until the
window of these ids is asked for. Not here: whether an echo can be trusted is in `scoring`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import tokenizers

from gptcli.checkpoints.tokenization.roles import END_OF_TEXT
from gptcli.checkpoints.tokenization.tokenizer import Tokenizer
from gptcli.engines.remote.schema import SequenceDelta, echoed_tokens, named_bytes, no_scores
from gptcli.errors import BadInput

PROBE = "The old man and the sea"
KEPT_TEXTS = 4096  # log-probabilities that wait for their window
Logprobs = tuple[float, ...]
"""One a token; NaN for the first, which has nothing before it."""


class EchoTokenizer(Tokenizer):
    """The server's tokenizer. `echo` asks for the echo of a text."""

    def __init__(self, echo: Callable[[str], SequenceDelta]) -> None:
        """Raises Unavailable where the server does not echo log-probabilities."""
        self._echo = echo
        self._texts: list[str] = [END_OF_TEXT]  # by id, as the server names them
        self._ids: dict[str, int] = {END_OF_TEXT: 0}
        self._read: OrderedDict[tuple[int, ...], Logprobs] = OrderedDict()
        tokens = echoed_tokens(echo(END_OF_TEXT + PROBE), END_OF_TEXT + PROBE)
        self._ends = bool(tokens) and tokens[0].token == END_OF_TEXT
        if not self._ends and not echoed_tokens(echo(PROBE), PROBE):
            raise no_scores("it gave no log-probabilities of the prompt")
        empty = tokenizers.Tokenizer(tokenizers.models.WordLevel({}, unk_token=END_OF_TEXT))
        super().__init__(empty, 0 if self._ends else None, "the server's tokenizer")

    def encode(self, text: str, bare: bool = False) -> list[int]:
        """Token ids of a text. Raises as the server does, and BadInput, see `read`."""
        if not text:
            return []
        before = END_OF_TEXT if self._ends else ""
        ids = self.read(before + text, self._echo(before + text))
        if self._ends and ids[0] != 0:
            raise _unreadable(text)
        return list(ids[1:] if self._ends else ids)

    def encode_places(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Token ids of a text, and where each stands in it: (start, end) in characters."""
        ids = self.encode(text)
        # The character of each byte, and of the end.
        owners = [place for place, char in enumerate(text) for _ in _bytes(char)] + [len(text)]
        places, start = [], 0
        for id in ids:
            end = start + len(named_bytes(self._texts[id]))
            last = owners[end - 1] + 1 if end > start else owners[start]
            places.append((owners[start], last))
            start = end
        return ids, places

    def unknown(self, text: str, ids: Sequence[int] | None = None) -> tuple[str, ...]:
        """None: the server does not tell."""
        return ()

    def decode(self, ids: Sequence[int], special: bool = False) -> str:
        """The text of token ids."""
        return b"".join(named_bytes(self._texts[id]) for id in ids).decode("utf-8", "replace")

    def token_text(self, id: int) -> str:
        """One token; a part of a character is U+FFFD."""
        return self.decode([id])

    def read(self, text: str, piece: SequenceDelta) -> tuple[int, ...]:
        """The ids of an echoed text, whose log-probabilities are kept.

        Raises BadInput where the tokens do not join to the text: some hold a part of a character,
        and the server does not name its bytes.
        """
        tokens = echoed_tokens(piece, text)
        if b"".join(named_bytes(item.token) for item in tokens) != _bytes(text):
            raise _unreadable(text)
        ids = tuple(self._id(item.token) for item in tokens)
        self._read[ids] = tuple(item.logprob for item in tokens)
        while len(self._read) > KEPT_TEXTS:
            self._read.popitem(last=False)
        return ids

    def logprobs(self, ids: tuple[int, ...]) -> Logprobs | None:
        """What is kept of these ids, which is given once; None where nothing is."""
        return self._read.pop(ids, None)

    def _id(self, token: str) -> int:
        if token not in self._ids:
            self._ids[token] = len(self._texts)
            self._texts.append(token)
            self.size = len(self._texts)
        return self._ids[token]


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _unreadable(text: str) -> BadInput:
    shown = text[:30] + "..." if len(text) > 30 else text
    why = "the server's tokens do not join to it: one holds a part of a character"
    return BadInput(f"text {shown!r}", why, "Run the model here: without --server")
