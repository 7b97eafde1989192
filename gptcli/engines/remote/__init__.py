"""Any OpenAI-compatible endpoint as an engine: `--server URL`.

A request is a POST to `/v1/completions`. Many are in flight at once; torch is not imported.
`connection` finds the model, `engine` runs the requests, `generation`, `scoring` and `rolling` turn
what arrives into events, `schema` is the JSON, `retry` decides what is tried again, `gate` how many
are in flight, `client` speaks HTTP. Token ids are the server's own: results have none.
"""

from gptcli.engines.remote.connection import connect
from gptcli.engines.remote.engine import RemoteEngine

__all__ = ["RemoteEngine", "connect"]
