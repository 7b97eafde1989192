"""Any OpenAI-compatible endpoint as an engine: `--server URL`.

A request is a POST to `/v1/completions`; many are under way at once, and torch is not needed here.
`engine` runs them, `flights` makes events of what arrives, `wire` is the JSON, `failures` says what
is tried again, `line` is the connection. Left out: chat completions, whose templates are the
server's, and token ids: they are the server's too, so results have none.
"""

from gptcli.engines.remote.engine import RemoteEngine, connect

__all__ = ["RemoteEngine", "connect"]
