"""The chat template that a checkpoint brings: found, read and rendered, trusting nothing.

It stands where transformers looks for it: in chat_template.jinja, chat_template.json or
tokenizer_config.json. It is a program written by strangers, so a sandbox runs it (see
`gptcli.chat_templates.sandbox`) and whatever goes wrong in it is one BadModel that names the file
and the rule. It is tried once when found: a broken one fails before the first message is typed.
Tools, documents and named templates other than "default" are not supported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from gptcli.chat_templates.plain import Turn
from gptcli.checkpoints.tokenization.roles import (
    END_OF_TEXT,
    MAX_CONFIG_BYTES,
    named_roles,
    token_text,
)
from gptcli.errors import BadModel
from gptcli.system.strict_json import Object, corrupt, read_bytes, read_object

if TYPE_CHECKING:
    from gptcli.chat_templates.sandbox import Program

JINJA, JSON, TOKENIZER = "chat_template.jinja", "chat_template.json", "tokenizer_config.json"
MAX_TEMPLATE_BYTES = 2**16  # bytes of a template; those in use have less than 2^15
OTHER = "Use --template transcript, or choose another model with -m"
MAX_RULE_CHARACTERS = 200  # characters of what a template says about itself


@dataclass(frozen=True)
class Own:
    """A checkpoint's own template, compiled; `file` is named in errors."""

    file: str
    program: Program = field(repr=False)
    bos: str = END_OF_TEXT
    eos: str = END_OF_TEXT
    stop: tuple[str, ...] = ()  # the model was trained to end its turn by a token
    name: str = "own"

    def prompt(self, system: str | None, turns: Sequence[Turn]) -> str:
        """The rendered template, the beginning of a reply included. Raises BadModel."""
        messages = [] if system is None else [{"role": "system", "content": system}]
        for turn in turns:
            content = turn.content if turn.written is None else turn.written
            messages.append({"role": turn.role, "content": content})
        try:
            return self.program.render(messages, self.bos, self.eos)
        except Exception as error:  # a stranger's program may raise anything
            raise unusable(self.file, error) from None


def find(folder: Path) -> Own | None:
    """The template in a checkpoint's folder, None where it has none.

    Raises BadModel for one that cannot be read, compiled or rendered.
    """
    found = _source(folder)
    if found is None:
        return None
    file, source = found
    from gptcli.chat_templates.sandbox import Program

    try:
        program = Program(source)
    except Exception as error:  # Jinja's errors, and Python's for what Jinja made of it
        raise unusable(file.name, error) from None
    own = Own(
        file.name, program, special_text(folder, "bos_token"), special_text(folder, "eos_token")
    )
    if not own.prompt(None, [Turn("user", "Hello")]):
        raise unusable(file.name, ValueError("it makes an empty prompt of a message"))
    return own


def template_text(folder: Path) -> str | None:
    """The text of the template in a checkpoint's folder, None where it has none.

    Raises BadModel for one that cannot be read.
    """
    found = _source(folder)
    return None if found is None else found[1]


def special_text(folder: Path, role: str) -> str:
    """The text of a special token, `eos_token` or `bos_token`, by whatever file names it.

    GPT-2's tokenizer class has a default of its own, so the last resort is its end of text.
    """
    named = token_text(named_roles(folder).get(role))
    if named is not None:
        return named
    file = folder / "config.json"
    id = read_object(file).get(f"{role}_id") if file.exists() else None
    if isinstance(id, list) and id:
        id = id[0]
    if not isinstance(id, int) or isinstance(id, bool) or not 0 <= id < 2**31:
        return END_OF_TEXT
    from gptcli.checkpoints.tokenization.loading import load_tokenizer

    return load_tokenizer(folder).raw.id_to_token(id) or END_OF_TEXT


def unusable(file: str, error: Exception) -> BadModel:
    """The error for a template that does not work, with the first line of what it ran into."""
    said = (str(error).splitlines() or [""])[0][:MAX_RULE_CHARACTERS].rstrip(".")
    if isinstance(error, RecursionError | MemoryError | SyntaxError):  # of the Python made of it
        said = "nested too deeply"
    elif hasattr(error, "lineno"):
        said = f"line {error.lineno}: {said}"
    return BadModel("unusable chat template", f"{file}: {said or type(error).__name__}", OTHER)


def _source(folder: Path) -> tuple[Path, str] | None:
    """The file that holds the template, and its text."""
    plain = folder / JINJA
    if plain.exists():
        return plain, _text(plain, read_bytes(plain, MAX_TEMPLATE_BYTES))
    for name, limit in ((JSON, 2 * MAX_TEMPLATE_BYTES), (TOKENIZER, MAX_CONFIG_BYTES)):
        file = folder / name
        found = read_object(file, limit).get("chat_template") if file.exists() else None
        if found is not None:
            return file, _default(file, found)
        if name == JSON and file.exists():
            raise corrupt(file, "it holds no chat_template")
    return None


def _text(file: Path, data: bytes) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise corrupt(file, f"invalid UTF-8 at byte {error.start}") from None
    if not text.strip():
        raise corrupt(file, "the chat template is empty")
    return text


def _default(file: Path, found: object) -> str:
    """The template itself, or the one named "default" of a list."""
    if isinstance(found, list):
        named = dict(_named(file, entry) for entry in found)
        if "default" not in named:
            raise corrupt(file, "none of its chat templates is named default")
        found = named["default"]
    if not isinstance(found, str):
        raise corrupt(file, "chat_template is neither a text nor a list of named texts")
    try:
        data = found.encode()
    except UnicodeEncodeError:
        raise corrupt(file, "the chat template holds a lone surrogate") from None
    if len(data) > MAX_TEMPLATE_BYTES:
        raise corrupt(file, f"a chat template larger than {MAX_TEMPLATE_BYTES} bytes")
    return _text(file, data)


def _named(file: Path, entry: object) -> tuple[str, object]:
    named: Object = entry if isinstance(entry, dict) else {}
    name = named.get("name")
    if not isinstance(name, str) or "template" not in named:
        raise corrupt(file, "an entry of chat_template lacks a name or a template")
    return name, named["template"]
