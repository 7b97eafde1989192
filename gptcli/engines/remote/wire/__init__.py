"""What a server says: the events of a stream, and the errors that it answers with.

No network here: bytes come from `gptcli.engines.remote.client`, as many as `bounds` lets through.
"""

from gptcli.engines.remote.wire.errors import (
    ServerError,
    StatusError,
    StreamedError,
    status_error,
)
from gptcli.engines.remote.wire.events import EventReader

__all__ = ["EventReader", "ServerError", "StatusError", "StreamedError", "status_error"]
