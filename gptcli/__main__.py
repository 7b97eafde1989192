"""Where gptcli starts, by its script or by `python -m gptcli`.

Ctrl-C during the first imports would be a KeyboardInterrupt and a traceback. So until `main` has
put its own handlers in place, SIGINT simply ends the process; `_signal` is the part of `signal`
that imports nothing itself. Not here: all else is in `gptcli.cli.main`.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]

if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:  # not under nohup
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)

import gptcli.system.stages  # the clock starts  # noqa: F401
from gptcli.cli.main import main

if __name__ == "__main__":
    main()
