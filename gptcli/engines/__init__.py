"""Engines: the only room that imports torch. `open_engine` opens the right one for a model.

The steps run in the order of their cost: name, checkpoint and header are checked before anything
large is imported, and for a server nothing of a checkpoint is. A GPT-2 on a CPU needs no torch, see
`gptcli.engines.placement`. Not here: what an engine is asked and what it answers is in
`gptcli.protocol`.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING

from gptcli.errors import Unavailable, UsageError
from gptcli.options import Load
from gptcli.options.moderation import ModeratedLoad
from gptcli.protocol import Engine, ModelInfo
from gptcli.system import stages

if TYPE_CHECKING:
    from gptcli.checkpoints.adapters.reference import Adapted
    from gptcli.checkpoints.preflight import CheckedCheckpoint
    from gptcli.checkpoints.resolve import Checkpoint, Progress
    from gptcli.checkpoints.tokenization.tokenizer import Tokenizer


def open_engine(
    load: Load,
    batch_size: int = 1,
    beams: bool = False,
    progress: Progress = None,
    text: bool = True,
) -> Engine:
    """Resolve, check and load the model, with `batch_size` slots; behind a filter if that is asked.

    `beams` asks for an engine with beam search. Without `text` a model needs no tokenizer, and what
    asks for text then raises BadModel. With `progress` a download shows bars, see
    `gptcli.checkpoints.hub.download`. Raises UsageError (no possible name, options that exclude
    each other), MissingInput, Unavailable (model or device) and BadModel.
    """
    if batch_size < 1:
        raise UsageError("batch size", f"{batch_size} is less than 1", "Give 1 or more.")
    if isinstance(load, ModeratedLoad) and load.moderated:
        from gptcli.engines.filtering import behind_filter

        return behind_filter(load, lambda: _opened(load, batch_size, beams, progress, True))
    return _opened(load, batch_size, beams, progress, text)


def _opened(load: Load, batch_size: int, beams: bool, progress: Progress, text: bool) -> Engine:
    """As `open_engine`, without a filter."""
    if load.server is not None:
        return _remote(load, batch_size, beams)
    from gptcli.checkpoints.adapters.opened import inspect_adapted
    from gptcli.checkpoints.resolve import resolve
    from gptcli.checkpoints.tokenization.loading import check_vocabulary, notices_of

    stages.mark("input")
    checkpoint = resolve(load, progress)
    stages.mark("checkpoint")
    checked, adapted = inspect_adapted(*checkpoint.parts)
    checked = replace(checked, notices=checked.notices + _of_content(checkpoint))
    stages.mark("preflight")
    if checked.gpt2 is None or beams:
        _refuse_draft_model(load)
        return _through_transformers(load, checkpoint, checked, text, adapted)
    from gptcli.engines.placement import chosen_device, open_network

    stages.mark("engine's imports")
    device = chosen_device(load)
    begin = Event()
    tokenizer = _in_background(adapted.tokenizer_folder or checkpoint.folder, text, begin)
    try:
        network, kind, notices = open_network(load, checkpoint.title, checked, device, begin.set)
    finally:
        begin.set()
    stages.mark("weights")
    from gptcli.engines.drafter import open_drafter
    from gptcli.engines.gpt2.engine import GPT2Engine

    check_vocabulary(tokenizer.result(), checked.gpt2.vocab_size)
    stages.mark("rest of the tokenizer")
    told = checked.notices_beside(tokenizer.result().roles.ends)
    info = ModelInfo(
        name=checkpoint.title,
        revision=checkpoint.revision,
        architecture=checked.model_type,
        context=checked.gpt2.n_positions,
        vocabulary=checked.gpt2.vocab_size,
        parameters=checked.gpt2.parameters,
        dtype=kind,
        device=device,
        notices=checkpoint.notices + told + notices + notices_of(tokenizer.result()),
        folder=checkpoint.folder,
        adapted=adapted,
    )
    drafter, notices = open_drafter(load, info, tokenizer.result(), batch_size)
    info = replace(info, notices=info.notices + notices)
    return GPT2Engine(network, tokenizer.result(), info, batch_size, load.prefix_cache, drafter)


def say_waits(engine: Engine, say: Callable[[str], object]) -> None:
    """Tell `say` of each pause of an engine that waits for a server; others have none."""
    if hasattr(engine, "say_waits"):
        engine.say_waits(say)


def _remote(load: Load, batch_size: int, beams: bool) -> Engine:
    """The engine for `--server`. It needs no checkpoint and does not import torch."""
    if beams:
        hint = "Leave it out, or run the model here: without --server."
        raise UsageError("--num-beams", "a server has no beam search", hint)
    _refuse_draft_model(load)
    stages.mark("input")
    try:
        from gptcli.engines.remote import connect
    except ModuleNotFoundError as error:
        if error.name != "httpx2":
            raise
        why = "the httpx2 package is not installed"
        raise Unavailable("--server", why, "Run: pip install 'gptcli[remote]'") from None
    stages.mark("engine's imports")
    engine = connect(load, batch_size)
    stages.mark("server's models")
    return engine


def _refuse_draft_model(load: Load) -> None:
    if load.draft_model is not None:
        why = "only the built-in engine for GPT-2 takes drafts, without --num-beams or --server"
        raise UsageError("--draft-model", why, "Leave it out.")


def _through_transformers(
    load: Load,
    checkpoint: Checkpoint,
    checked: CheckedCheckpoint,
    text: bool,
    adapted: Adapted,
) -> Engine:
    """The engine for any other model, and for beam search."""
    tokenizer = _in_background(adapted.tokenizer_folder or checkpoint.folder, text)
    from gptcli.engines.placement import chosen_device, import_torch, torch_dtype

    import_torch(load)
    import torch

    device = chosen_device(load)
    dtype = torch_dtype(load, device)
    from gptcli.engines.hf import HFEngine

    engine = HFEngine(checkpoint, checked, tokenizer.result(), torch.device(device), dtype, adapted)
    stages.mark("transformers and weights")
    return engine


def _in_background(folder: Path, text: bool, begin: Event | None = None) -> Future[Tokenizer]:
    """Load the tokenizer in a thread; with `begin` after it is set, and the engine's modules first.

    Imports hold the interpreter lock, and so does the tokenizers library while it parses. So they
    overlap with what has released the lock before, such as packing the weights.
    """
    from gptcli.checkpoints.tokenization.loading import load_tokenizer, load_tokenizer_if_any

    future: Future[Tokenizer] = Future()

    def work() -> None:
        try:
            if begin is not None:
                begin.wait()
            with stages.beside("tokenizer"):
                if begin is not None:
                    import_module("gptcli.engines.drafter")
                    import_module("gptcli.engines.gpt2.engine")
                load = load_tokenizer if text else load_tokenizer_if_any
                tokenizer = load(folder)
            future.set_result(tokenizer)
        except BaseException as error:  # raised again where the result is asked for
            future.set_exception(error)

    Thread(target=work, name="tokenizer", daemon=True).start()
    return future


def _of_content(checkpoint: Checkpoint) -> tuple[str, ...]:
    """Notices of weights that are not what was noted of them; most models have no note."""
    from gptcli.checkpoints.safetensors_headers import NOTE

    if not (checkpoint.folder / NOTE).exists():
        return ()
    from gptcli.checkpoints.integrity import noted

    return noted.notices(checkpoint.folder)
