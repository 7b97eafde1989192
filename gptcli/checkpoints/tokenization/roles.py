"""Which tokens begin and end a text: one answer for every command.

A checkpoint names these tokens in up to four files, which often disagree: config.json and
generation_config.json hold ids, special_tokens_map.json and tokenizer_config.json hold texts. Files
that were copied from another model name tokens that do not exist, or an ordinary word. The rules:

- begin: the tokenizer's bos_token, else the configuration's, else cls_token, else the end token;
- end: generation_config.json's or else config.json's ids, as transformers has it, and the
  tokenizer's eos_token, as vLLM has it; where no file names one, sep_token, which BERT's kind of
  tokenizer puts behind every text;
- a token counts if the model has an embedding for it. An ordinary word never begins a text; where
  the configuration says that one ends a text, it is the text's last word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gptcli.system.strict_json import Object, read_object

if TYPE_CHECKING:
    import tokenizers

END_OF_TEXT = "<|endoftext|>"
GPT2_END = 50256  # the default of transformers' GPT2Config
MARKER = re.compile(r"<[^<>\s]+>|\[[A-Z][A-Z_]*\]")  # what looks like a special token
# Of special_tokens_map.json and tokenizer_config.json, which also lists added tokens.
MAX_CONFIG_BYTES = 2**24


@dataclass(frozen=True, kw_only=True)
class TokenRoles:
    """The tokens that begin and end texts, by id.

    `begin` stands before a text that has nothing before it. `ends` end a generated text; those
    among them that are `words` belong to the text. `end` is the token that a document ends with.
    """

    begin: int | None = None
    end: int | None = None
    ends: tuple[int, ...] = ()
    words: frozenset[int] = frozenset()

    def within(self, embeddings: int) -> TokenRoles:
        """The roles of a model that has so many embeddings: tokens beyond them have none."""
        ends = tuple(id for id in self.ends if id < embeddings)
        end = self.end if self.end in ends else None
        begin = self.begin if self.begin is not None and self.begin < embeddings else end
        return TokenRoles(begin=begin, end=end, ends=ends, words=self.words & {*ends})

    def with_defaults(self, begin: object, ends: object) -> TokenRoles:
        """The roles where no file names any: those of the architecture's defaults."""
        found = self
        if not self.ends and (given := tuple(_ids(ends))):
            found = replace(found, end=given[0], ends=given)
        if self.begin is None:
            first = next(_ids(begin), found.end)
            found = replace(found, begin=first)
        return found


def only_end(id: int | None) -> TokenRoles:
    """The roles where one token, if any, both begins and ends texts, as in GPT-2."""
    return TokenRoles(begin=id, end=id, ends=() if id is None else (id,))


def named_roles(folder: Path) -> Object:
    """Special tokens by role, from special_tokens_map.json and tokenizer_config.json.

    The latter wins, as in transformers. Raises BadModel and MissingInput.
    """
    found: dict[str, object] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (folder / name).exists():
            found |= read_object(folder / name, MAX_CONFIG_BYTES)
    return found


def token_text(role: object) -> str | None:
    """A token's text, which stands there alone or as `content` of an object."""
    if isinstance(role, dict):
        role = role.get("content")
    return role if isinstance(role, str) and role else None


def token_roles(folder: Path, raw: tokenizers.Tokenizer, named: Object) -> TokenRoles:
    """The roles that the files of a checkpoint give to the tokens of `raw`.

    A folder without config.json is a tokenizer alone. Raises BadModel and MissingInput.
    """
    config = model_config(folder)
    return _Naming(raw, named, config, model_config(folder, "generation_config.json")).roles()


def model_config(folder: Path, name: str = "config.json") -> Object:
    """What config.json or its neighbour says; nothing where it is not there. Raises BadModel."""
    return read_object(folder / name) if (folder / name).exists() else {}


class _Naming:
    """What each file says, while the roles are decided."""

    def __init__(
        self, raw: tokenizers.Tokenizer, named: Object, config: Object, generation: Object
    ) -> None:
        self._raw, self._named = raw, named
        self._config, self._generation = config, generation
        self._added = frozenset(raw.get_added_tokens_decoder())
        size = config.get("vocab_size")
        known = max(raw.get_vocab_size(with_added_tokens=True), *(id + 1 for id in self._added), 0)
        self._size = size if type(size) is int and size > 0 else known

    def roles(self) -> TokenRoles:
        """All of them."""
        eos = self._of_tokenizer("eos_token")
        ends = dict.fromkeys(self._configured_ends())
        if eos is None and not any(map(self._is_marker, ends)):
            eos = self._id(END_OF_TEXT)
        if eos is None and not ends:
            eos = self._of_tokenizer("sep_token")
        ends |= dict.fromkeys([] if eos is None else [eos])
        markers = [id for id in ends if self._is_marker(id)]
        end = eos if eos is not None else next(iter(markers), None)
        words = frozenset(ends) - frozenset(markers)
        return TokenRoles(begin=self._begin(end), end=end, ends=tuple(ends), words=words)

    def _begin(self, end: int | None) -> int | None:
        configured = [
            id
            for file in (self._generation, self._config)
            for id in self._ids(file, "bos_token_id")
        ]
        likely = [
            self._of_tokenizer("bos_token"),
            *filter(self._is_marker, configured),
            self._of_tokenizer("cls_token"),
            end,
        ]
        return next((id for id in likely if id is not None), None)

    def _configured_ends(self) -> Iterator[int]:
        """generation_config.json wins over config.json, whose ids then count only as markers."""
        first = list(self._ids(self._generation, "eos_token_id"))
        yield from first
        config = self._config
        if config.get("model_type") == "gpt2" and "eos_token_id" not in config:
            config = {"eos_token_id": GPT2_END}
        for id in self._ids(config, "eos_token_id"):
            if not first or self._is_marker(id):
                yield id

    def _ids(self, file: Object, key: str) -> Iterator[int]:
        yield from (id for id in _ids(file.get(key)) if id < self._size)

    def _of_tokenizer(self, role: str) -> int | None:
        text = token_text(self._named.get(role))
        return None if text is None else self._id(text)

    def _id(self, text: str) -> int | None:
        id = self._raw.token_to_id(text)
        return id if id is not None and id < self._size else None

    def _is_marker(self, id: int) -> bool:
        """Whether a token is none of the text: added to the vocabulary, or written as if."""
        return id in self._added or bool(MARKER.fullmatch(self._raw.id_to_token(id) or ""))


def _ids(value: object) -> Iterator[int]:
    """Token ids from null, a number or a list; whatever else stands there is passed over."""
    for item in value if isinstance(value, list) else [value]:
        if type(item) is int and item >= 0:
            yield item
