"""Which peers there are, how `--against` names them, and which of them are here.

A peer's library is looked for, not imported. Not here: what a peer does is in
`gptcli.bench.peers.peer`.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from gptcli.bench.peers.ctranslate2 import CTranslate2
from gptcli.bench.peers.llamacpp import LlamaCpp
from gptcli.bench.peers.peer import Peer, PeerSetting
from gptcli.bench.peers.transformers import Transformers
from gptcli.errors import UsageError

INSTALL = "Run: pip install 'gptcli[bench]'"
PEERS: dict[str, type[Peer]] = {
    "transformers": Transformers,
    "ctranslate2": CTranslate2,
    "llama.cpp": LlamaCpp,
}


@dataclass(frozen=True)
class Contender:
    """A peer in one of its data types."""

    name: str
    dtype: str

    @property
    def label(self) -> str:
        """How tables call it: `ctranslate2 int8`."""
        return f"{self.name} {self.dtype}"

    @property
    def kind(self) -> type[Peer]:
        """The peer itself."""
        return PEERS[self.name]

    @property
    def missing(self) -> tuple[str, ...]:
        """The modules that it needs and that are not installed."""
        return tuple(name for name in self.kind.modules if find_spec(name) is None)


TRAINER = Contender("transformers", "float32")  # who trains, too


def contenders(text: str) -> tuple[Contender, ...]:
    """What `--against` names: `transformers,ctranslate2:int8` is a list of NAME or NAME:DTYPE.

    Raises UsageError for an unknown name or data type, and for one that is named twice.
    """
    found = tuple(_contender(part.strip()) for part in text.split(","))
    if len(set(found)) < len(found):
        raise UsageError("--against", f"{text!r} names an engine twice", "Name each once.")
    return found


def _contender(text: str) -> Contender:
    name, colon, dtype = text.partition(":")
    if name not in PEERS:
        raise UsageError("--against", f"{name!r} is not one of {', '.join(PEERS)}", "Name those.")
    known = PEERS[name].dtypes
    if colon and dtype not in known:
        hint = f"Write {name}:{known[0]}, for example."
        raise UsageError("--against", f"{text!r} is not one of {', '.join(known)}", hint)
    return Contender(name, dtype or known[0])


def prepare(contender: Contender, checkpoint: Path, folder: Path) -> None:
    """Convert a checkpoint for a peer; see `gptcli.bench.peers.peer.Peer.prepare`."""
    contender.kind.prepare(checkpoint, folder, contender.dtype)


def open_peer(contender: Contender, setting: PeerSetting) -> Peer:
    """Load the peer's model."""
    return contender.kind(setting)
