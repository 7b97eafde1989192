"""Which names the server answers to, and which pages of the web may use it.

A page of another site must neither read answers nor put the model to work. A page whose name was
made to point at this machine (DNS rebinding) sends that name as its Host: it is refused. Addresses
cannot be rebound, so they are always taken. Requests that a page of a foreign origin sends are
refused unless that origin is allowed; none is by default. Cookies are not used, so no answer allows
credentials, and an origin is named in an answer only where it is listed.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass

from gptcli.server.refusals import Refusal

NAME = re.compile(r"(?P<host>\[[0-9a-fA-F:.%a-z]+\]|[^\[\]:/?#@\s]*)(?::\d{1,5})?")
TOKEN = re.compile(r"[\w!#$%&'*+.^`|~-]+(?:\s*,\s*[\w!#$%&'*+.^`|~-]+)*", re.ASCII)
EXPOSED = "X-Request-Id, Retry-After"
SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
Headers = Mapping[bytes, bytes]


@dataclass(frozen=True)
class Hosts:
    """Names that a Host header may have. `*` is any; `*.example.com` any below it."""

    names: tuple[str, ...] = ()
    any: bool = False

    @classmethod
    def of(cls, bound: str | None, allowed: tuple[str, ...]) -> Hosts:
        """For the address that --host has; None is a UNIX socket, which no page reaches."""
        names = tuple(name.lower().rstrip(".") for name in (bound or "", *allowed) if name)
        return cls(names, bound is None or "*" in allowed)

    def allow(self, header: bytes | None) -> bool:
        """Whether a request may come in. Without a header it is no browser."""
        if self.any or header is None:
            return True
        match = NAME.fullmatch(header.decode("latin-1").strip())
        name = match["host"].lower().rstrip(".") if match else ""
        return name == "localhost" or name.endswith(".localhost") or self._knows(name)

    def _knows(self, name: str) -> bool:
        if _is_address(name) or name in self.names:
            return True
        return any(
            known.startswith("*.") and name.endswith(known[1:]) and name != known[1:]
            for known in self.names
        )

    def refusal(self, header: bytes | None) -> Refusal:
        """What a request for another name is told."""
        name = (header or b"").decode("latin-1")[:100]
        why = f"this server does not answer to {name!r}; --allowed-host names what it answers to"
        return Refusal(403, why, code="host_not_allowed")


@dataclass(frozen=True)
class Origins:
    """Origins whose pages may use the server; `*` is any."""

    allowed: tuple[str, ...] = ()

    def headers(self, origin: bytes | None) -> dict[str, str]:
        """What an answer says to a page of this origin."""
        if not self.allowed:
            return {}
        if "*" in self.allowed:
            named = {"Access-Control-Allow-Origin": "*"}
        elif not self._lists(origin):
            return {"Vary": "Origin"}
        else:
            named = {"Access-Control-Allow-Origin": (origin or b"").decode(), "Vary": "Origin"}
        return named | {"Access-Control-Expose-Headers": EXPOSED}

    def preflight(self, headers: Headers) -> dict[str, str] | None:
        """The answer to a browser that asks before it sends; None where it may not."""
        if not ("*" in self.allowed or self._lists(headers.get(b"origin"))):
            return None
        found = self.headers(headers.get(b"origin"))
        found |= {"Access-Control-Allow-Methods": "GET, POST", "Access-Control-Max-Age": "600"}
        asked = headers.get(b"access-control-request-headers", b"").decode("latin-1").strip()
        if TOKEN.fullmatch(asked):
            found["Access-Control-Allow-Headers"] = asked
        if headers.get(b"access-control-request-private-network") == b"true":
            found["Access-Control-Allow-Private-Network"] = "true"
        return found

    def allow(self, method: str, headers: Headers) -> bool:
        """Whether a request may come in: none that a foreign page sends to make work."""
        origin = headers.get(b"origin")
        if origin is None or method in SAFE_METHODS or "*" in self.allowed or self._lists(origin):
            return True
        if headers.get(b"sec-fetch-site") == b"same-origin":
            return True
        return origin.partition(b"://")[2].lower() == headers.get(b"host", b"").lower()

    def refusal(self, headers: Headers) -> Refusal:
        """What a page of another origin is told."""
        origin = headers.get(b"origin", b"").decode("latin-1")[:100]
        why = f"pages of {origin!r} may not use this server; --cors-origin names those that may"
        return Refusal(403, why, code="origin_not_allowed")

    def _lists(self, origin: bytes | None) -> bool:
        return origin is not None and origin.decode("latin-1") in self.allowed


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]").partition("%")[0])
    except ValueError:
        return False
    return True
