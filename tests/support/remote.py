"""The engine behind `--server`, opened on a fake server with a short patience."""

from __future__ import annotations

from gptcli.engines.remote import RemoteEngine, connect
from gptcli.engines.remote.client import Patience
from gptcli.options import Load
from support.fake_server import FakeServer

QUICK = Patience(tries=5, connect=2.0, read=5.0, total=8.0, first=0.001, longest=0.3)


def opened(server: FakeServer, places: int = 4, patience: Patience = QUICK) -> RemoteEngine:
    return connect(Load(server=server.url), places, patience)
