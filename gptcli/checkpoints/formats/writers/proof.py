"""Whether another program computes what we compute with a model that was written for it.

Each program runs a probe, where its package is installed, and its log-probabilities are compared
with ours; llama.cpp's tokenizer too. Which network of ours computes is for the caller to say, as
engines are above this room.
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptcli.checkpoints.formats.writers.tensors import WrittenModel
from gptcli.checkpoints.tokenization.tokenizer import Tokenizer
from gptcli.errors import BadInput, BadModel, Unavailable

if TYPE_CHECKING:
    import numpy

    Array = numpy.ndarray[Any, numpy.dtype[Any]]

PROBES = (
    "Once upon a time there was a little girl, and it's 42 % true.",
    " Ünïcode — 漢字かな 한국어 العربية 👩‍🚀🇺🇳,\n\n\tcafé  end",
    "从前有一个小女孩。昔々あるところに女の子がいた。",
)
LONGEST_PROBE = 48  # tokens of a probe that are run
PACKAGES = {"gguf": "llama_cpp", "ctranslate2": "ctranslate2"}  # by format


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What a comparison showed.

    largest: the largest difference of a log-probability; same_argmax: how often the likeliest next
    token is the same; other_ids: probe texts that the program cuts otherwise.
    """

    program: str
    tokens: int
    largest: float
    same_argmax: float
    other_ids: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """The shape in JSON."""
        return {
            "program": self.program,
            "tokens": self.tokens,
            "largest_difference": self.largest,
            "same_likeliest": self.same_argmax,
            "other_ids": list(self.other_ids),
        }


def prove(
    written: WrittenModel,
    tokenizer: Tokenizer,
    context: int,
    ours: Callable[[Sequence[int]], Array],
) -> Comparison | None:
    """Run the probe in the other program; None where its package is not installed.

    context: how many tokens the model reads. ours: token ids to log-probabilities, (T, vocabulary).
    Raises Unavailable where the program cannot load what was written.
    """
    package = PACKAGES[written.format]
    if not _installed(package):
        return None
    _, ids = probe(tokenizer, tokenizer.size, context)
    if written.format == "gguf":
        theirs, others = _llama_cpp(written.place, tokenizer, ids)
    else:
        theirs, others = _ctranslate2(written.place, ids), ()
    expected = ours(ids)
    return Comparison(
        program="llama.cpp" if written.format == "gguf" else "CTranslate2",
        tokens=len(ids),
        largest=float(abs(theirs[:, : expected.shape[1]] - expected).max()),
        same_argmax=float((theirs.argmax(axis=1) == expected.argmax(axis=1)).mean()),
        other_ids=others,
    )


def _installed(package: str) -> bool:
    from importlib.util import find_spec

    return find_spec(package) is not None


def _ids(tokenizer: Tokenizer, text: str) -> list[int] | None:
    """The bare ids of a text; None where the tokenizer has none for it."""
    try:
        return tokenizer.encode(text, bare=True)
    except (BadInput, BadModel):
        return None


def probe(
    tokenizer: Tokenizer | None, vocabulary: int, context: int
) -> tuple[str | None, list[int]]:
    """A text and its ids, for a model to run: of the first probe that has some below `vocabulary`.

    Without such a text, or without a tokenizer, the first ids of the model. There are two at least.
    """
    longest = max(2, min(context, LONGEST_PROBE))
    for text in PROBES if tokenizer else ():
        ids = (_ids(tokenizer, text) if tokenizer else None) or []
        if len(ids) > 1 and max(ids) < vocabulary:
            return text, ids[:longest]
    return None, [id % vocabulary for id in range(min(8, longest))]


def _ctranslate2(folder: Path, ids: Sequence[int]) -> Array:
    import logging

    import numpy
    from ctranslate2 import Generator, set_log_level

    set_log_level(logging.ERROR)  # it warns where a CPU has no float16
    names = json.loads((folder / "vocabulary.json").read_text(encoding="utf-8"))
    try:
        model = Generator(str(folder), "cpu", inter_threads=1)
        found = model.forward_batch([[names[id] for id in ids]], return_log_probs=True)
    except (RuntimeError, ValueError) as error:
        raise _failed("CTranslate2", str(error)) from None
    values: Array = numpy.array(found)[0]
    return values


def _failed(program: str, why: str) -> Unavailable:
    hint = "Update its package; where that is not installed, the model is written unproven"
    return Unavailable(program, f"it does not run what was written: {why:.200}", hint)


@cache
def _quiet() -> Any:
    """A callback that keeps llama.cpp from writing on stderr; the library needs it to its end."""
    import llama_cpp

    say_nothing = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(say_nothing, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    return say_nothing


def _llama_cpp(
    file: Path, tokenizer: Tokenizer, ids: Sequence[int]
) -> tuple[Array, tuple[str, ...]]:
    """llama.cpp's log-probabilities, and the probe texts for which it has other ids."""
    import llama_cpp

    _quiet()
    settings = llama_cpp.llama_model_default_params()
    model = llama_cpp.llama_model_load_from_file(str(file).encode(), settings)
    if not model:
        raise _failed("llama.cpp", "it cannot load the file")
    try:
        vocabulary = llama_cpp.llama_model_get_vocab(model)
        others = tuple(
            text
            for text in PROBES
            if (expected := _ids(tokenizer, text)) is not None
            and _llama_ids(vocabulary, text) != expected
        )
        return _log_softmax(_llama_logits(model, vocabulary, ids)), others
    finally:
        llama_cpp.llama_model_free(model)


def _llama_ids(vocabulary: Any, text: str) -> list[int]:
    import llama_cpp

    data = text.encode()
    room = 2 * len(data) + 16
    buffer = (llama_cpp.llama_token * room)()
    count = llama_cpp.llama_tokenize(vocabulary, data, len(data), buffer, room, False, True)
    return list(buffer[: max(count, 0)])


def _llama_logits(model: Any, vocabulary: Any, ids: Sequence[int]) -> Array:
    import llama_cpp
    import numpy

    settings = llama_cpp.llama_context_default_params()
    settings.n_ctx = settings.n_batch = len(ids)
    settings.n_threads = settings.n_threads_batch = 1
    context = llama_cpp.llama_init_from_model(model, settings)
    if not context:
        raise _failed("llama.cpp", "it has no room for the probe")
    batch = llama_cpp.llama_batch_init(len(ids), 0, 1)
    try:
        for place, token in enumerate(ids):
            batch.token[place], batch.pos[place] = token, place
            batch.n_seq_id[place], batch.seq_id[place][0] = 1, 0
            batch.logits[place] = True
        batch.n_tokens = len(ids)
        if fault := llama_cpp.llama_decode(context, batch):
            raise _failed("llama.cpp", f"its decoder gave {fault}")
        size = llama_cpp.llama_vocab_n_tokens(vocabulary)
        rows = (llama_cpp.llama_get_logits_ith(context, place) for place in range(len(ids)))
        return numpy.stack([numpy.ctypeslib.as_array(row, shape=(size,)).copy() for row in rows])
    finally:
        llama_cpp.llama_batch_free(batch)
        llama_cpp.llama_free(context)


def _log_softmax(logits: Array) -> Array:
    import numpy

    shifted = logits - logits.max(axis=1, keepdims=True)
    found: Array = shifted - numpy.log(numpy.exp(shifted).sum(axis=1, keepdims=True))
    return found
