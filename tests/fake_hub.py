"""A local server that speaks as much of the Hub's API as huggingface_hub needs for a download.

Its behaviour is plain attributes that a test sets: an error status, silence, a file cut short, a
size that is not true. It counts on nothing outside 127.0.0.1.
"""

from __future__ import annotations

import hashlib
import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from types import TracebackType
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
API = re.compile(r"/api/models/(?P<repo>.+?)(/revision/(?P<revision>.+))?")
TREE = re.compile(r"/api/models/(?P<repo>.+?)/tree/(?P<revision>.+)")
FILE = re.compile(r"/(?P<repo>.+?)/resolve/(?P<revision>.+?)/(?P<name>.+)")


class FakeHub:
    """One model repository, `repo_id`, with the given files."""

    def __init__(self, repo_id: str, files: dict[str, bytes]) -> None:
        self.repo_id, self.files = repo_id, files
        self.status: int | None = None  # every question about the model is answered with it
        self.file_status: int | None = None  # every file is answered with it
        self.error_code = ""  # X-Error-Code of such an answer
        self.silent = False  # take the connection and never answer
        self.cuts: dict[
            str, list[int]
        ] = {}  # per file: after how many bytes each answer breaks off
        self.claimed: dict[str, int] = {}  # per file: the size that HEAD claims
        self.seen: list[tuple[str, str, str]] = []  # method, path, Range
        self._ended = Event()
        hub = self

        class Handler(_Handler):
            owner = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> FakeHub:
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

    def wait_for_end(self) -> None:
        """Hold a connection without an answer, as a dead server does."""
        self._ended.wait(30)

    def fetched(self) -> set[str]:
        """Names of the files whose content was asked for."""
        paths = [path for method, path, _ in self.seen if method == "GET"]
        return {match["name"] for path in paths if (match := FILE.fullmatch(path))}


class _Handler(BaseHTTPRequestHandler):
    owner: FakeHub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.answer(body=True)

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def log_message(self, *_: object) -> None:
        """Stay off stderr, where the tests look."""

    def answer(self, body: bool) -> None:
        hub, path = self.owner, unquote(urlsplit(self.path).path)
        hub.seen.append((self.command, path, self.headers.get("Range", "")))
        if hub.silent:
            hub.wait_for_end()
            self.close_connection = True
        elif match := FILE.fullmatch(path):
            self.answer_file(match["repo"], match["name"], body)
        elif match := TREE.fullmatch(path) or API.fullmatch(path):
            self.answer_question(match["repo"], "/tree/" in path)
        else:
            self.send(404, {}, b"")

    def answer_question(self, repo: str, tree: bool) -> None:
        hub = self.owner
        if hub.status is not None:
            self.send(hub.status, {"X-Error-Code": hub.error_code}, b"")
        elif repo != hub.repo_id:
            self.send(404, {"X-Error-Code": "RepoNotFound"}, b"")
        elif tree:
            self.send_json([self.entry(name, data) for name, data in hub.files.items()])
        else:
            siblings = [{"rfilename": name} for name in hub.files]
            self.send_json({"id": repo, "modelId": repo, "sha": COMMIT, "siblings": siblings})

    @staticmethod
    def entry(name: str, data: bytes) -> dict[str, object]:
        return {"type": "file", "path": name, "size": len(data), "oid": _etag(data)}

    def answer_file(self, repo: str, name: str, body: bool) -> None:
        hub = self.owner
        data = hub.files.get(name)
        if hub.file_status is not None:
            self.send(hub.file_status, {"X-Error-Code": hub.error_code}, b"")
        elif repo != hub.repo_id or data is None:
            self.send(404, {"X-Error-Code": "EntryNotFound"}, b"")
        elif body:
            self.send_content(name, data)
        else:
            size = hub.claimed.get(name, len(data))
            self.send(200, self.about(data) | {"Content-Length": str(size)}, b"")

    def send_content(self, name: str, data: bytes) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(wanted[1]) if wanted else 0
        headers = self.about(data) | {"Content-Length": str(len(data) - start)}
        if wanted:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        cuts = self.owner.cuts.get(name)
        stop = start + cuts.pop(0) if cuts else len(data)
        self.send(206 if wanted else 200, headers, data[start:stop])
        self.close_connection = stop < len(data)

    @staticmethod
    def about(data: bytes) -> dict[str, str]:
        return {"ETag": f'"{_etag(data)}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}

    def send_json(self, value: object) -> None:
        body = json.dumps(value).encode()
        self.send(200, {"Content-Type": "application/json", "Content-Length": str(len(body))}, body)

    def send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _etag(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()
