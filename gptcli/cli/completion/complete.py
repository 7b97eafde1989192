"""What a shell is told when Tab is pressed: which word is completed, and with what.

The scripts beside this module, `completion.bash` and so on, run gptcli with the words up to the
cursor. The answer is plain lines, never code. The first says what to list if no candidate fits
(`files`, `folders`, `nothing`) and how the word begins before its value (`--model=`); then comes a
line for each candidate. Typer's scripts are not used: they let zsh evaluate the name of a folder,
split words otherwise than the shell does, offer files where none are meant, and ask twice in fish.
The command line is neither checked nor run. Not here: the candidates are in
`gptcli.cli.completion.candidates`, the scripts' installation is in `gptcli.cli.completion.shells`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import typer
from typer.core import TyperGroup

from gptcli.cli.completion.candidates import FILES, FOLDERS, Suggestion, Typed, brief
from gptcli.errors import GptcliError
from gptcli.system.sanitizer import one_line

NOTHING = "\0nothing"
SPECIAL = re.compile(r"[^\w@%+=:,./-]")  # what bash may take for more than itself
PIECE = re.compile(
    r"""(?P<space>\s+)"""
    r"""|'(?P<single>[^']*)(?P<single_end>'?)"""
    r"""|"(?P<double>(?:[^"\\]|\\.?)*)(?P<double_end>"?)"""
    r"""|(?P<bare>(?:[^\s'"\\]|\\.?)+)""",
    re.DOTALL,
)


@dataclass(frozen=True)
class Suggestions:
    """What may stand at the cursor."""

    candidates: tuple[Suggestion, ...] = ()
    otherwise: str = NOTHING  # or FILES, FOLDERS
    before: str = ""  # how the word begins before the value: `--model=`, `-m`


def answer(root: Any, shell: str, args: Sequence[str]) -> str:
    """What is written for a script; `args` are those that it gave.

    For bash they are the line up to the cursor and the part of it that readline will replace, for
    zsh and fish the words, without the program's name, the last one up to the cursor.
    """
    if shell == "bash":
        words, quote = split(args[0])
        return _bash(offer(root, words[1:-1], words[-1]), words[-1], args[1], quote)
    found = offer(root, args[:-1], args[-1])
    return _zsh(found) if shell == "zsh" else _fish(found, args[-1])


def offer(root: Any, words: Sequence[str], current: str) -> Suggestions:
    """What may stand in place of `current`, after `words`."""
    try:
        ctx, given = _reached(root, words, current)
        if ctx is None:
            return Suggestions()
        found = _offer(ctx, _Walk(ctx, given), current)
    except GptcliError:  # a task's file is broken
        return Suggestions()
    usual = tuple((value, one_line(said).replace("\t", " ")) for value, said in found.candidates)
    return Suggestions(tuple(filter(_is_usual, usual)), found.otherwise, found.before)


def split(line: str) -> tuple[list[str], str]:
    """The words of a line of bash, the last one up to its end, and the quote that is open there."""
    words, quote = [""], ""
    for piece in PIECE.finditer(line.lstrip()):
        quote = ""
        if piece["space"]:
            words.append("")
        elif piece["single"] is not None:
            words[-1] += piece["single"]
            quote = "" if piece["single_end"] else "'"
        elif piece["double"] is not None:
            words[-1] += re.sub(r'\\(["$`\\])', r"\1", piece["double"])
            quote = "" if piece["double_end"] else '"'
        else:
            words[-1] += re.sub(r"\\(.?)", r"\1", piece["bare"], flags=re.DOTALL)
    return words, quote


def _reached(root: Any, words: Sequence[str], current: str) -> tuple[Any, list[str]]:
    """The context of the innermost command that is named, and the words after its name.

    No context if a command is named that does not exist.
    """
    command = root
    ctx = _context(command, None, "gptcli")
    given = list(words)
    while hasattr(command, "expanded"):  # a group of ours
        if given or current.startswith("-"):
            given = command.expanded([*given, current])[:-1]
        bare = _Walk(ctx, given).bare
        if not bare:
            break
        name, command, given = command.resolve_command(ctx, given[bare[0] :])
        if command is None:
            return None, []
        ctx = _context(command, ctx, str(name))
    return ctx, given


def _context(command: Any, parent: Any, name: str) -> Any:
    settings = command.context_settings
    return typer.Context(command, parent=parent, info_name=name, resilient_parsing=True, **settings)


