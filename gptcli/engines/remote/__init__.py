"""Any OpenAI-compatible endpoint as an engine: `--server URL`.

A request is a POST to `/v1/completions`. Many are in flight at once; torch is not imported.
`engine` runs them, `inflight` turns what arrives into events, `schema` is the JSON, `retry` decides
what is tried again, `client` is the connection. Token ids are the server's own: results have none.
"""

from gptcli.engines.remote.engine import RemoteEngine, connect

__all__ = ["RemoteEngine", "connect"]
