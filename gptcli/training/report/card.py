"""README.md of a trained model: a card as on the Hub, of what run.json, the log and the base's own
card say.

Nothing is claimed that is not known: the licence is the base's where its card names one, and else a
line that asks for it.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Sequence
from math import exp

from gptcli.system.sanitizer import one_line
from gptcli.system.units import counted, transfer_size
from gptcli.training.report.finished import FinishedRun
from gptcli.training.report.memorisation import BY_HEART, Memorisation
from gptcli.training.report.outline import lines

MOST_FILES = 50  # that are listed
MOST_NATS = 700.0  # beyond which a perplexity is no number
CardFields = dict[str, str | list[str]]


def card(
    run: FinishedRun,
    base: CardFields,
    found: Memorisation | None,
    samples: Sequence[str],
    pictured: bool,
) -> str:
    """The text of the card. base: the front matter of the base's; samples: of the last step."""
    parts = [
        "---",
        *_front(run, base),
        "---",
        f"# {one_line(run.folder.resolve().name)}",
        "",
        *_intro(run),
        "",
        *_figures(run, pictured),
        "",
        *_memorised(found),
        *_samples(samples),
        *_plan(run),
        "",
        *_data(run),
        "",
        *_base(run, base),
        *_repeat(run),
    ]
    return "\n".join(parts) + "\n"


def _front(run: FinishedRun, base: CardFields) -> Iterator[str]:
    for key in ("license", "license_name", "license_link", "language"):
        if key in base:
            yield f"{key}: {_yaml(base[key])}"
    if "license" not in base:
        yield "license: unknown  # write that of your text, and of the base model"
    lora = run.run.settings.lora is not None
    yield f"library_name: {'peft' if lora else 'transformers'}"
    yield "pipeline_tag: text-generation"
    if run.plan.base:
        yield f"base_model: {_yaml(run.plan.base)}"
        yield f"base_model_relation: {'adapter' if lora else 'finetune'}"
    yield f"tags: {_yaml(['gpt2', *(['lora'] if lora else []), 'gptcli'])}"


def _yaml(value: str | Sequence[str]) -> str:
    """A text, or a list of texts; JSON is YAML."""
    if isinstance(value, str):
        plain = value.isascii() and value.replace("-", "").replace(".", "").isalnum()
        return value if plain else json.dumps(value, ensure_ascii=False)
    return json.dumps([*value], ensure_ascii=False)


def _intro(run: FinishedRun) -> Iterator[str]:
    plan = run.plan
    what = f"{plan.base}, fine-tuned" if plan.base else "A GPT-2 that was trained from scratch"
    name = run.folder.name
    yield f"{one_line(what)} by `gptcli train` {run.run.version}: {plan.parameters:,} parameters."
    yield ""
    yield "```"
    yield f'gptcli generate -m {name} "Once upon a time"'
    yield "```"


def _figures(run: FinishedRun, pictured: bool) -> Iterator[str]:
    done = run.done
    yield "## Losses"
    yield ""
    if pictured:
        yield "![losses](loss.svg)"
        yield ""
    yield f"- Steps: {done.step:,}; the model is that of step {done.chosen:,}."
    if done.best_loss is not None and done.best_loss < MOST_NATS:
        yield (
            f"- Validation loss: {done.best_loss:.4f} nats a token, perplexity"
            f" {exp(done.best_loss):.2f}, on {run.plan.valid_tokens:,} tokens."
        )
    yield f"- Ended by: {done.ending}."


def _memorised(found: Memorisation | None) -> Iterator[str]:
    if found is None:
        return
    yield "## What it learned by heart"
    yield ""
    yield from (f"- {sentence}" for sentence in found.sentences)
    shared = max(found.texts, key=lambda text: text.shared, default=None)
    if shared is not None and shared.shared >= BY_HEART:
        yield f"- The longest passage ({shared.kind}): {_quoted(shared.passage, 300)}"
    yield ""
    yield "All texts that were compared are in memorisation.json."
    yield ""


def _samples(samples: Sequence[str]) -> Iterator[str]:
    if samples:
        yield "## Samples"
        yield ""
        for text in samples:
            yield f"> {_quoted(text, 600)}"
            yield ""


def _quoted(text: str, most: int) -> str:
    """A text on one line, that Markdown and HTML leave as it is."""
    plain = one_line(" ".join(text.split()))[:most]
    for sign in "\\`*_<[#":
        plain = plain.replace(sign, f"\\{sign}")
    return plain


def _plan(run: FinishedRun) -> Iterator[str]:
    settings = run.run.settings
    machine = run.run.machine
    yield "## Training"
    yield ""
    yield from (f"- {one_line(line)}" for line in lines(run.plan))
    yield (
        f"- weight decay {settings.weight_decay:g}, betas {settings.beta1:g} and"
        f" {settings.beta2:g}, clip {settings.clip:g}, dropout {settings.dropout:g}"
    )
    yield (
        f"- torch {machine.torch}, Python {platform.python_version()}, {platform.system()}"
        f" {platform.machine()}"
    )


def _data(run: FinishedRun) -> Iterator[str]:
    data = run.run.data
    yield "## Data"
    yield ""
    documents = counted(data.documents, "document")
    yield f"{documents} ({one_line(data.documents_by)}). SHA-256 of the files:"
    yield ""
    for file in data.sources[:MOST_FILES]:
        name = _quoted(file.name, 200)
        yield f"- {name}, {transfer_size(file.bytes)}: `{file.sha256}`"
    if len(data.sources) > MOST_FILES:
        yield f"- and {len(data.sources) - MOST_FILES} more, see run.json"
    yield from (f"- note: {_quoted(notice, 300)}" for notice in run.corpus.notices)


def _base(run: FinishedRun, base: CardFields) -> Iterator[str]:
    if not run.plan.base:
        return
    yield "## Base model"
    yield ""
    revision = f", revision {run.run.model.revision}" if run.run.model.revision else ""
    licence = base.get("license")
    named = f"; its card names the licence {licence}" if licence else "; its card names no licence"
    yield f"{one_line(run.plan.base)}{revision}{named if base else '; it has no card'}."
    for name, digest in run.run.model.files.items():
        if name.endswith(".safetensors"):
            yield f"SHA-256 of {name}: `{digest}`"
    yield ""


def _repeat(run: FinishedRun) -> Iterator[str]:
    yield "## Options"
    yield ""
    yield "```json"
    yield json.dumps(run.run.asked, ensure_ascii=False)
    yield "```"
