"""How fast is it here, and against what: every figure in turn.

Machines are noisy and shared, so a figure is never timed alone: each run of ours is followed by one
of each peer's, and what counts is the median of the pairs' ratios. All get the same prompts, write
the same number of tokens and use the same threads. Whether the results are right is what the tests
are for; what a smaller data type costs in quality is measured on demand.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from gptcli.bench import speeds
from gptcli.bench.entrants import Entrant, Rival, open_ours, open_rivals
from gptcli.bench.figures import EngineRuns, Figure
from gptcli.bench.labelling import labelling
from gptcli.bench.options import Bench
from gptcli.bench.peers.peer import PeerSetting
from gptcli.bench.peers.roster import INSTALL, Contender
from gptcli.bench.processes import child, cold, machine_of, measured
from gptcli.bench.quality import quality
from gptcli.bench.rounds import Say, left_out
from gptcli.bench.scoring import FLOAT32, scoring
from gptcli.bench.training import training
from gptcli.bench.workloads import SLOTS
from gptcli.checkpoints.preflight import inspect
from gptcli.engines.bandwidth import Machine, bandwidth, machine
from gptcli.errors import GptcliError, Unavailable, UsageError
from gptcli.inputs.prompt import read_prompt
from gptcli.options import Input, Load


def measure(load: Load, bench: Bench, folder: Path, say: Say) -> Iterator[Figure]:
    """Every figure that is asked for, as soon as it is there.

    Whole processes come first, while this one is small. `load.model` is a folder; `folder` is an
    empty one, for models as the peers want them; `say` is told what is left out. Raises what
    opening the model raises, UsageError, and Unavailable where none of the peers asked for is here.
    """
    if load.server is not None:
        raise UsageError("--server", "engines are measured on this machine", "Leave it out.")
    if bench.text is not None and bench.only == "quality":
        text = read_prompt(None, Input(file=bench.text), None).text
        yield from quality(load, text, say)
        return
    if bench.only == "train":
        yield from training(load, bench, folder, say)
        return
    rivals = _rivals(load, bench.peers, folder, say)
    if bench.wants("start"):
        yield from cold(load, rivals, bench.runs, say)
    yield from _loaded(load, bench, rivals, say)
    if bench.wants("tasks"):
        yield from labelling(load, bench.runs, say)
    if bench.wants("batch"):
        entrants = open_rivals(rivals, say)
        yield from speeds.many_rows(load, entrants, bench.count, bench.runs, say)
    if bench.wants("score"):
        place = machine_of(load)
        setting = PeerSetting(
            folder=Path(str(load.model)),
            dtype=FLOAT32,
            device=place.device,
            threads=place.threads,
            slots=SLOTS,
        )
        yield from scoring(load, setting, bench.count, bench.runs, say)


def _loaded(load: Load, bench: Bench, rivals: Sequence[Rival], say: Say) -> Iterator[Figure]:
    """Decoding and prompts, in engines that are loaded once for all."""
    if not any(bench.wants(part) for part in ("decode", "mixed", "prefill")):
        return
    place = machine(load)
    speed = bandwidth(place) if bench.wants("decode") else 0.0
    engine, ours = open_ours(load)
    for notice in engine.info.notices:
        say(notice)
    entrants = [ours, *open_rivals(rivals, say)]
    if bench.wants("decode"):
        name = f"memory bandwidth, {place.threads} threads"
        yield Figure(name, "GB/s", EngineRuns("this machine", (speed,)))
        weights = _weights(Path(str(load.model)), engine.info.parameters)

        def limit(entrant: Entrant) -> float | None:
            return speeds.limit(entrant, weights, speed)

        yield from speeds.decoding(entrants, bench.runs, limit, say)
    if bench.wants("mixed"):
        yield from speeds.mixed(entrants, bench.runs, say)
    if bench.wants("prefill"):
        yield from speeds.prompts(engine, entrants, bench.runs, say)


def _weights(checkpoint: Path, parameters: int) -> int:
    """How many weights one token reads: of the embeddings no more than a row each."""
    config = inspect(checkpoint).gpt2
    if config is None:  # nothing is known of its embeddings
        return parameters
    rows = config.n_positions + (0 if config.tie_word_embeddings else config.vocab_size)
    return config.parameters - rows * config.n_embd


def _rivals(load: Load, asked: Sequence[Contender], folder: Path, say: Say) -> list[Rival]:
    """The peers that are installed and can run this model, which is converted for them."""
    here = [contender for contender in asked if not contender.missing]
    if asked and not here:
        names = ", ".join(contender.name for contender in asked)
        raise Unavailable("--against", f"{names}: not installed", INSTALL)
    for contender in asked:
        if contender.missing:
            modules = " and ".join(contender.missing)
            say(f"{contender.label} is left out: {modules} is not installed. {INSTALL}")
    if not here:
        return []
    place = machine_of(load)
    found = []
    for number, contender in enumerate(here):
        try:
            found.append(_rival(load, contender, folder / str(number), place))
        except GptcliError as error:
            say(left_out(contender.label, error))
    if not found:
        raise Unavailable("--against", "none of these can run the model", "Leave it out")
    return found


def _rival(load: Load, contender: Contender, folder: Path, place: Machine) -> Rival:
    """Convert the model in a process of its own. Raises Unavailable where that fails."""
    if place.device not in contender.kind.devices:
        hint = "Add --device cpu"
        raise Unavailable(contender.label, f"it does not run on {place.device} here", hint)
    checkpoint = Path(str(load.model))
    folder.mkdir()
    measured(child(f"prepare({contender!r}, {checkpoint!r}, {folder!r})"))
    made = any(folder.iterdir())
    setting = PeerSetting(
        folder=folder if made else checkpoint,
        dtype=contender.dtype,
        device=place.device,
        threads=place.threads,
        slots=SLOTS,
    )
    return Rival(contender, setting)
