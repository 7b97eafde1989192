"""Phrase lists: files of the user's, and ours.

A list is plain text in UTF-8, one phrase a line. `#` begins a comment line; `[de]` begins the
phrases of a language, `[*]` those of any. A phrase after `=` is exact: only the same characters
match, in any case. `basic` is ours, stored so that nobody reads it by accident.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from gptcli.errors import BadInput, MissingInput, UsageError
from gptcli.inputs.encoding import refuse_foreign
from gptcli.moderation.phrases import Phrase, phrase
from gptcli.system.os_errors import reason
from gptcli.system.regular_files import open_once

SUFFIX = ".txt"
OURS = Path(__file__).parent / "shipped"
OUR_SUFFIX = ".b64"
MAX_BYTES = 16 << 20
MAX_PHRASES = 200_000
MAX_LINE = 1000  # characters
_NAME = re.compile(r"[A-Za-z0-9][\w-]{0,63}", re.ASCII)
_SECTION = re.compile(r"\[\s*([A-Za-z]{2,3}(?:[-_][A-Za-z0-9]{2,8})*|\*)\s*\]", re.ASCII)


@dataclass(frozen=True)
class PhraseList:
    """A list with the SHA-256 of its text."""

    name: str
    sha256: str
    phrases: tuple[Phrase, ...]


def user_folder() -> Path:
    """The folder of the user's own lists, which need not exist."""
    import platformdirs

    return Path(platformdirs.user_config_dir("gptcli", appauthor=False)) / "filters"


def names() -> list[str]:
    """The names of all lists, sorted."""
    found = {path.stem for path in user_folder().glob(f"*{SUFFIX}") if _NAME.fullmatch(path.stem)}
    return sorted(found | {path.stem for path in OURS.glob(f"*{OUR_SUFFIX}")})


def read_lists(named: Collection[str], languages: Collection[str] = ()) -> tuple[PhraseList, ...]:
    """The lists of some names, each once. Raises as `read_list`, UsageError for a language."""
    named = tuple(dict.fromkeys(named))
    shorts = [_short(name) for name in named]
    found = tuple(
        read_list(name, languages, name if shorts.count(short) > 1 else short)
        for name, short in zip(named, shorts, strict=True)
    )
    if languages and not any(one.phrases for one in found):
        why = f"no list has phrases for {', '.join(languages)}"
        raise UsageError("--filter-language", why, "Leave it out.")
    return found


def read_list(named: str, languages: Collection[str] = (), called: str | None = None) -> PhraseList:
    """The list of a name, or in a file; a name wins where it has no slash and no suffix.

    `called`: how results name it, by default without its folder. Raises MissingInput; BadInput,
    naming the line, for a text that is no list.
    """
    data, name = _data(named), called or _short(named)
    refuse_foreign(data, f"filter {name}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        hint = "Convert it with iconv."
        raise BadInput(f"filter {name}: line {line}", "it is not UTF-8", hint) from None
    wanted = {language.casefold() for language in languages}
    found = tuple(
        one
        for one in _phrases(text, name)
        if not wanted or one.language is None or one.language in wanted
    )
    if not found and not wanted:
        raise BadInput(f"filter {name}", "there is no phrase in it", "Write one phrase a line.")
    return PhraseList(name, hashlib.sha256(data).hexdigest(), found)


def _data(named: str) -> bytes:
    """The bytes of a list."""
    what = f"filter {named[:100]}"
    if _NAME.fullmatch(named):
        own = user_folder() / f"{named}{SUFFIX}"
        if os.path.lexists(own):
            return _bytes(own, what)
        ours = OURS / f"{named}{OUR_SUFFIX}"
        if ours.exists():
            return base64.b64decode(ours.read_bytes())
        if not os.path.lexists(named):
            hint = f"There are: {', '.join(names())}. Your own belong into {user_folder()}."
            raise MissingInput(what, "there is no such list and no such file", hint)
    return _bytes(Path(named), what)


_piped: dict[str, bytes] = {}
"""What came from a pipe that the shell opened, which gives it once: records need it again."""


def _bytes(path: Path, what: str) -> bytes:
    if str(path) in _piped:
        return _piped[str(path)]
    try:
        with open_once(path) as file:
            data = file.read(MAX_BYTES + 1)
            if not file.seekable():
                _piped[str(path)] = data
    except IsADirectoryError:
        raise MissingInput(what, "it is a folder", "Name one file in it.") from None
    except ValueError as error:
        raise MissingInput(what, str(error), "Give another name.") from None
    except OSError as error:
        raise MissingInput(what, reason(error), "Check the name: ls -l.") from None
    if len(data) > MAX_BYTES:
        raise BadInput(what, f"it has more than {MAX_BYTES >> 20} MiB", "Split it.")
    return data


def _short(named: str) -> str:
    """How results name a list: a file without its folder."""
    return named if _NAME.fullmatch(named) else Path(named).name or named


def _phrases(text: str, name: str) -> Iterator[Phrase]:
    language: str | None = None
    for number, whole in enumerate(text.split("\n"), 1):
        line = whole.strip()
        if not line or line.startswith("#"):
            continue
        if number > MAX_PHRASES:
            raise BadInput(f"filter {name}", f"it has more than {MAX_PHRASES:,} lines", "Split it.")
        if line.startswith("["):
            language = _language(line, name, number)
            continue
        yield _phrase(line, name, number, language)


def _language(line: str, name: str, number: int) -> str | None:
    found = _SECTION.fullmatch(line)
    if found is None:
        hint = "A language stands as [de]; [*] begins the phrases of any language."
        raise BadInput(f"filter {name}: line {number}", "it is no language in brackets", hint)
    return None if found[1] == "*" else found[1].casefold().replace("_", "-")


def _phrase(line: str, name: str, number: int, language: str | None) -> Phrase:
    what = f"filter {name}: line {number}"
    if len(line) > MAX_LINE:
        raise BadInput(what, f"it has more than {MAX_LINE} characters", "Shorten it.")
    if any(not one.isprintable() and not one.isspace() and one != "\u200d" for one in line):
        raise BadInput(what, "it has a control character", "Write the phrase anew.")
    exact = line.startswith("=")
    return phrase(line.removeprefix("=").strip(), name, number, language, exact)
