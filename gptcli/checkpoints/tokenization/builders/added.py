"""Tokens beside the vocabulary, special ones, and those that stand around every text.

added_tokens.json and tokenizer_config.json (added_tokens_decoder) add tokens;
special_tokens_map.json and tokenizer_config.json say which are special.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gptcli.checkpoints.tokenization.builders.reading import MAX_GAP, ids_of, unused
from gptcli.checkpoints.tokenization.kinds import Recognised
from gptcli.checkpoints.tokenization.roles import END_OF_TEXT, token_text
from gptcli.system.strict_json import Object, corrupt

if TYPE_CHECKING:
    import tokenizers

ADDED = "added_tokens.json"
SPECIAL_ROLES = (
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
)
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized")


def add_tokens(raw: tokenizers.Tokenizer, found: Recognised, named: Object) -> None:
    """Add what the files beside the vocabulary list, and mark the special tokens.

    Raises BadModel where added_tokens.json does not fit the vocabulary; beside tokenizer.json,
    which comes first, what does not fit is passed over.
    """
    file = found.file.parent / ADDED
    listed = sorted(ids_of(file).items(), key=lambda one: one[1]) if file.exists() else []
    for token, id in listed:
        if not _add_at(raw, _entry(token), id) and found.kind.builder != "json":
            raise corrupt(file, f"its ids do not continue those of {found.file.name}")
    _add_listed(raw, named)
    if found.kind.builder == "byte_level" and raw.token_to_id(END_OF_TEXT) is not None:
        raw.add_special_tokens([_entry(END_OF_TEXT, special=True)])  # even if no file says so


def mark_special(raw: tokenizers.Tokenizer, named: Object) -> None:
    """Mark the special tokens of all files."""
    # Only tokens that exist: a new one would get an id for which the model has no embedding.
    added = {token.content: token for token in raw.get_added_tokens_decoder().values()}
    special = {text for text, token in added.items() if token.special}
    for text, entry in reversed(_entries(named).items()):
        if text not in special and raw.token_to_id(text) is not None:
            flags = _flags_of(added[text]) if text in added else entry
            raw.add_special_tokens([_flagged(text, flags, special=True)])


def _flags_of(token: tokenizers.AddedToken) -> dict[str, bool]:
    return {key: getattr(token, key) for key in _FLAGS}


def begin_with(raw: tokenizers.Tokenizer, named: Object) -> None:
    """Put the begin token before every text where `add_bos_token` asks for it.

    `add_eos_token` asks for one behind, which would end every prompt, see `Tokenizer.encode`.
    """
    if named.get("add_bos_token") is True and raw.post_processor is None:
        _surround(raw, [token_text(named.get("bos_token")) or END_OF_TEXT], [])


def put_around(raw: tokenizers.Tokenizer, settings: Object) -> None:
    """Put cls_token before every text and sep_token behind it, those that there are."""
    first, last = (token_text(settings.get(role)) for role in ("cls_token", "sep_token"))
    _surround(raw, [first] if first else [], [last] if last else [])


def add_whole_words(raw: tokenizers.Tokenizer, words: Sequence[object]) -> None:
    """Keep words of the vocabulary whole, as BERT's `never_split` says."""
    from tokenizers import AddedToken

    known = [word for word in words if isinstance(word, str) and raw.token_to_id(word) is not None]
    raw.add_tokens([AddedToken(word, single_word=True, normalized=False) for word in known])


def _surround(raw: tokenizers.Tokenizer, before: list[str], behind: list[str]) -> None:
    from tokenizers import processors

    ids = {text: raw.token_to_id(text) for text in (*before, *behind)}
    known = {text: id for text, id in ids.items() if id is not None}
    template = [f"{text}:0" for text in before if text in known]
    template += ["$A:0", *(f"{text}:0" for text in behind if text in known)]
    if known:
        raw.post_processor = processors.TemplateProcessing(
            single=template, special_tokens=list(known.items())
        )


def _entry(token: str, special: bool = False) -> tokenizers.AddedToken:
    from tokenizers import AddedToken

    return AddedToken(token, normalized=False, special=special)


def _add_at(raw: tokenizers.Tokenizer, token: tokenizers.AddedToken, id: int) -> bool:
    """Add a token at an id; whether it stands there now.

    The library gives ids one after the other, so tokens that no text can hold fill a gap.
    """
    if raw.token_to_id(token.content) is None:
        gap = range(raw.get_vocab_size(with_added_tokens=True), id)
        if len(gap) > MAX_GAP:
            return False
        raw.add_tokens([_entry(unused(number)) for number in gap])
        if id != raw.get_vocab_size(with_added_tokens=True):
            return False  # the id is another token's
    (raw.add_special_tokens if token.special else raw.add_tokens)([token])
    return raw.token_to_id(token.content) == id


def _add_listed(raw: tokenizers.Tokenizer, named: Object) -> None:
    """Add the tokens of added_tokens_decoder in tokenizer_config.json that are none of `raw` yet.

    An entry that is no token, or whose id is another token's, is passed over: the vocabulary wins.
    """
    listed = named.get("added_tokens_decoder")
    entries = listed.items() if isinstance(listed, dict) else ()
    numbered = [(int(id), entry) for id, entry in entries if id.isdecimal() and len(id) < 10]
    added = {token.content for token in raw.get_added_tokens_decoder().values()}
    for id, entry in sorted(numbered, key=lambda item: item[0]):
        text = token_text(entry)
        known = None if text is None else raw.token_to_id(text)
        if text is None or text in added or known not in (None, id) or not isinstance(entry, dict):
            continue
        _add_at(raw, _flagged(text, entry, entry.get("special") is True), id)


def _flagged(text: str, entry: object, special: bool) -> tokenizers.AddedToken:
    """A token with the flags that a file gives it, such as `lstrip` of <mask>."""
    from tokenizers import AddedToken

    flags = entry if isinstance(entry, dict) else {}
    return AddedToken(text, special=special, **{key: flags.get(key) is True for key in _FLAGS})


def _entries(named: Object) -> dict[str, object]:
    """All special tokens by their texts; transformers 5 writes `extra_special_tokens`."""
    found = [named.get(role) for role in SPECIAL_ROLES]
    found += _values(named.get("additional_special_tokens"))
    found += _values(named.get("extra_special_tokens"))
    for entry in _values(named.get("added_tokens_decoder")):
        if isinstance(entry, dict) and entry.get("special") is True:
            found.append(entry)
    return {text: entry for entry in reversed(found) if (text := token_text(entry)) is not None}


def _values(group: object) -> list[object]:
    """What a list or an object holds; nothing of anything else."""
    if isinstance(group, dict):
        return list(group.values())
    return list(group) if isinstance(group, list) else []
