"""A tokenizer built from the files of a checkpoint.

tokenizer.json says everything by itself. Older GPT-2 checkpoints have vocab.json and merges.txt
instead, which leave open how they are used; here they become the same byte-level BPE that
transformers' GPT2Tokenizer makes of them, so that every text gets the same ids. Which tokens are
special can also stand in special_tokens_map.json and tokenizer_config.json. Whether the result
works is for `gptcli.checkpoints.tokenizer` to try.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gptcli.errors import BadModel
from gptcli.system.strict_json import Object, corrupt, read_bytes, read_object

if TYPE_CHECKING:
    import tokenizers

JSON, VOCABULARY, MERGES = "tokenizer.json", "vocab.json", "merges.txt"
SUFFICIENT = {JSON}, {VOCABULARY, MERGES}  # either set of files is a tokenizer
MAX_FILE_BYTES = 2**27  # bytes of a tokenizer file; the largest in use have about 2^25
END_OF_TEXT = "<|endoftext|>"
SPECIAL_ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token")


def build(folder: Path) -> tuple[tokenizers.Tokenizer, int | None]:
    """The library's tokenizer, without padding and truncation, and the id of its end token.

    Raises BadModel for missing or corrupt files; what the library raises goes through.
    """
    import tokenizers

    roles = _roles(folder)
    if (folder / JSON).exists():
        raw = tokenizers.Tokenizer.from_buffer(read_bytes(folder / JSON, MAX_FILE_BYTES))
        raw.no_padding()
        raw.no_truncation()
    else:
        raw = _from_vocabulary(folder, roles)
    _mark_special(raw, roles)
    return raw, raw.token_to_id(_text(roles.get("eos_token")) or END_OF_TEXT)


def _byte_characters() -> dict[str, int]:
    """The byte that each character of a byte-level token stands for (GPT-2's encoder.py).

    Printable bytes of Latin-1 stand for themselves; the other 68 follow from U+0100, in order.
    """
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {
        chr(0x100 + place): byte for place, byte in enumerate(others)
    }


BYTES = _byte_characters()


def bytes_of(token: str) -> bytes:
    """The bytes of a byte-level token, as the library's decoder takes them.

    A token with any other character, such as an added one with a space, is plain text to it.
    """
    try:
        return bytes(map(BYTES.__getitem__, token))
    except KeyError:
        return token.encode()


def _from_vocabulary(folder: Path, roles: Object) -> tokenizers.Tokenizer:
    """GPT-2's byte-level BPE from its two files, as transformers' GPT2Tokenizer builds it."""
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers

    vocab, merges = folder / VOCABULARY, folder / MERGES
    if not (vocab.exists() and merges.exists()):
        raise BadModel(
            "no tokenizer",
            f"{folder} holds neither {JSON} nor {VOCABULARY} and {MERGES}",
            "Copy the tokenizer of the model it was trained from into the folder",
        )
    raw = tokenizers.Tokenizer(
        models.BPE(
            _vocabulary(vocab), _merges(merges), continuing_subword_prefix="", end_of_word_suffix=""
        )
    )
    prefix = roles.get("add_prefix_space") is True
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    raw.decoder = decoders.ByteLevel()
    _add_tokens(raw, folder)
    return raw


def _vocabulary(file: Path) -> dict[str, int]:
    vocabulary = read_object(file, MAX_FILE_BYTES)
    ids = {}
    for token, id in vocabulary.items():
        if not isinstance(id, int) or isinstance(id, bool) or not 0 <= id < 2**31:
            raise corrupt(file, "a token's id is not a whole number")
        ids[token] = id
    return ids


def _merges(file: Path) -> list[tuple[str, str]]:
    try:
        lines = read_bytes(file, MAX_FILE_BYTES).decode().split("\n")
    except UnicodeDecodeError as error:
        raise corrupt(file, f"invalid UTF-8 at byte {error.start}") from None
    pairs = []
    for number, line in enumerate(lines, 1):
        if not line.strip("\r") or (number == 1 and line.startswith("#version")):
            continue
        left, _, right = line.strip("\r").partition(" ")
        if not left or not right or " " in right:
            raise corrupt(file, f"line {number} is not two parts of a token")
        pairs.append((left, right))
    return pairs


def _add_tokens(raw: tokenizers.Tokenizer, folder: Path) -> None:
    """Tokens beside the BPE, from added_tokens.json, each at the id that it has there."""
    from tokenizers import AddedToken

    file = folder / "added_tokens.json"
    listed = _vocabulary(file) if file.exists() else {}
    for token, id in sorted(listed.items(), key=lambda item: item[1]):
        raw.add_tokens([AddedToken(token, normalized=False)])
        if raw.token_to_id(token) != id:
            raise corrupt(file, f"its ids do not continue those of {VOCABULARY}")
    if raw.token_to_id(END_OF_TEXT) is not None:  # special in GPT-2, even if no file says so
        raw.add_special_tokens([AddedToken(END_OF_TEXT, normalized=False, special=True)])


def _roles(folder: Path) -> Object:
    """Which tokens are special, from special_tokens_map.json and tokenizer_config.json."""
    found: dict[str, object] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (folder / name).exists():
            found |= read_object(folder / name, 2**24)
    return found


def named_token(folder: Path, role: str) -> str | None:
    """The text of the token that the files name for a role, such as `eos_token`, if they do."""
    return _text(_roles(folder).get(role))


def _text(role: object) -> str | None:
    """A token's text, which stands there alone or as `content` of an object."""
    if isinstance(role, dict):
        role = role.get("content")
    return role if isinstance(role, str) and role else None


def _texts(roles: Object) -> list[str]:
    extra = roles.get("additional_special_tokens")
    named = [roles.get(role) for role in SPECIAL_ROLES] + (extra if isinstance(extra, list) else [])
    return [text for text in map(_text, named) if text is not None]


def _mark_special(raw: tokenizers.Tokenizer, roles: Object) -> None:
    # Only tokens that exist: a new one would get an id for which the model has no embedding.
    from tokenizers import AddedToken

    known = [text for text in dict.fromkeys(_texts(roles)) if raw.token_to_id(text) is not None]
    special = {token.content for token in raw.get_added_tokens_decoder().values() if token.special}
    raw.add_special_tokens(
        [AddedToken(text, normalized=False, special=True) for text in known if text not in special]
    )
