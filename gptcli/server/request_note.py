"""What is noted of a request while it is answered: its id, and the work that it caused.

The note goes with the task that answers the request, so that nothing has to pass it on.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field

from gptcli.server.engine_thread import ClientJob


@dataclass
class RequestNote:
    """One request of a client."""

    id: str
    jobs: list[ClientJob] = field(default_factory=list)

    @property
    def prompt_tokens(self) -> int:
        """Of its prompts, as far as they were read."""
        return sum(job.prompt_tokens for job in self.jobs)

    @property
    def completion_tokens(self) -> int:
        """That were written for it."""
        return sum(job.completion_tokens for job in self.jobs)


NOTE: ContextVar[RequestNote | None] = ContextVar("request", default=None)
