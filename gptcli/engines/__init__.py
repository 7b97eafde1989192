"""Engines: the only code that knows torch. `open_engine` gives the right one for a model.

The order of its steps is the order of their costs: name, checkpoint and header are checked before
torch is imported, and the tokenizer and the weights' pages are read while it is.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from threading import Thread
from typing import TYPE_CHECKING, Protocol

from gptcli.checkpoints import Checkpoint, Progress, resolve
from gptcli.errors import Unavailable, UsageError
from gptcli.options import Load
from gptcli.preflight import Manifest, inspect
from gptcli.results import Event, ModelInfo, Request
from gptcli.tokenization import Tokenizer, check_vocabulary, load_tokenizer

if TYPE_CHECKING:
    import torch


class Engine(Protocol):
    """Something that continues text."""

    @property
    def info(self) -> ModelInfo:
        """What is loaded."""
        ...

    def run(self, requests: Iterable[Request | None]) -> Iterator[Event]:
        """Continue every request, as many at a time as the engine has slots.

        Requests are pulled only when a slot is free; None stands for "none right now", and is
        asked again soon. A request that cannot be served gives a Completion with `error`, and the
        others go on. A request with choices gives a Score, with `error` likewise.
        """
        ...

    def count(self, text: str) -> int:
        """How many tokens a text is."""
        ...

    def cancel(self, id: str) -> None:
        """End the request `id` of the runs under way, also if it was not pulled yet.

        Its completions say `cancelled`. Without a run there is nothing to cancel.
        """
        ...


def open_engine(
    load: Load, batch_size: int = 1, beams: bool = False, progress: Progress = None
) -> Engine:
    """Resolve, check and load the model, with `batch_size` slots.

    `beams` asks for an engine that can do beam search; with `progress` a download shows bars, see
    `gptcli.hub.download`. Raises UsageError for a name that cannot be
    one, MissingInput, Unavailable (model or device) and BadModel.
    """
    if batch_size < 1:
        raise UsageError("batch size", f"{batch_size} is less than 1", "Give 1 or more.")
    if load.server is not None:
        return _remote(load, batch_size, beams)
    checkpoint = resolve(load, progress)
    manifest = inspect(checkpoint.folder)
    tokenizer = _in_background(checkpoint, manifest)
    device, dtype = _placement(load)
    if manifest.gpt2 is None or beams:
        from gptcli.engines.auto import AutoEngine

        return AutoEngine(checkpoint, manifest, tokenizer.result(), device, dtype)

    from gptcli.engines.gpt2 import GPT2Engine
    from gptcli.engines.weights import Weights

    weights = Weights(manifest.gpt2, manifest, device, dtype)
    check_vocabulary(tokenizer.result(), manifest.gpt2.vocab_size)
    info = ModelInfo(
        name=checkpoint.name,
        revision=checkpoint.revision,
        architecture=manifest.model_type,
        context=manifest.gpt2.n_positions,
        vocabulary=manifest.gpt2.vocab_size,
        parameters=manifest.gpt2.parameters,
        dtype=str(dtype).removeprefix("torch."),
        device=str(device),
        notices=checkpoint.notices + manifest.notices,
        folder=checkpoint.folder,
    )
    return GPT2Engine(weights, tokenizer.result(), info, batch_size, load.prefix_cache)


def _remote(load: Load, batch_size: int, beams: bool) -> Engine:
    """The engine for `--server`: no checkpoint is looked for, and torch is not imported."""
    if beams:
        hint = "Leave it out, or run the model here: without --server."
        raise UsageError("--num-beams", "a server has no beam search", hint)
    try:
        from gptcli.engines.remote import connect
    except ModuleNotFoundError as error:
        if error.name not in ("openai", "httpx2"):
            raise
        why = "the openai package is not installed"
        raise Unavailable("--server", why, "Run: pip install 'gptcli[remote]'") from None
    return connect(load, batch_size)


def _in_background(checkpoint: Checkpoint, manifest: Manifest) -> Future[Tokenizer]:
    """Load the tokenizer in a thread, and let the system read the weights ahead."""
    if hasattr(os, "posix_fadvise"):
        for path in {entry.file for entry in manifest.tensors.values()}:
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)
    future: Future[Tokenizer] = Future()

    def work() -> None:
        try:
            future.set_result(load_tokenizer(checkpoint.folder))
        except BaseException as error:  # raised again where the result is asked for
            future.set_exception(error)

    Thread(target=work, name="tokenizer", daemon=True).start()
    return future


def _placement(load: Load) -> tuple[torch.device, torch.dtype]:
    """The device and dtype asked for; imports torch."""
    import torch

    if load.threads is not None:
        torch.set_num_threads(load.threads)
    mps = torch.backends.mps.is_available()
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": mps}
    device = load.device
    if device == "auto":
        device = "cuda" if there["cuda"] else "mps" if there["mps"] else "cpu"
    if not there[device]:
        raise Unavailable(
            f"--device {device}", "torch finds no such device here", "Use --device cpu or auto"
        )
    if load.dtype != "auto":
        return torch.device(device), getattr(torch, load.dtype)
    sixteen = (
        torch.bfloat16 if device == "cuda" and torch.cuda.is_bf16_supported() else torch.float16
    )
    return torch.device(device), torch.float32 if device == "cpu" else sixteen
