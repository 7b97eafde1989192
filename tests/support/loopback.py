"""An HTTP server on this machine that runs in a thread for as long as a block."""

from __future__ import annotations

from http.server import ThreadingHTTPServer
from threading import Event, Thread
from types import TracebackType
from typing import Self


class Served:
    """Serves inside a `with` block; `_ended` is set at its end, for handlers that wait."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self._server, self._ended = server, Event()
        self._server.daemon_threads = True
        self.host = f"http://127.0.0.1:{server.server_address[1]}"

    def __enter__(self) -> Self:
        Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()
