"""The models on the disk: incomplete or broken ones, their size, and the room that is left."""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path

from gptcli.checkpoints import int8_store
from gptcli.checkpoints.hf_cache import cache_folder
from gptcli.checkpoints.preflight import inspect
from gptcli.doctor.findings import Finding, Findings
from gptcli.models.entries import ListedModel, inventory
from gptcli.system.units import model_size

LOW_DISK_BYTES = 2e9  # gpt2-medium in float32 would not fit


def storage() -> Findings:
    """Look at the Hugging Face cache, the int8 weights, and the model that comes along."""
    from gptcli.checkpoints.resolve import BUNDLE

    inspect(BUNDLE)
    folder = cache_folder()
    yield from _room(folder)
    found = inventory()
    entries = [entry for entry in found.entries if entry.kind == "cached"]
    size = model_size(sum(entry.size for entry in entries)) if entries else "nothing"
    yield Finding(area="models", what="cache", value=f"{size} in {folder}")
    for entry in entries:
        if entry.state in ("incomplete", "broken"):
            yield _faulty(entry)
    for model in found.cached:
        if model.unfinished:
            name = shlex.quote(model.id)
            value = f"{model_size(model.unfinished)} of a download that did not end"
            fix = f"Go on with it: gptcli models pull {name}"
            yield Finding(area="models", what=model.id, value=value, level="note", fix=fix)
        if model.fault:
            fix = f"Remove it: gptcli models rm {shlex.quote(model.id)}"
            yield Finding(area="models", what=model.id, value=model.fault, level="problem", fix=fix)
    kept = int8_store.entries()
    total = model_size(sum(entry.size for entry in kept)) if kept else "none"
    yield Finding(area="models", what="int8 weights", value=f"{total} in {int8_store.folder()}")


def _faulty(entry: ListedModel) -> Finding:
    name = shlex.quote(entry.name)
    why = entry.fault or f"without {', '.join(entry.missing)}"
    value = f"{entry.state}: {why}"
    fix = f"Fetch it again: gptcli models rm {name}, then gptcli models pull {name}"
    if entry.state == "incomplete":
        fix = f"Fetch what is missing: gptcli models pull {name}"
    return Finding(area="models", what=entry.name, value=value, level="problem", fix=fix)


def _room(folder: Path) -> Findings:
    """Whether the cache can be written, and how much fits."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    if not os.access(place, os.W_OK):
        fix = "Change its permissions, or set HF_HOME to a folder that can be written."
        value = f"{place} cannot be written"
        yield Finding(area="models", what="cache", value=value, level="problem", fix=fix)
        return
    free = shutil.disk_usage(place).free
    if free < LOW_DISK_BYTES:
        fix = "Make room (gptcli models shows what is there), or set HF_HOME to another disk."
        value = f"{model_size(free)} free in {place}"
        yield Finding(area="models", what="room", value=value, level="note", fix=fix)
    else:
        yield Finding(area="models", what="room", value=f"{model_size(free)} free")
