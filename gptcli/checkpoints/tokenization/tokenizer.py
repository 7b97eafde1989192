"""A checkpoint's tokenizer: the `tokenizers` library behind one class.

Text becomes token ids and back exactly as transformers' GPT-2 does it, without its 3 s import. A
failure of the library, which can be a panic of its Rust code, becomes BadInput or BadModel.
`token_bytes` is what streaming needs: a token of a byte-level tokenizer is bytes, not text, and a
character can spread over several tokens. Not here: how it is made of files is in `loading`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, NoReturn

from gptcli.checkpoints.tokenization.builders.byte_level import BYTES, bytes_of
from gptcli.checkpoints.tokenization.builders.reading import MAX_GAP
from gptcli.checkpoints.tokenization.roles import TokenRoles, only_end
from gptcli.checkpoints.tokenization.text.joining import Joining, joining_of
from gptcli.checkpoints.tokenization.text.marks import BYTE_SPACE, SPACE, WORD_ENDS, byte_of
from gptcli.checkpoints.tokenization.text.unknown import UNKNOWN_CHARACTER, lost, stood_for
from gptcli.errors import BadInput, BadModel
from gptcli.system.strict_json import AGAIN

if TYPE_CHECKING:
    import tokenizers

MAX_TRIED = 64  # tokens that are tried as a text
SPACES = frozenset({" ", SPACE, BYTE_SPACE})
# The library's errors.
UNKNOWN = re.compile(r"Missing \[UNK\] token|unk(nown)? token", re.IGNORECASE)


class Tokenizer:
    """Text to token ids and back; `raw` is the library's own object.

    Without `roles`, the token `eos_id`, if there is one, both begins and ends texts.
    """

    def __init__(
        self,
        raw: tokenizers.Tokenizer,
        eos_id: int | None,
        name: str = "tokenizer",
        roles: TokenRoles | None = None,
    ) -> None:
        self.raw, self.name = raw, name  # `name` is for errors
        self.roles = only_end(eos_id) if roles is None else roles
        self._bytes: dict[int, bytes] = {}  # filled as tokens come up: a whole table costs 0.1 s
        added = raw.get_added_tokens_decoder()
        self._special = frozenset(id for id, token in added.items() if token.special)
        self._spelled = {
            id: token.content
            for id, token in added.items()
            if raw.model.token_to_id(token.content) is None
        }
        self._respelled = any(  # the library's decoder takes their characters for bytes
            not text.isascii() and bytes_of(text) != text.encode()
            for text in self._spelled.values()
        )
        self.size = max(raw.get_vocab_size(with_added_tokens=True), *(id + 1 for id in added), 0)
        self._known, self._embeddings = self.size, sys.maxsize

    @property
    def eos_id(self) -> int | None:
        """The token that a document ends with."""
        return self.roles.end

    @cached_property
    def unknown_id(self) -> int | None:
        """The token that stands for what the vocabulary lacks, if any; bytes lack nothing."""
        if self.byte_level:
            return None
        model = self.raw.model
        if hasattr(model, "unk_token"):
            text = model.unk_token
            return self.raw.token_to_id(text) if isinstance(text, str) else None
        try:  # Unigram does not tell it
            last = self.raw.encode(UNKNOWN_CHARACTER, add_special_tokens=False).ids[-1]
        except Exception:  # it has none
            return None
        return last if byte_of(self.raw.id_to_token(last)) is None else None

    def special_id(self, text: str) -> int | None:
        """The id of the special token that is written so, if there is one."""
        try:
            id = self.raw.token_to_id(text)
        except UnicodeEncodeError:  # a lone surrogate
            return None
        return id if id in self._special else None

    def limit(self, embeddings: int) -> None:
        """Know only tokens that the model has embeddings for; a text with others is refused."""
        self._embeddings = embeddings
        self.size = min(self._known, embeddings)
        self.roles = self.roles.within(embeddings)

    @cached_property
    def byte_level(self) -> bool:
        """Whether tokens stand for bytes (GPT-2's kind), so that `token_bytes` knows them."""
        from tokenizers.decoders import ByteLevel

        return isinstance(self.raw.decoder, ByteLevel)

    @cached_property
    def joining(self) -> Joining | None:
        """How tokens that are words are joined to a text; None for any other tokens."""
        return joining_of(self.raw)

    @cached_property
    def _knows_all(self) -> bool:
        """Whether there is a token for every byte, so that no text has an unknown character."""
        return self.byte_level and all(
            self.raw.token_to_id(character) is not None for character in BYTES
        )

    def unknown(self, text: str, ids: Sequence[int] | None = None) -> tuple[str, ...]:
        """The parts of a text that the vocabulary lacks, in their order. Raises as `encode`.

        `ids` are its tokens, where they are known: they mostly tell that it lacks nothing.
        """
        id = self.unknown_id
        if self._knows_all or (id is not None and ids is not None and id not in ids):
            return ()
        encoded = self._encoded(text, bare=True)
        if id is None:
            return tuple(lost(text, self.raw))
        return tuple(stood_for(text, encoded, id, self.raw.id_to_token(id)))

    def ends_in_lone_space(self, text: str) -> bool:
        """Whether the space at a text's end is a token, while the vocabulary's words begin with it.

        So it is in GPT-2. A space that the tokenizer drops, or that is always a token of its own,
        does no harm.
        """
        ids = self.encode(text) if text.endswith(" ") else []
        last = (self.raw.id_to_token(ids[-1]) or "")[-1:] if ids else ""
        if last not in SPACES:
            return False
        return any(token[0] == last != token[1:2] for token in self.raw.get_vocab() if token[1:])

    @cached_property
    def longest(self) -> int:
        """The most characters of a text that one token can stand for; no bound if not known."""
        if not self.byte_level or self.raw.normalizer is not None:
            return sys.maxsize
        return max(map(len, self.raw.get_vocab(with_added_tokens=True)))

    def encode(self, text: str, bare: bool = False) -> list[int]:
        """Token ids of a text; the text of a special token gives that token, as in transformers.

        Some tokenizers put a token of their own before a text (GPT-2's does not): not if `bare`.
        What they put behind it ([SEP], </s>) is left out: the text would be at its end. Raises
        BadInput for lone surrogates and BadModel where the tokenizer fails on this text.
        """
        encoded = self._encoded(text, bare)
        before = None if bare else self._before
        if before is None:
            return encoded.ids
        own = encoded.special_tokens_mask  # 1 for what stands around the text, not for its tokens
        if all(own):  # an empty text
            return encoded.ids[:before]
        return encoded.ids[: len(own) - own[::-1].index(0)]

    @cached_property
    def _before(self) -> int | None:
        """How many tokens the tokenizer puts before a text; None where it puts none anywhere."""
        if not self.raw.num_special_tokens_to_add(False):
            return None
        for text in ("a", *(self.raw.id_to_token(id) for id in range(MAX_TRIED))):
            try:
                own = self.raw.encode(text or "").special_tokens_mask
            except Exception:  # a vocabulary of words: this is none of them
                continue
            if 0 in own:
                return own.index(0)
        return 0

    def encode_word(self, text: str) -> list[int]:
        """Bare token ids of a text, to find them in other texts; none where one is unknown.

        Of a text that begins with no space they are those inside a text, without sentencepiece's
        mark of a word's beginning.
        """
        if (special := self.special_id(text)) is not None:
            return [special]
        try:
            ids = self.encode(text, bare=True)
        except BadInput:
            return []
        if ids and not text[0].isspace():
            first = self.raw.id_to_token(ids[0]) or ""
            ids = self._inside(text) or ids if first.startswith(SPACE) else ids
        return [] if self.unknown_id in ids else ids

    def _inside(self, text: str) -> list[int]:
        """The tokens behind a character with which none of them is joined; none if one is."""
        before, both = (
            self.encode(beginning, bare=True)
            for beginning in (UNKNOWN_CHARACTER, UNKNOWN_CHARACTER + text)
        )
        return both[len(before) :] if both[: len(before)] == before else []

    def _encoded(self, text: str, bare: bool) -> tokenizers.Encoding:
        try:
            encoded = self.raw.encode(text, add_special_tokens=not bare)
        except TypeError:
            raise BadInput(
                "the text cannot be encoded", "it holds a lone surrogate", "Give valid Unicode"
            ) from None
        except BaseException as error:
            if UNKNOWN.search(str(error)):
                why = "its vocabulary has no token for what it does not know"
                hint = "Give a text of the model's own tokens"
                raise BadInput("a word is not in the vocabulary", why, hint) from None
            refuse(error, self.name)
        ids = encoded.ids
        if ids and max(ids) >= self.size:
            self._check_id(max(ids))
        return encoded

    def _check_id(self, id: int) -> None:
        """Raise BadInput for a token without an embedding, BadModel for one that does not exist."""
        if id >= self._known:  # where ids have gaps, there are fewer tokens than ids
            ids = self.raw.get_vocab(with_added_tokens=True).values()
            self._known = min(max(ids) + 1, len(ids) + MAX_GAP)
            self.size = min(self._known, self._embeddings)
        if id < self.size:
            return
        if id >= self._known:
            raise broken(self.name, f"token id {id} in a vocabulary of {self._known}")
        shown = self.raw.id_to_token(id)
        raise BadInput(
            f"token {shown!r}",
            f"its id is {id}, but the model has embeddings for {self.size} tokens",
            "Leave it out of the text, or choose another model with -m",
        )

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

    def visible(self, ids: Sequence[int]) -> list[int]:
        """The tokens without special ones, which are none of the text."""
        return [id for id in ids if id not in self._special]

    def unseen_unknown(self, ids: Sequence[int]) -> str | None:
        """The unknown token as it is written, where it is among the ids and `decode` drops it."""
        id = self.unknown_id
        if id is None or id not in self._special or id not in ids:
            return None
        return self.token_text(id)

    def decode(self, ids: Sequence[int], special: bool = False) -> str:
        """The text of token ids, without special tokens; incomplete characters become U+FFFD.

        As in transformers, but where words are joined by spaces there are none between Chinese or
        Japanese characters: see `text.joining` beside this. With `special`, special
        tokens are shown.
        """
        if self._respelled and self.byte_level and not special:
            return b"".join(self.token_bytes(id) or b"" for id in ids).decode("utf-8", "replace")
        if self.joining is not None:
            return self.joining.joined(list(ids) if special else self.visible(ids))
        return self.raw.decode(list(ids), skip_special_tokens=not special)

    def token_text(self, id: int) -> str:
        """One token for display: as `decode`, with special tokens and the space of a word shown."""
        if id in self._spelled:
            return self._spelled[id]
        text: str = self.raw.decode([id], skip_special_tokens=False)
        token = self.raw.id_to_token(id) or ""
        if token.startswith(SPACE) and text[:1] != " ":
            return f" {text}"
        if token.endswith(WORD_ENDS) and id not in self._special and text[-1:] != " ":
            return f"{text} "
        return text

    def token_bytes(self, id: int) -> bytes | None:
        """The bytes that a token adds to the text: b"" for special and unknown tokens.

        None where the tokenizer is not byte-level: then tokens have no bytes of their own.
        """
        if not self.byte_level:
            return None
        if id not in self._bytes:
            token = None if id in self._special else self.raw.id_to_token(id)
            spelled = token is not None and id in self._spelled  # its text is its UTF-8
            self._bytes[id] = token.encode() if token and spelled else bytes_of(token or "")
        return self._bytes[id]


def broken(name: str, rule: str) -> BadModel:
    """The error for a tokenizer's file that breaks a rule."""
    return BadModel("corrupt model file", f"{name}: {rule}", AGAIN)


def refuse(error: BaseException, name: str) -> NoReturn:
    """Raise BadModel for a failure of the library.

    A panic of its Rust code arrives as a BaseException that no `except Exception` catches; what
    the interpreter itself raises to end the program goes on.
    """
    if isinstance(error, KeyboardInterrupt | SystemExit | MemoryError | GeneratorExit):
        raise error
    first = (str(error).splitlines() or [type(error).__name__])[0]
    raise broken(name, f"the tokenizer does not work: {first[:200]}") from None