class _Walk:
    """A command's words, read as Click reads them, up to the one that is completed."""

    def __init__(self, ctx: Any, words: Sequence[str]) -> None:
        self.words = words
        self.params = ctx.command.get_params(ctx)
        self.bare: list[int] = []  # places of arguments, or of a command's name and what follows
        self.ended = False  # by --: what follows are arguments
        self.pending: Any = None  # the option whose value comes next
        self._taking = {
            name: param
            for param in self.params
            if param.param_type_name == "option" and not param.is_flag and not param.count
            for name in param.opts
        }
        for place, word in enumerate(words):
            self._take(place, word)

    def attached(self, word: str) -> tuple[Any, str]:
        """The option that `word` gives a value to, and how it begins: `--model=`, `-m`."""
        if word.startswith("--"):
            name, equals, _ = word.partition("=")
            return (self._taking.get(name.replace("_", "-")) if equals else None), name + equals
        for end in range(2, len(word)):  # -qmgpt2: flags, and one that takes the rest
            if f"-{word[end - 1]}" in self._taking:
                return self._taking[f"-{word[end - 1]}"], word[:end]
        return None, ""

    def _take(self, place: int, word: str) -> None:
        if self.pending is not None:
            self.pending = None
        elif self.ended or not word.startswith("-") or word == "-":
            self.bare.append(place)
        elif word == "--":
            self.ended = True
        elif self.attached(word)[0] is None:
            name = word if word.startswith("--") else f"-{word[-1]}"
            self.pending = self._taking.get(name.replace("_", "-"))


def _offer(ctx: Any, walk: _Walk, current: str) -> Suggestions:
    if walk.pending is not None:
        return _values(ctx, walk, walk.pending, current)
    if current.startswith("-") and not walk.ended:
        option, before = walk.attached(current)
        if option is not None:
            return _values(ctx, walk, option, current, before)
        return Suggestions(tuple(_options(walk)))
    if isinstance(ctx.command, TyperGroup):
        return Suggestions(tuple(_commands(ctx)))
    arguments = [param for param in walk.params if param.param_type_name == "argument"]
    many = bool(arguments) and arguments[-1].nargs == -1
    if many or len(walk.bare) < len(arguments):
        argument = arguments[min(len(walk.bare), len(arguments) - 1)]
        return _values(ctx, walk, argument, current)
    return Suggestions()


def _values(ctx: Any, walk: _Walk, param: Any, current: str, before: str = "") -> Suggestions:
    """The values of an option or an argument; which of them fit is for the shell to say."""
    ctx.obj = Typed(tuple(walk.words), current.removeprefix(before))
    found = [(item.value, item.help or "") for item in param.shell_complete(ctx, "")]
    listed = [value for value, _ in found if value in (FILES, FOLDERS)]
    values = tuple(item for item in found if item[0] not in listed)
    return Suggestions(values, listed[0] if listed else NOTHING, before)


def _options(walk: _Walk) -> Iterator[Suggestion]:
    """The names of the options that can still be given."""
    given = {word.partition("=")[0] for word in walk.words}
    for param in walk.params:
        if param.param_type_name != "option" or param.hidden:
            continue
        names = (*param.opts, *param.secondary_opts)
        if param.multiple or given.isdisjoint(names):
            yield from ((name, brief(param.help)) for name in names)


def _commands(ctx: Any) -> Iterator[Suggestion]:
    group = ctx.command
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        if command is not None and not command.hidden:
            yield name, brief(command.help)


def _is_usual(candidate: Suggestion) -> bool:
    """Whether a value can be shown and typed: a folder may be called anything."""
    value = candidate[0]
    return bool(value) and one_line(value) == value and "\t" not in value and "\\" not in value


def _lines(found: Suggestions, candidates: Iterable[str]) -> str:
    return "\n".join([f"{found.otherwise[1:]} {found.before}", *candidates]) + "\n"


def _bash(found: Suggestions, current: str, replaced: str, quote: str) -> str:
    """Candidates for what readline replaces, the part of the word after an = or :, quoted alike."""
    kept = len(current) - len(split(quote + replaced)[0][-1])
    whole = [found.before + value for value, _ in found.candidates]
    fitting = [word[kept:] for word in whole if word.startswith(current)]
    if quote == "'":
        return _lines(found, [word for word in fitting if "'" not in word])
    if quote:
        return _lines(found, [re.sub(r'["$`]', r"\\\g<0>", word) for word in fitting])
    return _lines(found, [SPECIAL.sub(r"\\\g<0>", word) for word in fitting])


def _zsh(found: Suggestions) -> str:
    """Candidates as `_describe` takes them; zsh itself says which of them fit, and quotes them."""
    escaped = [(value.replace(":", "\\:"), said) for value, said in found.candidates]
    return _lines(found, [f"{value}:{said}" if said else value for value, said in escaped])


def _fish(found: Suggestions, current: str) -> str:
    """Candidates with descriptions; fish takes any that holds what is typed, so these are given."""
    whole = [(found.before + value, said) for value, said in found.candidates]
    near = [f"{word}\t{said}" for word, said in whole if current.lower() in word.lower()]
    return _lines(found, near)
