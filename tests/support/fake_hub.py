"""A local server that speaks as much of the Hub's API as a download needs, and misbehaves on order.

Its behaviour is plain attributes that a test sets: an error status, silence, a file cut short or
damaged, a size that is not true, a redirect to another host. It counts on nothing outside
127.0.0.1.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import constants

from support.loopback import Served

COMMIT = "0123456789abcdef0123456789abcdef01234567"
API = re.compile(r"/api/models/(?P<repo>.+?)(/revision/(?P<revision>.+))?")
TREE = re.compile(r"/api/models/(?P<repo>.+?)/tree/(?P<revision>.+)")
FILE = re.compile(r"(/moved|/cdn)?/(?P<repo>.+?)/resolve/(?P<revision>.+?)/(?P<name>.+)")
PIECE = 2**14  # bytes written at a time


class FakeHub(Served):
    """One model repository, `repo_id`, with the given files; large ones are kept with Git LFS."""

    def __init__(self, repo_id: str, files: dict[str, bytes]) -> None:
        self.repo_id, self.files, self.commit = repo_id, files, COMMIT
        # Questions about the model, and files
        self.status: int | None = None  # every question about the model is answered with it
        self.file_status: int | None = None  # every file is answered with it
        self.statuses: list[int] = []  # of the next answers with a file, one each
        self.error_code = ""  # X-Error-Code of such an answer
        self.retry_after = ""  # Retry-After of such an answer
        self.silent = False  # take the connection and never answer
        self.claimed: dict[str, int] = {}  # per file: the size that is listed
        self.listed: dict[str, str] = {}  # per file: the checksum that is listed
        # The content of a file
        self.cuts: dict[str, list[int]] = {}  # after how many bytes each answer breaks off
        self.damaged: dict[str, int] = {}  # in how many answers a byte is wrong
        self.hangs: dict[str, int] = {}  # after how many bytes nothing more comes
        self.pause = 0.0  # seconds before each piece of a file
        self.piece = PIECE
        self.drips: set[str] = set()  # files that come byte by byte
        self.endless = False  # more follows where a file should end, of no announced length
        self.torn_headers = 0  # so many answers with a file end in their headers
        self.ranges = "right"  # how a Range is answered: right, ignored, shifted
        self.redirect = ""  # "relative", or the address of another server
        # What it saw
        self.seen: list[tuple[str, str, str]] = []  # method, path, Range
        self.tokens: list[tuple[str, str]] = []  # path, Authorization
        self.sent = 0  # bytes of files' content
        hub = self

        class Handler(_Handler):
            owner = hub

        super().__init__(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        self.url = self.host

    def wait_for_end(self) -> None:
        """Hold a connection without an answer, as a dead server does."""
        self._ended.wait(30)

    def fetched(self) -> set[str]:
        """Names of the files whose content was asked for."""
        return {match["name"] for _, path, _ in self.content() if (match := FILE.fullmatch(path))}

    def content(self) -> list[tuple[str, str, str]]:
        """The requests for the content of a file."""
        return [one for one in self.seen if one[0] == "GET" and FILE.fullmatch(one[1])]


class _Handler(BaseHTTPRequestHandler):
    owner: FakeHub
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # it waits 40 ms between the headers and a body

    def do_GET(self) -> None:
        self.answer(body=True)

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def log_message(self, *_: object) -> None:
        """Stay off stderr, where the tests look."""

    def handle(self) -> None:
        """A client that is killed or leaves is nothing to talk about."""
        try:
            super().handle()
        except OSError:
            self.close_connection = True

    def answer(self, body: bool) -> None:
        hub, path = self.owner, unquote(urlsplit(self.path).path)
        hub.seen.append((self.command, path, self.headers.get("Range", "")))
        hub.tokens.append((path, self.headers.get("Authorization", "")))
        if hub.silent:
            hub.wait_for_end()
            self.close_connection = True
        elif match := FILE.fullmatch(path):
            self.answer_file(match["repo"], match["name"], body, path)
        elif match := TREE.fullmatch(path) or API.fullmatch(path):
            self.answer_question(match["repo"], "/tree/" in path)
        else:
            self.send(404, {}, b"")

    def answer_question(self, repo: str, tree: bool) -> None:
        hub = self.owner
        if hub.status is not None:
            self.refuse(hub.status)
        elif repo != hub.repo_id:
            self.send(404, {"X-Error-Code": "RepoNotFound"}, b"")
        elif tree:
            self.send_json([self.entry(name) for name in hub.files])
        else:
            siblings = [self.sibling(name) for name in hub.files]
            self.send_json({"id": repo, "modelId": repo, "sha": hub.commit, "siblings": siblings})

    def entry(self, name: str) -> dict[str, object]:
        """A file as the listing of a tree has it."""
        about = self.sibling(name)
        found = {"type": "file", "path": name, "size": about["size"], "oid": about["blobId"]}
        if is_large(name):
            sum_ = etag(name, self.owner.files[name])
            found["lfs"] = {"oid": sum_, "size": about["size"], "pointerSize": 130}
        return found

    def sibling(self, name: str) -> dict[str, object]:
        """A file as the answer about a model has it."""
        hub = self.owner
        data, sum_ = hub.files[name], hub.listed.get(name, etag(name, hub.files[name]))
        size = hub.claimed.get(name, len(data))
        lfs = {"sha256": sum_, "size": size, "pointerSize": 130} if is_large(name) else None
        oid = git_sha1(b"pointer to " + sum_.encode()) if lfs else sum_
        return {"rfilename": name, "size": size, "blobId": oid, "lfs": lfs}

    def answer_file(self, repo: str, name: str, body: bool, path: str) -> None:
        hub = self.owner
        data = hub.files.get(name)
        status = hub.statuses.pop(0) if hub.statuses else hub.file_status
        away = path.startswith(("/moved/", "/cdn/"))
        if hub.torn_headers > 0:
            hub.torn_headers -= 1
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Le")
            self.close_connection = True
        elif status is not None:
            self.refuse(status)
        elif repo != hub.repo_id or data is None:
            self.send(404, {"X-Error-Code": "EntryNotFound"}, b"")
        elif hub.redirect and not away:
            target = "/moved" if hub.redirect == "relative" else f"{hub.redirect}/cdn"
            self.send(302, {"Location": target + self.path}, b"")
        elif body:
            self.send_content(name, data)
        else:
            self.send(200, self.about(name, data) | {"Content-Length": str(len(data))}, b"")

    def send_content(self, name: str, data: bytes) -> None:
        """A file, or what of it was asked for."""
        hub = self.owner
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(wanted[1]) if wanted and hub.ranges != "ignored" else 0
        if start and start >= len(data):
            self.send(416, {"Content-Range": f"bytes */{len(data)}"}, b"")
            return
        if hub.damaged.get(name, 0) > 0:
            hub.damaged[name] -= 1
            data = data[:-1] + bytes([data[-1] ^ 1])
        headers = self.about(name, data)
        if not hub.endless:
            headers["Content-Length"] = str(len(data) - start)
        self.send_response(206 if start else 200)
        if start:
            begin = start + (7 if hub.ranges == "shifted" else 0)
            headers["Content-Range"] = f"bytes {begin}-{len(data) - 1}/{len(data)}"
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        cuts = hub.cuts.get(name)
        stop = min(len(data), start + cuts.pop(0) if cuts else len(data))
        self.close_connection = stop < len(data) or hub.endless
        self.write_slowly(name, data, start, stop)

    def write_slowly(self, name: str, data: bytes, start: int, stop: int) -> None:
        hub = self.owner
        piece = 1 if name in hub.drips else hub.piece
        while start < stop:
            if start >= hub.hangs.get(name, len(data)):
                hub.wait_for_end()
                return
            if hub.pause or name in hub.drips:
                time.sleep(hub.pause or 0.02)
            end = min(start + piece, stop, hub.hangs.get(name, stop))
            self.wfile.write(data[start:end])
            hub.sent += end - start
            start = end
        while hub.endless and not hub._ended.wait(0.005):
            self.wfile.write(b"x" * 100)

    def about(self, name: str, data: bytes) -> dict[str, str]:
        sum_ = etag(name, data)
        large = {"X-Linked-Etag": f'"{sum_}"', "X-Linked-Size": str(len(data))}
        return {
            "ETag": f'"{sum_}"',
            "X-Repo-Commit": self.owner.commit,
            "Accept-Ranges": "bytes",
            **(large if is_large(name) else {}),
        }

    def refuse(self, status: int) -> None:
        hub = self.owner
        asked = {"Retry-After": hub.retry_after} if hub.retry_after else {}
        self.send(status, {"X-Error-Code": hub.error_code, **asked}, b"")

    def send_json(self, value: object) -> None:
        body = json.dumps(value).encode()
        self.send(200, {"Content-Type": "application/json", "Content-Length": str(len(body))}, body)

    def send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def is_large(name: str) -> bool:
    """Whether a file is kept with Git LFS."""
    return name.endswith((".safetensors", ".bin", ".h5"))


def etag(name: str, data: bytes) -> str:
    """What the Hub calls a file's content: SHA-256 of a large one, git's SHA-1 of a small one."""
    return hashlib.sha256(data).hexdigest() if is_large(name) else git_sha1(data)


def git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def begin_empty(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `folder` the Hugging Face cache, and forget what the environment says of the Hub."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)


def point_at(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Do what HF_ENDPOINT does when huggingface_hub is imported."""
    monkeypatch.setattr(constants, "ENDPOINT", url)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
