"""A checkpoint's tokenizer: the `tokenizers` library, loaded without trust.

Text becomes token ids and back exactly as transformers' GPT-2 does it, without its 3 s import. A
broken tokenizer.json can make the library panic, with a message of its own on stderr and an
exception that is no Exception, and some panic only when first used; so loading includes a probe
text, and ends in a working tokenizer or in one BadModel. `token_bytes` is what streaming needs: a
token of a byte-level tokenizer is bytes, not text, and a character can spread over several tokens.
Chat templates are not read here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, NoReturn

from gptcli.checkpoints.vocabulary import BYTES, JSON, VOCABULARY, build, bytes_of
from gptcli.errors import BadInput, BadModel, GptcliError
from gptcli.system.strict_json import AGAIN

if TYPE_CHECKING:
    import tokenizers

_ONE_AT_A_TIME = Lock()
# It begins with a space because add_prefix_space, where it is on, adds none before one.
PROBE = " Probe: it's 42%,\n\n\tcafé Ünïcode — 漢字かな 한국어 العربية 👩‍🚀🇺🇳  end \x00\x7f"


class Tokenizer:
    """Text to token ids and back; `raw` is the library's own object."""

    def __init__(
        self, raw: tokenizers.Tokenizer, eos_id: int | None, name: str = "tokenizer"
    ) -> None:
        self.raw, self.eos_id, self.name = raw, eos_id, name  # `name` is for errors
        self._bytes: dict[int, bytes] = {}  # filled as tokens come up: a whole table costs 0.1 s
        added = raw.get_added_tokens_decoder()
        self._special = frozenset(id for id, token in added.items() if token.special)
        self.size = max(raw.get_vocab_size(with_added_tokens=True), *(id + 1 for id in added), 0)

    @cached_property
    def byte_level(self) -> bool:
        """Whether tokens stand for bytes (GPT-2's kind), so that `token_bytes` knows them."""
        from tokenizers.decoders import ByteLevel

        return isinstance(self.raw.decoder, ByteLevel)

    @cached_property
    def longest(self) -> int:
        """The most characters of a text that one token can stand for; no bound if not known."""
        if not self.byte_level or self.raw.normalizer is not None:
            return sys.maxsize
        return max(map(len, self.raw.get_vocab(with_added_tokens=True)))

    def encode(self, text: str, bare: bool = False) -> list[int]:
        """Token ids of a text; the text of a special token gives that token, as in transformers.

        Some tokenizers put a token of their own before a text (GPT-2's does not): not if `bare`.
        Raises BadInput for lone surrogates and BadModel where the tokenizer fails on this text.
        """
        return self._encoded(text, bare).ids

    def _encoded(self, text: str, bare: bool) -> tokenizers.Encoding:
        try:
            encoded = self.raw.encode(text, add_special_tokens=not bare)
        except TypeError:
            raise BadInput(
                "the text cannot be encoded", "it holds a lone surrogate", "Give valid Unicode"
            ) from None
        except BaseException as error:
            _refuse(error, self.name)
        ids = encoded.ids
        if ids and max(ids) >= self.size:
            raise _broken(self.name, f"token id {max(ids)} in a vocabulary of {self.size}")
        return encoded

    def encode_places(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Token ids of a bare text, and where each stands in it: (start, end) in characters.

        Tokens that share a character share its place; else each begins where the one before ended,
        so that the places cover the text, also where the tokenizer drops or trims some of it.
        Raises as `encode`.
        """
        encoded = self._encoded(text, bare=True)
        covered, end = [], 0
        for low, high in encoded.offsets:
            covered.append((min(low, end), max(high, end)))
            end = max(high, end)
        return encoded.ids, covered

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, without special tokens; incomplete characters become U+FFFD."""
        return self.raw.decode(list(ids), skip_special_tokens=True)

    def token_text(self, id: int) -> str:
        """One token for display: as `decode`, with special tokens shown."""
        return self.raw.decode([id], skip_special_tokens=False)

    def token_bytes(self, id: int) -> bytes | None:
        """The bytes that a token adds to the text: b"" for special and unknown tokens.

        None where the tokenizer is not byte-level: then tokens have no bytes of their own.
        """
        if not self.byte_level:
            return None
        if id not in self._bytes:
            token = None if id in self._special else self.raw.id_to_token(id)
            self._bytes[id] = bytes_of(token or "")
        return self._bytes[id]


def load_tokenizer(folder: Path) -> Tokenizer:
    """Load tokenizer.json, or else GPT-2's vocab.json and merges.txt, and try it on a probe text.

    Raises BadModel where there is no tokenizer, or where it is corrupt or does not work.
    """
    name = JSON if (folder / JSON).exists() else VOCABULARY
    try:
        with _quiet_stderr():
            raw, eos_id = build(folder)
            tokenizer = Tokenizer(raw, eos_id, name)
            _probe(tokenizer)
    except GptcliError:
        raise
    except BaseException as error:
        _refuse(error, name)
    return tokenizer


def check_vocabulary(tokenizer: Tokenizer, vocab_size: int) -> None:
    """Raise BadModel where the tokenizer knows tokens that the embedding, of `vocab_size`, lacks.

    Fewer tokens are fine: embeddings are often padded to a round number.
    """
    if tokenizer.size > vocab_size:
        raise _broken(
            tokenizer.name,
            f"{tokenizer.size} tokens, but the model has embeddings for {vocab_size}",
        )


def _probe(tokenizer: Tokenizer) -> None:
    """Use the tokenizer once; raises BadModel where what comes back cannot be right."""
    from tokenizers import pre_tokenizers

    raw, name = tokenizer.raw, tokenizer.name
    if isinstance(raw.pre_tokenizer, pre_tokenizers.ByteLevel) and not tokenizer.byte_level:
        raise _broken(name, "byte-level tokens without a byte-level decoder")
    ids = tokenizer.encode(PROBE)
    text = tokenizer.decode(ids)
    if not ids or not text:
        raise _broken(name, "a probe text is lost in its tokens")
    # A small vocabulary that lacks single bytes is lossy by construction, not broken.
    complete = all(raw.token_to_id(character) is not None for character in BYTES)
    if tokenizer.byte_level and raw.normalizer is None and complete and text != PROBE:
        raise _broken(name, "a probe text comes back changed")


def _broken(name: str, rule: str) -> BadModel:
    return BadModel("corrupt model file", f"{name}: {rule}", AGAIN)


def _refuse(error: BaseException, name: str) -> NoReturn:
    """Turn a failure of the library into BadModel.

    A panic of its Rust code arrives as a BaseException that no `except Exception` catches; what
    the interpreter itself raises to end the program goes on.
    """
    if isinstance(error, KeyboardInterrupt | SystemExit | MemoryError | GeneratorExit):
        raise error
    first = (str(error).splitlines() or [type(error).__name__])[0]
    raise _broken(name, f"the tokenizer does not work: {first[:200]}") from None


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Send file descriptor 2 nowhere for a while: Rust prints a panic there by itself."""
    if sys.stderr is not None:
        sys.stderr.flush()
    with _ONE_AT_A_TIME:  # else one thread would restore what another had redirected
        try:
            kept = os.dup(2)
        except OSError:  # stderr is closed: there is nothing to keep clean
            yield
            return
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(nowhere)
            os.close(kept)
