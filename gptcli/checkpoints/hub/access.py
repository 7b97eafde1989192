"""For which models the Hub is told who asks.

A user who names a model lends it their token. A model that only a file of someone else names gets
none: such a file must not decide what is fetched in the user's name. The state is the process's, as
huggingface_hub's is, because questions and transfers run in threads of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from gptcli.checkpoints.names import ALIASES

LOGIN = "run: hf auth login"


@dataclass(frozen=True)
class _Limit:
    """The models that the token is for, and what to do for another one."""

    repo_ids: frozenset[str]
    way: str


_limit: _Limit | None = None


@contextmanager
def token_only_for(names: Iterable[str], way: str) -> Iterator[None]:
    """Inside the block the token is for these models alone; `way` says how another one gets it."""
    global _limit
    before, _limit = _limit, _Limit(frozenset(ALIASES.get(name, name) for name in names), way)
    try:
        yield
    finally:
        _limit = before


def token_for(repo_id: str) -> bool | None:
    """What huggingface_hub is told for a model: None means the user's token, False none."""
    return None if _limit is None or repo_id in _limit.repo_ids else False


def way_in(repo_id: str) -> str:
    """What gives access to a model of the Hub that refuses it."""
    return LOGIN if _limit is None or token_for(repo_id) is None else _limit.way
