"""What a model card says of its model: the front matter of README.md.

The front matter is YAML, of which cards use little: keys with a text, or with a list of texts. Just
that is read here, without a YAML library, whose anchors and tags are more than a stranger's file
should have. Whatever else stands there is passed over.
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from gptcli.errors import GptcliError
from gptcli.system.strict_json import open_model_file

FILE = "README.md"
MAX_CARD_BYTES = 2**16  # bytes of the file that are looked at
SHOWN_KEYS = (  # the keys that say something about a model
    *("license", "license_name", "license_link", "language", "library_name", "pipeline_tag"),
    *("base_model", "datasets", "tags"),
)
_KEY = re.compile(r"([A-Za-z_][A-Za-z0-9_-]*):(?: +(.*))?")
_ITEM = re.compile(r" *- +(.*)")

CardFields = dict[str, str | list[str]]


def read_card(folder: Path) -> CardFields | None:
    """The facts of a model's card by key; None where there is no card, or none that can be read."""
    file = folder / FILE
    if not file.exists():
        return None
    with suppress(GptcliError, OSError, UnicodeDecodeError), open_model_file(file) as stream:
        return front_matter(stream.read(MAX_CARD_BYTES).decode("utf-8-sig", "replace"))
    return None


def front_matter(text: str) -> CardFields:
    """The keys of `SHOWN_KEYS` that stand between the first two lines of three dashes."""
    lines = text.splitlines()
    if not lines or lines[0].rstrip() != "---":
        return {}
    found: CardFields = {}
    key = ""
    for line in lines[1:]:
        if line.rstrip() in ("---", "..."):
            return {name: value for name, value in found.items() if name in SHOWN_KEYS and value}
        named, item = _KEY.fullmatch(line.rstrip()), _ITEM.fullmatch(line.rstrip())
        if named:
            key = named[1]
            found[key] = _value(named[2] or "")
        elif item and isinstance(found.get(key, ""), list) and ": " not in item[1]:
            found[key] = [*found[key], _plain(item[1])]
        elif line.strip() and not line.lstrip().startswith("#"):
            key = ""  # something nested: its items are not the key's
    return {}  # no end: a rule in the text, or a file cut off


def _value(text: str) -> str | list[str]:
    text = _plain(text)
    if not text:
        return []  # a list may follow
    if text.startswith("[") and text.endswith("]"):
        return [_plain(part) for part in text[1:-1].split(",") if part.strip()]
    return "" if text[0] in "{&*!|>" else text


def _plain(text: str) -> str:
    """A scalar without its quotes, or without the comment behind it."""
    text = text.strip()
    if len(text) > 1 and text[0] in "\"'" and text[-1] == text[0]:
        return text[1:-1]
    return re.sub(r"(^| +)#.*", "", text).strip()
