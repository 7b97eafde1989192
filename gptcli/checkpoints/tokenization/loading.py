"""A tokenizer loaded from a checkpoint's files without trust, and fitted to its model.

A broken tokenizer.json can make the library panic, with a message of its own on stderr and an
exception that is no Exception, and some panic only when first used; so loading includes a probe
text, and ends in a working tokenizer or in one BadModel. A vocabulary of words, moves or notes is
probed with its own tokens.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from threading import Lock

from gptcli.checkpoints.file_kinds import (
    FOREIGN_TOKENIZER,
    refuse_foreign_tokenizer,
    refuse_placeholder,
)
from gptcli.checkpoints.tokenization.absent import NoTokenizer
from gptcli.checkpoints.tokenization.builders.byte_level import BYTES
from gptcli.checkpoints.tokenization.builders.vocabulary import build
from gptcli.checkpoints.tokenization.kinds import (
    ABSENT,
    UNSUPPORTED,
    Recognised,
    recognise,
    settings_of,
)
from gptcli.checkpoints.tokenization.roles import model_config, named_roles, token_roles
from gptcli.checkpoints.tokenization.tokenizer import Tokenizer, broken, refuse
from gptcli.errors import BadInput, BadModel, GptcliError
from gptcli.system.strict_json import Object

_ONE_AT_A_TIME = Lock()
# It begins with a space because add_prefix_space, where it is on, adds none before one.
PROBE = " Probe: it's 42%,\n\n\tcafé Ünïcode — 漢字かな 한국어 العربية 👩‍🚀🇺🇳  end \x00\x7f"


MAX_MISSING = 256  # tokens without an embedding, or 5 %; more are another model's tokenizer
OWN_PROBES = 50  # tokens of the vocabulary that are tried where the probe text is none of its


def load_tokenizer(folder: Path) -> Tokenizer:
    """Load the tokenizer of a folder, of whatever kind, and try it on a probe text.

    Raises BadModel where there is no tokenizer, where its class cannot be had, or where it is
    corrupt or does not work.
    """
    named = named_roles(folder)
    found = recognise(folder, named, model_config(folder))
    try:
        with _quiet_stderr():
            return _built(folder, found, named)
    except GptcliError:
        raise
    except BaseException as error:
        for file in found.files:
            refuse_placeholder(file)
        refuse_foreign_tokenizer(folder)
        refuse(error, found.file.name)


def _built(folder: Path, found: Recognised, named: Object) -> Tokenizer:
    raw = build(found, named)
    roles = token_roles(folder, raw, settings_of(found, named))
    tokenizer = Tokenizer(raw, None, found.file.name, roles)
    _probe(tokenizer)
    return tokenizer


def load_tokenizer_if_any(folder: Path) -> Tokenizer:
    """As `load_tokenizer`; of a folder without text, one that raises where it is asked for text."""
    try:
        return load_tokenizer(folder)
    except BadModel as error:
        if error.what not in (ABSENT, UNSUPPORTED, FOREIGN_TOKENIZER):
            raise
        return NoTokenizer(folder, error)


def check_vocabulary(tokenizer: Tokenizer, vocab_size: int) -> None:
    """Fit a tokenizer to a model that has `vocab_size` embeddings.

    Fewer tokens than embeddings are fine: embeddings are often padded to a round number. A few more
    are fine until a text uses one of them, see `Tokenizer.limit`: tokens are often added without
    embeddings. Raises BadModel for many more: the tokenizer is another model's.
    """
    if tokenizer.size - vocab_size > max(MAX_MISSING, vocab_size // 20):
        raise BadModel(
            "corrupt model file",
            f"{tokenizer.name}: {tokenizer.size} tokens, but the model has embeddings for"
            f" {vocab_size}",
            "Copy the tokenizer of the model it was trained from into the folder",
        )
    tokenizer.limit(vocab_size)


def notices_of(tokenizer: Tokenizer) -> tuple[str, ...]:
    """What a user should know of a model's tokens, after `check_vocabulary`."""
    words = [f"{tokenizer.token_text(id)!r} ({id})" for id in sorted(tokenizer.roles.words)]
    if not words:
        return ()
    return (f"config.json says that {', '.join(words)} ends a text: a text stops after it",)


def _probe(tokenizer: Tokenizer) -> None:
    """Use the tokenizer once; raises BadModel where what comes back cannot be right."""
    from tokenizers import pre_tokenizers

    raw, name = tokenizer.raw, tokenizer.name
    if isinstance(raw.pre_tokenizer, pre_tokenizers.ByteLevel) and not tokenizer.byte_level:
        raise broken(name, "byte-level tokens without a byte-level decoder")
    text = _round_trip(tokenizer, PROBE)
    if not text and not any(_round_trip(tokenizer, own) for own in _own_texts(tokenizer)):
        raise broken(name, "a probe text is lost in its tokens")
    # A small vocabulary that lacks single bytes is lossy by construction, not broken.
    complete = all(raw.token_to_id(character) is not None for character in BYTES)
    if tokenizer.byte_level and raw.normalizer is None and complete and text != PROBE:
        raise broken(name, "a probe text comes back changed")


def _round_trip(tokenizer: Tokenizer, text: str) -> str:
    """A text after its tokens; empty where the vocabulary has no words for it."""
    try:
        return tokenizer.decode(tokenizer.encode(text))
    except BadInput:
        return ""


def _own_texts(tokenizer: Tokenizer) -> Iterator[str]:
    """The texts of some tokens that are not special, as a text would hold them."""
    texts = (tokenizer.decode([id]) for id in range(tokenizer.size))
    return islice((text for text in texts if text.strip()), OWN_PROBES)


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Send file descriptor 2 nowhere for a while: Rust prints a panic there by itself."""
    if sys.stderr is not None:
        sys.stderr.flush()
    with _ONE_AT_A_TIME:  # else one thread would restore what another had redirected
        try:
            kept = os.dup(2)
        except OSError:  # stderr is closed: there is nothing to keep clean
            yield
            return
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(nowhere)
            os.close(kept)
