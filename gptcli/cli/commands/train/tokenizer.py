"""`gptcli train tokenizer`: a byte-level BPE tokenizer, trained on one's own text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gptcli.cli.declaration import command
from gptcli.cli.output.sink import write, write_json
from gptcli.cli.session import Session
from gptcli.errors import UsageError
from gptcli.options import AsJson, Talk
from gptcli.system.units import counted
from gptcli.training.data.options import DataReading, NewTokenizer


@command(
    examples=(
        "gptcli train tokenizer tales.txt --size 4096 -o tales-tokenizer",
        "gptcli train tokenizer books/ -o tokenizer",
    ),
)
def tokenizer(
    data: Annotated[
        list[str],
        typer.Argument(
            metavar="DATA...",
            help="Files and folders: text, JSON lines, CSV, TSV, Parquet; also .gz and .zst.",
            show_default=False,
        ),
    ],
    *,
    made: NewTokenizer,
    reading: DataReading,
    shape: AsJson,
    talk: Talk,
) -> None:
    """Train a byte-level BPE tokenizer, with GPT-2's rules for words, on text of your own.

    The folder is one that --tokenizer takes, and that transformers reads as GPT2Tokenizer. Prints
    its name. The same data gives the same tokenizer.
    """
    if made.output is None:
        raise UsageError("-o", "a folder for the tokenizer is needed", "Name one: -o tokenizer.")
    session = Session.of(talk)
    from gptcli.training.tokenizer import train_tokenizer

    with session.waiting("Training a tokenizer"):
        found = train_tokenizer(data, made.size, reading, Path(made.output), force=made.force)
    if shape.json:
        write_json(found.to_dict())
    else:
        write(f"{found.folder}\n")
    read = f"{found.characters:,} characters read"
    session.note(*found.notices, f"{counted(found.size, 'token')}; {read}")
