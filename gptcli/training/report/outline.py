"""The plan of a run as far as it is known before its first step, and how it reads."""

from __future__ import annotations

from pathlib import Path

from gptcli.checkpoints.architecture import GPT2Config
from gptcli.system.units import clock, counted, model_size
from gptcli.training.data.corpus import TrainingCorpus
from gptcli.training.durability.run_file import RunFile
from gptcli.training.events import Planned, Prepared
from gptcli.training.options import TrainOptions
from gptcli.training.settings import TrainingSettings

FEW_TOKENS = 20_000  # below it a new model learns little but the text itself
SCHEDULES = {
    "cosine": "then falling to 0 as a cosine",
    "linear": "then falling to 0 in a straight line",
    "constant": "then constant",
    "wsd": "then constant, falling to 0 from {:.0%} of the steps on",
}


def outlined(
    options: TrainOptions,
    run: RunFile,
    config: GPT2Config,
    corpus: TrainingCorpus,
    folder: Path,
    going_on: bool,
) -> Prepared:
    """The plan of a run, as an event."""
    settings, tokens = run.settings, corpus.train.tokens
    minutes = run.asked.get("minutes")
    return Prepared(
        folder=folder,
        going_on=going_on,
        base=run.model.base,
        layers=config.n_layer,
        width=config.n_embd,
        heads=config.n_head,
        context=options.model.context or config.n_positions,
        vocabulary=config.vocab_size,
        parameters=config.parameters,
        documents=corpus.documents,
        documents_by=corpus.documents_by,
        tokens=tokens,
        valid_tokens=corpus.valid.tokens if corpus.valid is not None else 0,
        valid_file=bool(corpus.valid_sources),
        steps=settings.steps,
        epochs=settings.steps * settings.batch_tokens / tokens,
        minutes=float(minutes) if isinstance(minutes, int | float) else None,
        batch_tokens=settings.batch_tokens,
        trained=trained(settings),
        learning_rate=settings.learning_rate,
        rate_given=options.optimization.learning_rate is not None,
        schedule=settings.schedule,
        warmup=settings.warmup,
        decay_from=settings.decay_from,
        optimizer=settings.optimizer,
        precision=settings.dtype,
        precision_why=_why(options.model.precision, settings.dtype),
        device=run.machine.device,
        threads=run.machine.threads,
        seed=settings.seed,
    )


def trained(settings: TrainingSettings) -> str:
    """Which parameters are trained, in words."""
    kept = counted(settings.frozen, "first layer") if settings.frozen else ""
    if settings.lora is not None:
        lora = settings.lora
        where = f", not in the {kept}" if kept else ""
        on = ", ".join(lora.targets)
        return f"low-rank adapters (LoRA) of rank {lora.rank}, alpha {lora.alpha:g}, on {on}{where}"
    return f"all parameters but the embeddings and the {kept}" if kept else "all parameters"


def lines(plan: Prepared) -> list[str]:
    """The plan in words, a line a subject."""
    found = [_data(plan), _model(plan), _steps(plan), _rate(plan), _machine(plan)]
    if plan.base is None and plan.tokens < FEW_TOKENS:
        found.append(
            f"{plan.tokens:,} tokens are little for a new model: it will mostly repeat them;"
            " fine-tuning a model (--from) needs less text"
        )
    return found


def measured(planned: Planned) -> str:
    """What the first steps told, in words."""
    micro = f"{planned.micro_tokens:,} tokens computed at a time"
    if planned.checkpointing:
        micro += ", activations twice in place of kept (gradient checkpointing)"
    return (
        f"measured: {planned.tokens_per_second:,.0f} tokens/s, about"
        f" {clock(planned.seconds_left)} left until step {planned.steps:,}"
        f" ({planned.epochs:.3g} epochs); memory {model_size(planned.peak)} at most so far,"
        f" {model_size(planned.available)} free; {micro}"
    )


def _data(plan: Prepared) -> str:
    documents = f"{plan.documents:,} document{'s' * (plan.documents != 1)}"
    kept = f"{plan.valid_tokens:,} tokens "
    if plan.valid_file:
        kept += "of --valid to validate on"
    elif plan.valid_tokens:
        kept += "kept for validation"
    else:
        kept = "none kept for validation, so nobody knows when it is enough"
    return f"data: {documents} ({plan.documents_by}), {plan.tokens:,} tokens to train on, {kept}"


def _model(plan: Prepared) -> str:
    layers = f"{counted(plan.layers, 'layer')} of {plan.width}, {counted(plan.heads, 'head')}"
    shape = f"{layers}, context {plan.context:,}, {plan.vocabulary:,} kinds of tokens"
    made = f"fine-tuning {plan.base}" if plan.base else "a new GPT-2"
    return f"model: {made}, {plan.parameters:,} parameters ({shape}); trained: {plan.trained}"


def _steps(plan: Prepared) -> str:
    each = f"{plan.batch_tokens:,} tokens"
    if plan.minutes is not None:
        return f"steps: of {each}, for {plan.minutes:g} minutes at most"
    epochs = f"{plan.epochs:.3g} epoch{'s' * (f'{plan.epochs:.3g}' != '1')}"
    return f"steps: {plan.steps:,} of {each}, {epochs}; seed {plan.seed}"


def _rate(plan: Prepared) -> str:
    why = "given" if plan.rate_given else "usual "
    if not plan.rate_given:
        kind = "for LoRA" if "LoRA" in plan.trained else "to fine-tune"
        why += kind if plan.base else "for a new model"
    shape = SCHEDULES[plan.schedule].format(plan.decay_from)
    rate = f"{plan.learning_rate:g} ({why}), {_warmup(plan)}, {shape}"
    return f"learning rate: {rate}; {_OPTIMIZERS[plan.optimizer]}"


def _warmup(plan: Prepared) -> str:
    if plan.minutes is not None and plan.steps:
        return f"after a warm-up of {plan.warmup / plan.steps:.0%} of the time"
    return f"after {counted(plan.warmup, 'step')} of warm-up"


_OPTIMIZERS = {"adamw": "AdamW", "muon": "Muon for the layers' matrices, AdamW for the rest"}


def _machine(plan: Prepared) -> str:
    threads = f", {counted(plan.threads, 'thread')}" if plan.device == "cpu" else ""
    return f"computed: on {plan.device}{threads}, in {plan.precision} ({plan.precision_why})"


def _why(asked: str, dtype: str) -> str:
    if asked != "auto":
        return "asked for"
    if dtype == "bfloat16":
        return "the processor is fast in it; weights stay in float32"
    return "exact, and not slower than bfloat16 here"
