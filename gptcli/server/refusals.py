"""What a client is told when something is refused, in OpenAI's shape."""

from __future__ import annotations

from dataclasses import dataclass, field

from gptcli.errors import BadInput, Busy, GptcliError, Unavailable, UsageError, WriteFailed

INVALID = "invalid_request_error"
OVERLOADED = "overloaded_error"
INTERNAL = "server_error"


@dataclass(eq=False)  # not frozen: contextlib sets __traceback__ of what goes through it
class Refusal(Exception):
    """An answer that is an error. `param`: the field of the request that it is about."""

    status: int
    message: str
    kind: str = INVALID
    param: str | None = None
    code: str | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, object]:
        """The body."""
        error = {
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.code,
        }
        return {"error": error}


def bad_field(param: str, why: str, code: str | None = None) -> Refusal:
    """The refusal of one field of a request."""
    return Refusal(400, f"{param}: {why}", param=param, code=code)


def refusal_of(error: BaseException, param: str | None = None) -> Refusal:
    """The refusal for a failure of ours.

    What the client can mend is 400; a model that is overloaded or gone is 503; the rest is 500,
    with nothing of its text unless it is an error of ours (a disk that is full names a file here).
    """
    if isinstance(error, Refusal):
        return error
    if isinstance(error, UsageError | BadInput):
        told = error.in_python()
        code = "context_length_exceeded" if "too long" in told.what else None
        return Refusal(400, str(told), param=param, code=code)
    if isinstance(error, Busy | Unavailable):
        return Refusal(503, str(error), OVERLOADED)
    if isinstance(error, GptcliError) and not isinstance(error, WriteFailed):
        return Refusal(500, str(error), INTERNAL)
    return failure()


def failure() -> Refusal:
    """What a client is told of a failure that is none of its business."""
    return Refusal(500, "the server failed to answer; its log says more", INTERNAL)
