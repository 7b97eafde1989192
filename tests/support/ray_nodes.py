"""A Ray cluster of two nodes on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from support.commands import ROOT

MEMORY = 100 << 20  # bytes of a node's object store


@contextmanager
def cluster_of_two() -> Iterator[Any]:
    """The cluster, whose nodes have a processor each and import this tree."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        made = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 1,
                "object_store_memory": MEMORY,
                "include_dashboard": False,
                "_system_config": {"health_check_period_ms": 500, "health_check_timeout_ms": 500},
            },
        )
        made.add_node(num_cpus=1, object_store_memory=MEMORY)
        made.wait_for_nodes()
        yield made
        made.shutdown()
