"""Whether the Hub can be reached, in three seconds at most; and whether it knows who asks."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from gptcli.checkpoints.resolve import is_offline
from gptcli.doctor.findings import Finding, Findings
from gptcli.errors import Unavailable
from gptcli.options import Load


def network(offline: bool) -> Findings:
    """Ask the Hub about gpt2, unless the network is not to be used."""
    if is_offline(Load(offline=offline)):
        yield Finding(area="hub", what="network", value="not used, as it was asked for")
        return
    from huggingface_hub import constants, get_token

    from gptcli.checkpoints.hub import reach

    named = urlsplit(constants.ENDPOINT)
    host = named.hostname or constants.ENDPOINT  # never a password that stands before it
    try:
        reach()
    except Unavailable as error:
        fix = "Check network, proxy and HF_ENDPOINT; without them: --offline, or HF_HUB_OFFLINE=1."
        why = f"{host}: {error.why.replace(constants.ENDPOINT, host)}"
        yield Finding(area="hub", what="network", value=why, level="problem", fix=fix)
    else:
        yield Finding(area="hub", what="network", value=f"{host} answers")
    there = "there is one" if get_token() else "none: public models need none"
    yield Finding(area="hub", what="token", value=there)
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        if os.environ.get(name):
            yield Finding(area="hub", what=name, value="it is set")
