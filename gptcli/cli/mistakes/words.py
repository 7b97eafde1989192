"""What other programs call our commands and flags, and words as a shell wants them."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import Any

MAX_QUOTE = 40  # characters of a mistyped word in an error
MAX_COMMAND = 100  # characters of a command line in a hint
SIMILARITY = 0.7  # how alike two words are, of 1, for one to be meant
EXAMPLE = 'gptcli generate "Once upon a time"'
# What other programs call a command.
COMMANDS = {
    **dict.fromkeys(("complete", "continue", "write", "text", "prompt", "gen"), "generate"),
    **dict.fromkeys(("ask", "qa", "question"), "answer"),
    **dict.fromkeys(("talk", "repl", "interactive"), "chat"),
    **dict.fromkeys(("summary", "tldr", "shorten"), "summarize"),
    **dict.fromkeys(("ppl", "perplexity", "surprisal", "evaluate", "eval", "logprobs"), "score"),
    **dict.fromkeys(("sentiment", "label"), "classify"),
    **dict.fromkeys(("ner", "entities"), "extract"),
    **dict.fromkeys(("benchmark", "speed"), "bench"),
    **dict.fromkeys(("manual", "man", "guide", "tutorial"), "docs"),
    **dict.fromkeys(("check", "diagnose"), "doctor"),
    **dict.fromkeys(("tokenize", "tokenise", "encode"), "inspect tokens"),
    **dict.fromkeys(("heads",), "inspect attention"),
    **dict.fromkeys(("list", "ls"), "models list"),
    **dict.fromkeys(("download", "fetch", "install"), "models pull"),
    **dict.fromkeys(("remove", "delete", "uninstall"), "models rm"),
    **dict.fromkeys(("settings", "set"), "config set"),
    **dict.fromkeys(("get",), "config get"),
    **dict.fromkeys(("new",), "tasks new"),
}
# The same inside a group; the group's own names and those that are near come first.
MEMBERS = {
    "ls": ("list", "show"),
    "list": ("list", "show"),
    **dict.fromkeys(("remove", "delete", "del", "uninstall", "rm"), ("rm", "clear", "unset")),
    **dict.fromkeys(("download", "get", "fetch", "install", "update", "add"), ("pull", "add")),
    **dict.fromkeys(("show", "inspect", "details"), ("info", "show")),
    **dict.fromkeys(("check", "test"), ("verify",)),
    **dict.fromkeys(("create", "add", "init"), ("new",)),
    **dict.fromkeys(("where", "which", "file"), ("path",)),
}
FLAGS = {
    **dict.fromkeys(("--n", "--num", "--samples", "--num-samples", "--count", "--best-of"), "-n"),
    **dict.fromkeys(("--length", "--tokens", "--max-length-tokens"), "--max-new-tokens"),
    **dict.fromkeys(("--outfile", "--out-file", "--save"), "--output"),
    **dict.fromkeys(("--lang", "--language", "--target", "--target-language"), "--to"),
    **dict.fromkeys(("--source", "--source-language"), "--from"),
    **dict.fromkeys(("--temperatur", "--randomness"), "--temperature"),
    **dict.fromkeys(("--end", "--until", "--stop-sequence"), "--stop"),
    **dict.fromkeys(("--input", "--in", "--infile"), "--file"),
    **dict.fromkeys(("--url", "--base-url", "--endpoint", "--api-base"), "--server"),
    **dict.fromkeys(("--name", "--checkpoint", "--model-name"), "--model"),
    **dict.fromkeys(("--cache",), "--prefix-cache"),
    **dict.fromkeys(("--gpu",), "--device cuda"),
    **dict.fromkeys(("--cpu",), "--device cpu"),
    **dict.fromkeys(("--silent",), "--quiet"),
}
TEXTS = ("--prompt", "--text", "-p", "--question", "--message")
COLOURS = ("--color", "--colour", "--no-color", "--no-colour", "--ansi")
VERSION = ("-V", "-v", "version", "--v", "-version")
# What to try where a command takes no argument.
ALTERNATIVES = {
    "models list": "models info",
    "tasks list": "tasks show",
    "config show": "config get",
    "cache list": "cache clear",
    "chat": "generate",
}
NUMBERS = {"float": "a number", "int": "a whole number", "integer": "a whole number"}
CHOICES = {
    "gpu": "cuda",
    "fp32": "float32",
    "fp16": "float16",
    "bf16": "bfloat16",
    "half": "float16",
}


def help_of(context: Any) -> str:
    """Where the help of a command is."""
    return f"See {context.command_path if context else 'gptcli'} --help."


def lowered(message: str) -> str:
    """A message as the middle of a sentence."""
    return message[:1].lower() + message[1:]


def short(text: str, length: int = MAX_QUOTE) -> str:
    """The beginning of a text."""
    return text if len(text) <= length else text[:length] + "..."


def line(*words: str) -> str:
    """A command line of gptcli, quoted for a shell and not too long."""
    return short(f"gptcli {' '.join(map(quoted_word, words))}", MAX_COMMAND)


def quoted_word(word: str) -> str:
    """A word for a shell: a text in double quotes where these do."""
    plain = not set(word) & set('"$`\\!')
    return f'"{word}"' if plain and (" " in word or not word) else shlex.quote(word)


def near(word: str, known: Iterable[str], similarity: float = SIMILARITY) -> str | None:
    """The known word that is alike, if one is."""
    from difflib import get_close_matches

    return next(iter(get_close_matches(word, list(known), 1, similarity)), None)
