"""A tokenizer built from the files of a checkpoint.

tokenizer.json says everything by itself. Older GPT-2 checkpoints have vocab.json and merges.txt
instead, which leave open how they are used; here they become the same byte-level BPE that
transformers' GPT2Tokenizer makes of them, so that every text gets the same ids. Beside either,
added_tokens.json and tokenizer_config.json (added_tokens_decoder) can add tokens, and
special_tokens_map.json and tokenizer_config.json can say which are special. Not here: what the
tokens are for is in `gptcli.checkpoints.tokenization.roles`; `loading` beside it tries the result.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gptcli.checkpoints.file_kinds import MAX_TOKENIZER_BYTES
from gptcli.checkpoints.tokenization.roles import END_OF_TEXT, token_text
from gptcli.errors import BadModel
from gptcli.system.strict_json import Object, corrupt, read_bytes, read_object

if TYPE_CHECKING:
    import tokenizers

JSON, VOCABULARY, MERGES = "tokenizer.json", "vocab.json", "merges.txt"
ADDED, TOKENIZER_CONFIG = "added_tokens.json", "tokenizer_config.json"
SUFFICIENT = {JSON}, {VOCABULARY, MERGES}  # either set of files is a tokenizer
MAX_GAP = 2**12  # ids without a token before an added one
SPECIAL_ROLES = (
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
)


def build(folder: Path, named: Object) -> tokenizers.Tokenizer:
    """The library's tokenizer, without padding and truncation.

    named: what `gptcli.checkpoints.tokenization.roles` finds (`named_roles`) in the folder. Raises
    BadModel for missing or corrupt files; what the library raises goes through.
    """
    import tokenizers

    if (folder / JSON).exists():
        raw = tokenizers.Tokenizer.from_buffer(read_bytes(folder / JSON, MAX_TOKENIZER_BYTES))
        raw.no_padding()
        raw.no_truncation()
        _add_listed(raw, named)
    else:
        raw = _from_vocabulary(folder, named)
    _mark_special(raw, named)
    if not (folder / JSON).exists() and named.get("add_bos_token") is True:
        _begin_with(raw, token_text(named.get("bos_token")) or END_OF_TEXT)
    return raw


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


def _from_vocabulary(folder: Path, named: Object) -> tokenizers.Tokenizer:
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
            _ids_of(vocab), _merges(merges), continuing_subword_prefix="", end_of_word_suffix=""
        )
    )
    prefix = named.get("add_prefix_space") is True
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    raw.decoder = decoders.ByteLevel()
    file = folder / ADDED
    for token, id in sorted(
        _ids_of(file).items() if file.exists() else (), key=lambda item: item[1]
    ):
        if not _add_at(raw, _entry(token), id):
            raise corrupt(file, f"its ids do not continue those of {VOCABULARY}")
    _add_listed(raw, named)
    if raw.token_to_id(END_OF_TEXT) is not None:  # special in GPT-2, even if no file says so
        raw.add_special_tokens([_entry(END_OF_TEXT, special=True)])
    return raw


def _ids_of(file: Path) -> dict[str, int]:
    vocabulary = read_object(file, MAX_TOKENIZER_BYTES)
    ids = {}
    for token, id in vocabulary.items():
        if not isinstance(id, int) or isinstance(id, bool) or not 0 <= id < 2**31:
            raise corrupt(file, "a token's id is not a whole number")
        ids[token] = id
    return ids


def _merges(file: Path) -> list[tuple[str, str]]:
    try:
        lines = read_bytes(file, MAX_TOKENIZER_BYTES).decode().split("\n")
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
        raw.add_tokens([_entry(f"\0unused {number}\0") for number in gap])
        if id != raw.get_vocab_size(with_added_tokens=True):
            return False  # the id is another token's
    (raw.add_special_tokens if token.special else raw.add_tokens)([token])
    return raw.token_to_id(token.content) == id


def _add_listed(raw: tokenizers.Tokenizer, named: Object) -> None:
    """Add the tokens of added_tokens_decoder in tokenizer_config.json that `raw` lacks.

    An entry that is no token, or whose id is another token's, is passed over: the vocabulary wins.
    """
    listed = named.get("added_tokens_decoder")
    entries = listed.items() if isinstance(listed, dict) else ()
    numbered = [(int(id), entry) for id, entry in entries if id.isdecimal() and len(id) < 10]
    for id, entry in sorted(numbered, key=lambda item: item[0]):
        text = token_text(entry)
        if text is None or not isinstance(entry, dict) or raw.token_to_id(text) is not None:
            continue
        from tokenizers import AddedToken

        flags = {key: entry.get(key) is True for key in _FLAGS}
        _add_at(raw, AddedToken(text, **flags), id)


_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


def _begin_with(raw: tokenizers.Tokenizer, token: str) -> None:
    """Put a token before every text, as GPT2Tokenizer does with add_bos_token."""
    from tokenizers import processors

    id = raw.token_to_id(token)
    if id is not None:
        raw.post_processor = processors.TemplateProcessing(
            single=[f"{token}:0", "$A:0"], special_tokens=[(token, id)]
        )


def _texts(named: Object) -> list[str]:
    """The texts of all special tokens; transformers 5 writes `extra_special_tokens`."""
    found = [named.get(role) for role in SPECIAL_ROLES]
    found += _values(named.get("additional_special_tokens"))
    found += _values(named.get("extra_special_tokens"))
    for entry in _values(named.get("added_tokens_decoder")):
        if isinstance(entry, dict) and entry.get("special") is True:
            found.append(entry)
    return [text for text in map(token_text, found) if text is not None]


def _values(group: object) -> list[object]:
    """What a list or an object holds; nothing of anything else."""
    if isinstance(group, dict):
        return list(group.values())
    return list(group) if isinstance(group, list) else []


def _mark_special(raw: tokenizers.Tokenizer, named: Object) -> None:
    # Only tokens that exist: a new one would get an id for which the model has no embedding.
    known = [text for text in dict.fromkeys(_texts(named)) if raw.token_to_id(text) is not None]
    special = {token.content for token in raw.get_added_tokens_decoder().values() if token.special}
    raw.add_special_tokens([_entry(text, special=True) for text in known if text not in special])
