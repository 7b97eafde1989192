"""`gptcli models merge`: a base and its adapters made one model."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Annotated

import typer

from gptcli.checkpoints.resolve import resolve
from gptcli.cli.commands.models.convert import staging_beside
from gptcli.cli.completion import candidates
from gptcli.cli.declaration import command
from gptcli.cli.output.sink import write, write_json
from gptcli.cli.session import Session
from gptcli.models.options import MergeTarget
from gptcli.options import AsJson, HubSource, Load, Talk
from gptcli.system.units import counted, model_size


@command(
    naming=("base",),
    examples=(
        "gptcli models merge gpt2 ./my-lora -o my-model",
        "gptcli models merge gpt2 ./one=0.5 ./two=0.5 -o both",
    ),
)
def merge(
    base: Annotated[
        str,
        typer.Argument(
            help="A model: Hub id, alias or folder.",
            autocompletion=candidates.models,
            show_default=False,
        ),
    ],
    adapter: Annotated[
        list[str],
        typer.Argument(
            help="Adapters in PEFT's layout, each times its SCALE.",
            metavar="ADAPTER[=SCALE]...",
            autocompletion=candidates.files,
            show_default=False,
        ),
    ],
    *,
    target: MergeTarget,
    source: HubSource,
    shape: AsJson,
    talk: Talk,
) -> None:
    """Make one model of a base and LoRA adapters, in a new folder, whole or not at all.

    Sums are in float32 and rounded once. What comes out is compared with the base and its adapters
    before it takes its place. Prints the place.
    """
    session = Session.of(talk)
    load = Load(
        model=base, adapter=tuple(adapter), revision=source.revision, offline=source.offline
    )
    with session.loading(load) as progress:
        found = resolve(load, progress)
    from gptcli.conversion import merging  # NumPy, and readers of many formats

    place = merging.target_of(found, target)
    with ExitStack() as stack:
        merging_now = stack.enter_context(session.waiting(f"Merging {found.title}"))
        result = merging.merge(found, target.type, staging_beside(place, stack), place)
        if merging_now:
            merging_now()
    if shape.json:
        write_json(result.to_dict())
    else:
        write(f"{result.place}\n")
    proof = ""
    if result.largest is not None:
        tokens = counted(result.tokens, "token")
        proof = f"; log-probabilities of {tokens} differ by at most {result.largest:.2g} nats"
    made = f"{result.changed} of {counted(result.tensors, 'tensor')} changed"
    session.note(*found.notices, f"{made}, {model_size(result.size)}{proof}")
    session.detail(*result.applied)
