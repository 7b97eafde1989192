"""What all routes share: the engine's thread, the model's name, limits, and what was counted."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from functools import cached_property
from threading import Lock

from gptcli.chat_templates import Template, choose
from gptcli.checkpoints.adapters.reference import fingerprint
from gptcli.protocol import Engine, ModelInfo
from gptcli.server.engine_thread import ClientJob, EngineThread
from gptcli.server.metrics import Metrics
from gptcli.server.refusals import OVERLOADED, Refusal
from gptcli.server.request_note import NOTE


@dataclass(frozen=True, kw_only=True)
class ServiceLimits:
    """What the server takes on; beyond it a request is refused at once."""

    queued_requests: int = 256  # that the engine has not begun
    queued_tokens: int = 262_144  # of their prompts
    sequences: int = 1024  # of one request
    seconds: float = 600.0  # of one request, waiting included
    stall_seconds: float = 120.0  # without a step, after which the engine counts as dead


@dataclass
class Service:
    """One model, served."""

    engine: EngineThread
    limits: ServiceLimits = field(default_factory=ServiceLimits)
    created: int = field(default_factory=lambda: int(time.time()))
    draining: bool = False
    called: str | None = None  # the model's name, where it is not the one that the engine has
    active: int = 0  # requests that are being read, worked on or answered
    metrics: Metrics = field(default_factory=Metrics)
    rendering: Lock = field(default_factory=Lock)  # the template, whose sandbox counts its steps
    tokenizer_info: bool = False  # whether clients are told of the tokenizer
    # Of the engine's thread: the labels' log-probabilities without an input, by what they are of.
    priors: dict[object, tuple[tuple[float, ...], ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.engine.observe = self.metrics.observe

    @property
    def trouble(self) -> str | None:
        """Why nothing can be answered: failed, stalled; None while all is well."""
        if not self.engine.alive:
            return "failed"
        return "stalled" if self.engine.stalled > self.limits.stall_seconds else None

    @classmethod
    def of(cls, engine: Engine, limits: ServiceLimits) -> Service:
        """A service that is not started."""
        return cls(EngineThread(engine), limits)

    @property
    def info(self) -> ModelInfo:
        """The model."""
        return self.engine.engine.info

    @property
    def name(self) -> str:
        """What clients call the model."""
        return self.called or self.info.name

    @cached_property
    def fingerprint(self) -> str:
        """Of what the texts depend on beside the request."""
        adapted = fingerprint(self.info.adapted.adapters)[:12]
        named = f"{self.info.dtype}-{self.info.revision or 'local'}"
        return f"{named[:27]}-{adapted}" if adapted else named[:40]

    @cached_property
    def template(self) -> Template:
        """How a conversation becomes a prompt. Raises BadModel."""
        text_folder = self.info.adapted.tokenizer_folder or self.info.folder
        return choose("auto", text_folder, self.name)

    def check_model(self, asked: str | None) -> None:
        """Refuse a name that is not this model's. None is this model."""
        if asked is not None and asked not in (self.name, self.name.rsplit("/", 1)[-1]):
            why = f"the model {asked[:200]!r} does not exist here; {self.name!r} is served"
            raise Refusal(404, why, param="model", code="model_not_found")

    def submit(self, job: ClientJob) -> ClientJob:
        """Queue a job. Raises Refusal where the server is full or about to end."""
        waiting, tokens = self.engine.queued, self.engine.queued_tokens
        wait = {"Retry-After": str(max(1, min(60, waiting // 8)))}
        if self.draining:
            raise stopping()
        if waiting >= self.limits.queued_requests:
            why = f"{waiting} requests are waiting, which is the limit"
            raise Refusal(429, why, OVERLOADED, code="queue_full", headers=wait)
        if waiting and tokens + job.tokens > self.limits.queued_tokens:
            why = f"{tokens} tokens are waiting; the limit is {self.limits.queued_tokens}"
            raise Refusal(429, why, OVERLOADED, code="queue_full", headers=wait)
        if (note := NOTE.get()) is not None:
            note.jobs.append(job)
        return self.engine.submit(job)


def stopping() -> Refusal:
    """What clients are told once the server is about to stop."""
    headers = {"Retry-After": "1", "Connection": "close"}
    return Refusal(503, "the server is about to stop", OVERLOADED, headers=headers)


def new_id(kind: str) -> str:
    """An id that no other answer has."""
    return f"{kind}-{secrets.token_hex(12)}"
