"""What a GGUF file says of a tokenizer, and what is asked of ours to say it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from gptcli.checkpoints.formats.locked.readers.ggml.tokens import CONTROL, NORMAL, UNUSED, USER
from gptcli.checkpoints.tokenization.builders.reading import unused
from gptcli.checkpoints.tokenization.tokenizer import Tokenizer
from gptcli.errors import BadModel

Json = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class GgufTokenizer:
    """What a GGUF file says of its tokenizer: tokens by id, and settings by key."""

    model: str
    texts: list[str]
    types: list[int]
    pre: str = ""
    merges: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    ids: Mapping[str, int] = field(default_factory=dict)  # special tokens by role
    switches: Mapping[str, bool] = field(default_factory=dict)
    charsmap: bytes = b""
    template: str | None = None
    notices: tuple[str, ...] = ()

    def add_to(self, writer: Any) -> None:
        """Add all of it to a GGUFWriter."""
        writer.add_tokenizer_model(self.model)
        if self.pre:
            writer.add_tokenizer_pre(self.pre)
        writer.add_token_list(self.texts)
        writer.add_token_types(self.types)
        if self.scores:
            writer.add_token_scores(self.scores)
        if self.merges:
            writer.add_token_merges(self.merges)
        if self.charsmap:
            writer.add_precompiled_charsmap(self.charsmap)
        for role, id in self.ids.items():
            writer.add_uint32(f"tokenizer.ggml.{role}_token_id", id)
        for name, switch in self.switches.items():
            writer.add_bool(f"tokenizer.ggml.{name}", switch)
        if self.template:
            writer.add_chat_template(self.template)


def refuse_tokenizer(what: str) -> NoReturn:
    """Raise BadModel for something that llama.cpp's tokenizers do not do."""
    hint = "Use it here, or write it for CTranslate2, which leaves texts to our tokenizer"
    raise BadModel("llama.cpp", f"it has no tokenizer like the model's: {what}", hint)


class GivenTokenizer:
    """A tokenizer, and what all kinds ask of it."""

    def __init__(self, tokenizer: Tokenizer, whole: Json, embeddings: int) -> None:
        self.whole, self.embeddings = whole, embeddings
        self.tokenizer, self._raw = tokenizer, tokenizer.raw
        self.model: Json = whole["model"]
        self.added = {
            id: token
            for id, token in tokenizer.raw.get_added_tokens_decoder().items()
            if id < embeddings
        }
        for token in self.added.values():
            if not token.special and (token.lstrip or token.rstrip or token.single_word):
                refuse_tokenizer(
                    f"the token {token.content!r:.40} takes spaces or whole words only"
                )
        self.before, self.behind = self._around()

    def _around(self) -> tuple[list[int], list[int]]:
        """The ids that the tokenizer puts around a text."""
        found = self._raw.encode("")
        ids = found.ids
        middle = self._raw.post_processor
        if middle is None or not ids:
            return [], []
        probe = self._raw.encode("a")
        bare = self._raw.encode("a", add_special_tokens=False).ids
        count = next(
            (n for n in range(len(ids) + 1) if probe.ids[n : n + len(bare)] == bare), len(ids)
        )
        return ids[:count], ids[count:]

    def texts(self) -> tuple[list[str], list[int]]:
        """The text and llama.cpp's type of each id."""
        known: set[str] = set()
        texts, types = [], []
        for id in range(self.embeddings):
            token = self._raw.id_to_token(id)
            kind = NORMAL
            if token is None or token == unused(id):
                token, kind = f"[unused {id}]", UNUSED
            elif id in self.added:
                kind = CONTROL if self.added[id].special else USER
            while token in known:
                token = f"{token}_"
            known.add(token)
            texts.append(token)
            types.append(kind)
        return texts, types

    def roles(self) -> dict[str, int]:
        """The ids of the tokens that begin and end texts, by llama.cpp's names."""
        roles = self.tokenizer.roles.within(self.embeddings)
        named = {"bos": roles.begin, "eos": roles.end}
        return {role: id for role, id in named.items() if id is not None}

    def only_begins(self) -> dict[str, bool]:
        """The switches for a tokenizer that may put its begin token before a text.

        What it puts behind a text is left out: it would end each prompt.
        """
        if self.before not in ([], [self.roles().get("bos")]):
            refuse_tokenizer("it puts other tokens than its begin token before a text")
        return {"add_bos_token": bool(self.before), "add_eos_token": False}
