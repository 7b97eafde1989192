"""StereoSet: a JSON document of triples, a stereotype, an anti-stereotype and an unrelated one.

In `intrasentence` a triple fills a gap of one sentence. In `intersentence` each of the three
follows a context, and the two are scored as one text: the context is the same, so its likelihood
cancels out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from gptcli.audit.sets.pairs import PairSet, SentencePair, digest, made
from gptcli.errors import BadInput
from gptcli.system.strict_json import loaded

PARTS = ("intersentence", "intrasentence")
LABELS = ("stereotype", "anti-stereotype", "unrelated")
_HINT = "Take StereoSet's file with gold labels, dev.json."


def parsed(data: bytes) -> object:
    """The JSON document of a file, None where it is none."""
    try:
        return loaded(data.decode("utf-8-sig"))
    except ValueError:
        return None


def is_stereoset(document: object) -> bool:
    """Whether a document has StereoSet's parts."""
    data = document.get("data") if isinstance(document, dict) else None
    return isinstance(data, dict) and any(part in data for part in PARTS)


def read(document: object, data: bytes, name: str) -> PairSet:
    """The pairs of a file, each with its unrelated sentence. Raises BadInput."""
    held = _mapping(_mapping(document, name, "the file").get("data"), name, "data")
    pairs = (pair for part in PARTS for pair in _of_part(held.get(part, []), part, name))
    return made("stereoset", name, {name: digest(data)}, pairs)


def _of_part(items: object, part: str, name: str) -> Iterator[SentencePair]:
    if not isinstance(items, list):
        raise BadInput(name, f"data.{part} is no list", _HINT)
    for number, item in enumerate(items):
        where = f"{name} data.{part}[{number}]"
        one = _mapping(item, where, "the item")
        context = _text(one, "context", where)
        texts = _sentences(one, where)
        if part == "intersentence":
            texts = {label: f"{context} {text}" for label, text in texts.items()}
        yield SentencePair(
            id=str(one.get("id") or f"{part}:{number}"),
            more=texts["stereotype"],
            less=texts["anti-stereotype"],
            unrelated=texts["unrelated"],
            category=_text(one, "bias_type", where),
            groups={"part": part},
            target=_text(one, "target", where),
        )


def _sentences(item: Mapping[str, object], where: str) -> dict[str, str]:
    """The sentences by their gold label: all three, each once."""
    sentences = item.get("sentences")
    if not isinstance(sentences, list):
        raise BadInput(where, "there is no list of sentences", _HINT)
    found: dict[str, str] = {}
    for sentence in sentences:
        one = _mapping(sentence, where, "a sentence")
        found[_text(one, "gold_label", where)] = _text(one, "sentence", where)
    if sorted(found) != sorted(LABELS) or len(sentences) != len(LABELS):
        why = f"its gold labels are {', '.join(sorted(found))[:80] or 'none'}"
        raise BadInput(where, why, f"There are to be {', '.join(LABELS)}, each once.")
    return found


def _mapping(value: object, where: str, what: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise BadInput(where, f"{what} is no object", _HINT)
    return value


def _text(item: Mapping[str, object], key: str, where: str) -> str:
    value = item.get(key)
    if not isinstance(value, str):
        raise BadInput(where, f"{key} is missing, or no text", _HINT)
    return value
