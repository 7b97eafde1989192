"""What a command asks otherwise than the run that it would go on with.

Whatever changes the weights of a step is refused, each setting by its name with both values. An
option that was not given has the value that the run decided on, also where it would now be decided
otherwise (a measured number of steps, a default of another version). What only looks at the
weights, keeps them or computes them elsewhere may change: evaluations, patience, checkpoints,
samples, logs, device, threads, micro-tokens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from gptcli.checkpoints.integrity.content import changes
from gptcli.errors import BadInput
from gptcli.training.durability.run_file import WAY_OUT, RunFile, RunModel

LIMITS = ("steps", "epochs", "minutes")
_OPTIONS: Mapping[str, tuple[str, ...]] = {  # a setting: the options that decide it
    "seed": ("seed",),
    "batch_tokens": ("batch_tokens",),
    "learning_rate": ("learning_rate",),
    "schedule": ("schedule",),
    "warmup": ("warmup",),
    "decay_from": ("decay_from",),
    "weight_decay": ("weight_decay",),
    "clip": ("clip",),
    "optimizer": ("optimizer",),
    "dropout": ("dropout",),
    "dtype": ("precision",),
    "lora": ("lora", "lora_rank", "lora_alpha", "lora_targets"),
    "frozen": ("freeze",),
}
_OF_DATA = (
    *("documents", "column", "prompt_column", "completion_column", "loss_on", "valid"),
    *("valid_share", "delimiter", "quoting", "errors", "context"),
)
_OF_SHAPE = {
    "n_layer": "layers",
    "n_embd": "width",
    "n_head": "heads",
    "n_positions": "context",
    "vocab_size": "vocab_size",
}
_LOOKING = ("patience", "eval_every")  # they choose among the weights, and say when it is enough
_LONGER = (
    "The learning rate falls towards the last step, so a longer run is another one. Run it as"
    " before; train what comes out further, with --from FOLDER and another -o; or start over with"
    " --force and --schedule constant, which can go on"
)
_LONGEST_VALUE = 60  # characters of a value


def agreed(name: str, then: RunFile, now: RunFile) -> RunFile:
    """The run as it goes on: `then`, with what may change as it is asked `now`.

    name: of the folder, for the error. Raises BadInput, naming everything that differs.
    """
    found = [*_of_settings(then, now), *_of_model(then, now)]
    found += list(_of_data(then, now, alone=not found))
    limits = list(_of_limits(then, now))
    if found or limits:
        raise differing(name, [*found, *limits], "" if found else _LONGER)
    settings = then.settings
    if _asked_otherwise(then, now, LIMITS):
        settings = replace(settings, steps=now.settings.steps)
    same_micro = not _asked_otherwise(then, now, ("micro_tokens",))
    micro = then.machine.micro_tokens if same_micro else now.machine.micro_tokens
    return then.but(
        version=now.version,
        asked=now.asked,
        settings=settings,
        machine=replace(now.machine, micro_tokens=micro),
    )


def check_model(name: str, then: RunFile, model: RunModel, asked: Mapping[str, object]) -> None:
    """Raise BadInput where the model is another one; `asked` are the options now."""
    found = list(_of_model(then, then.but(model=model, asked=asked)))
    if found:
        raise differing(name, found)


def differing(name: str, found: Iterable[str], hint: str = "") -> BadInput:
    """The error for a run that was begun differently."""
    why = f"the run there was begun differently: {'; '.join(found)}"
    return BadInput(name, why, hint or f"Run it as before. {WAY_OUT}")


def asked_otherwise(then: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    """The options that decide weights and were given otherwise, each in words."""
    deciding = [*(name for names in _OPTIONS.values() for name in names), *LIMITS, *_OF_DATA]
    return [
        _differs(name, then.get(name), now.get(name))
        for name in dict.fromkeys(deciding)
        if then.get(name) != now.get(name)
    ]


def is_longer(then: RunFile, now: RunFile) -> bool:
    """Whether a run that ended may have something left to do."""
    return _asked_otherwise(then, now, (*LIMITS, *_LOOKING))


def limits_differ(then: RunFile, now: RunFile) -> bool:
    """Whether steps, epochs or minutes are asked otherwise."""
    return _asked_otherwise(then, now, LIMITS)


def notices(then: RunFile, now: RunFile) -> Iterator[str]:
    """What of the machine changed, so that sums may differ in their last bits."""
    pairs = {
        "torch": (then.machine.torch, now.machine.torch),
        "the device": (then.machine.device, now.machine.device),
        "the number of threads": (then.machine.threads, now.machine.threads),
        "--micro-tokens": (then.machine.micro_tokens, now.machine.micro_tokens),
        "gptcli": (then.version, now.version),
    }
    changed = [f"{name} was {old} and is {new}" for name, (old, new) in pairs.items() if old != new]
    if changed:
        yield f"{', '.join(changed)}: the weights may differ in their last bits"
    if _asked_otherwise(then, now, _LOOKING):
        yield "validations or patience changed: another step may come out as the best"


def _of_settings(then: RunFile, now: RunFile) -> Iterator[str]:
    for name, options in _OPTIONS.items():
        old, new = (getattr(run.settings, name) for run in (then, now))
        if old != new and _asked_otherwise(then, now, options):
            yield _differs(options[0], old, new)


def _of_limits(then: RunFile, now: RunFile) -> Iterator[str]:
    """Only a constant rate does not depend on the end."""
    old, new = then.settings.steps, now.settings.steps
    if not _asked_otherwise(then, now, LIMITS) or (old == new and not _minutes_differ(then, now)):
        return
    if then.settings.schedule != "constant":
        named = [name for name in LIMITS if then.asked.get(name) != now.asked.get(name)]
        for name in named:
            yield _differs(name, then.asked.get(name), now.asked.get(name))
    elif new < (then.last or 0):
        yield f"--steps is {new}, and step {then.last} is done"


def _minutes_differ(then: RunFile, now: RunFile) -> bool:
    return then.asked.get("minutes") != now.asked.get("minutes")


def _of_model(then: RunFile, now: RunFile) -> Iterator[str]:
    old, new = then.model, now.model
    if (old.base is None) != (new.base is None):
        yield _differs("from", old.base, new.base)
        return
    shape = [key for key in _OF_SHAPE if old.config.get(key) != new.config.get(key)]
    for key in shape:
        yield _differs(_OF_SHAPE[key], old.config.get(key), new.config.get(key))
    if shape:
        return
    if found := changes(old.files, new.files):
        name = f" {new.base}" if new.base else ""
        yield f"the model{name}: {found}"
    elif _deciding(old.config) != _deciding(new.config):
        yield "config.json of the model has other contents"
    elif _asked_otherwise(then, now, ("vocab_size",)):
        yield _differs("vocab_size", then.asked.get("vocab_size"), now.asked.get("vocab_size"))


def _deciding(config: Mapping[str, object]) -> dict[str, object]:
    """config.json without rates of dropout, for which there is a setting."""
    return {key: value for key, value in config.items() if not key.endswith("_pdrop")}


def _of_data(then: RunFile, now: RunFile, alone: bool) -> Iterator[str]:
    if then.data.digest == now.data.digest:
        return
    found = list(_of_files(then, now))
    found += [
        _differs(name, then.asked.get(name), now.asked.get(name))
        for name in _OF_DATA
        if then.asked.get(name) != now.asked.get(name)
    ]
    yield from found or ["the data are cut into other pieces"] * alone


def _of_files(then: RunFile, now: RunFile) -> Iterator[str]:
    """Files are told apart by their contents: one may have moved."""
    old, new = ({file.name: file.sha256 for file in run.data.sources} for run in (then, now))
    if Counter(old.values()) == Counter(new.values()):
        return
    for name, digest in old.items():
        if name in new and new[name] != digest:
            yield f"{name} has other contents"
        elif name not in new and digest not in new.values():
            yield f"{name} is gone"
    for name, digest in new.items():
        if name not in old and digest not in old.values():
            yield f"{name} is new"


def _asked_otherwise(then: RunFile, now: RunFile, options: Iterable[str]) -> bool:
    return any(then.asked.get(name) != now.asked.get(name) for name in options)


def _differs(option: str, old: object, new: object) -> str:
    return f"--{option.replace('_', '-')} was {_shown(old)} and is {_shown(new)}"


def _shown(value: Any) -> str:
    if value is None:
        return "not given"
    if hasattr(value, "rank"):
        targets = " ".join(value.targets)
        return f"rank {value.rank}, alpha {value.alpha:g}, {targets}"
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text[:_LONGEST_VALUE]
