"""The page's files, served from memory.

The page is `index.html`; what it loads is below `page/`, named relative to it, so that it works
behind a path prefix. Nothing of it comes from a request or from the model, so anybody may have it;
its script asks the routes with the user's key. Its policy lets it load its own files and ask its
own server, and nothing else: no inline script or style, no frame around it, no markup from strings.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from starlette.types import Receive, Scope, Send

from gptcli.server.service import Service
from gptcli.web.assets import ELEMENTS, STYLE, shared

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    )
)
HEADERS = {
    "cache-control": "no-cache",  # asked again each time, and answered by 304
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
OWN = ("index.html", "page.css", "tokens.js", "client.js", "settings.js", "sheet.js", "page.js")


@dataclass(frozen=True)
class PageFile:
    """A file of the page; called as a route, it answers."""

    body: bytes
    type: str

    @property
    def tag(self) -> str:
        """Its ETag."""
        return f'"{hashlib.sha256(self.body).hexdigest()[:32]}"'

    async def __call__(self, service: Service, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file, or say that the client has it."""
        known = b",".join(value for name, value in scope["headers"] if name == b"if-none-match")
        tags = {tag.strip().removeprefix("W/") for tag in known.decode("latin-1").split(",")}
        given = HEADERS | {"etag": self.tag}
        if self.tag in tags or "*" in tags:
            status, body = 304, b""
        else:
            status, body = 200, self.body
            given |= {
                "content-type": f"{self.type}; charset=utf-8",
                "content-length": str(len(body)),
            }
        headers = [(name.encode(), value.encode()) for name, value in given.items()]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def page_files() -> dict[str, PageFile]:
    """The files by the paths that they are served at."""
    folder = Path(__file__).parent
    texts = {name: (folder / name).read_text(encoding="utf-8") for name in OWN}
    texts |= {name: shared(name) for name in (STYLE, ELEMENTS)}
    return {
        "/" if name == "index.html" else f"/page/{name}": PageFile(
            text.encode(), TYPES[Path(name).suffix]
        )
        for name, text in texts.items()
    }
