"""A shorter `import torch`: mapped early beside other work, and without what only compilers use.

The import has two parts. The first maps libtorch_cpu.so and resolves its symbols: 0.3 s in which no
Python runs, though the import keeps the interpreter waiting. `preload` does the same in a thread,
through a foreign call that lets the interpreter go, while the command line is read and the
tokenizer is parsed. The second part is some 800 modules of Python. A third of their time goes into
kernels for the `meta` device, which tracers and compilers ask for and a forward pass never does;
in a process of our own `importing` puts those off until something that may need them is imported.
Programs that use gptcli as a library get all of torch at once. Left out: torch itself, which only
engines import.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path
from threading import RLock, Thread
from types import ModuleType
from typing import TYPE_CHECKING

from gptcli.system import stages

if TYPE_CHECKING:
    from importlib.abc import Loader  # which imports much

# Loaded for their side effects alone: they register kernels that compute shapes without numbers.
PUT_OFF = ("torch.distributed._meta_registrations", "torch._meta_registrations")
# Only where the tests have shown that all of torch is as it would be otherwise.
TRIED = ("2.13.",)
# An import that may need what was put off is any one from outside these.
TORCH_FREE = sys.stdlib_module_names | {
    *("gptcli", "jinja2", "markupsafe", "numpy", "platformdirs", "prompt_toolkit", "pyarrow"),
    *("pygments", "rich", "tokenizers", "typer", "wcwidth", "zstandard"),
}
# The system's loader does one library at a time, and an import that waits for it keeps all Python
# waiting: the libraries of the command line and the tokenizer have to be there before.
FIRST = (
    *("_bisect", "_bz2", "_csv", "_ctypes", "_datetime", "_heapq", "_json", "_lzma", "_opcode"),
    *("_posixsubprocess", "_random", "_sha512", "_socket", "_struct", "_typing", "_uuid", "fcntl"),
    *("math", "mmap", "select", "zlib", "tokenizers"),
)

_lock = RLock()
_mapping: Thread | None = None
_abridged = False
_put_off: dict[str, tuple[ModuleType, Loader]] = {}


def abridge() -> None:
    """Put off what only compilers use; for a process whose every import of torch is ours."""
    global _abridged
    _abridged = True


def preload() -> None:
    """Begin to map torch's libraries in a thread, on Linux with two processors or more.

    To be called as soon as it is known that torch will be needed. What fails here is left to the
    import, which says so. The thread does not keep the process from ending.
    """
    global _mapping
    if _mapping is not None or "torch" in sys.modules or sys.platform != "linux":
        return
    place = folder()
    if place is None or len(os.sched_getaffinity(0)) < 2:
        return
    for name in FIRST:
        with suppress(ImportError):  # a Python built without it
            import_module(name)
    _mapping = Thread(target=_map, args=(place / "lib",), name="libtorch", daemon=True)
    _mapping.start()


def wait() -> None:
    """Until what `preload` began is done."""
    if _mapping is not None:
        _mapping.join()


@contextmanager
def importing() -> Iterator[None]:
    """Around the import of torch: after `preload`, uncollected, and abridged where that is allowed.

    Does nothing where torch is imported already.
    """
    if "torch" in sys.modules:
        yield
        return
    wait()
    stages.mark("rest of torch's libraries")
    finder = Abridgement() if _abridged and _tried() else None
    if finder:
        sys.meta_path.insert(0, finder)
    with _uncollected():
        yield
    if finder:
        finder.over = True


def complete() -> None:
    """Import what was put off, as if it had been imported with torch."""
    with _lock:
        while _put_off:
            module, loader = _put_off.pop(next(iter(_put_off)))  # in the order of their import
            vars(module).pop("__getattr__", None)
            loader.exec_module(module)


class Abridgement:
    """Finds the modules to put off; `over`: torch is imported, and whatever comes may need them."""

    over = False

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """A spec whose module is executed later; None for all others, which are found as ever."""
        if self.over:
            if _put_off and name.partition(".")[0] not in TORCH_FREE:
                complete()
            return None
        spec = PathFinder.find_spec(name, path) if name in PUT_OFF else None
        if spec is not None and spec.loader is not None:
            spec.loader = Later(spec.loader)  # type: ignore[assignment]
        return spec


class Later:
    """A loader that executes a module when a name of it is asked for, or when `complete` does."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """As the real loader does it."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Leave the module empty, but for what fills it."""

        def fill(name: str) -> object:
            complete()
            return getattr(module, name)

        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        vars(module)["__getattr__"] = fill
        _put_off[module.__name__] = module, self._loader


@contextmanager
def _uncollected() -> Iterator[None]:
    """Inside, no garbage is looked for among the many objects that an import makes and keeps."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        if gc.get_freeze_count() == 0:  # else it is not for us to thaw
            gc.freeze()
            gc.unfreeze()  # the new objects count as old: the next search is not through them all
        gc.enable()


def _map(libraries: Path) -> None:
    import ctypes

    # ctypes.CDLL would keep the interpreter while it loads; a foreign function does not.
    try:
        dlopen = ctypes.CDLL(None).dlopen
    except (AttributeError, OSError):  # a libc without it
        return
    dlopen.argtypes, dlopen.restype = [ctypes.c_char_p, ctypes.c_int], ctypes.c_void_p
    with stages.beside("torch's libraries"):
        # As torch does it: first what all share, visible to all, then the library itself. But its
        # functions are looked up when they are called: few of them ever are.
        for name, mode in (("libtorch_global_deps.so", ctypes.RTLD_GLOBAL), ("libtorch_cpu.so", 0)):
            dlopen(os.fsencode(libraries / name), os.RTLD_LAZY | mode)


def folder() -> Path | None:
    """Where torch is installed; it is not imported for that."""
    spec = find_spec("torch")
    places = spec.submodule_search_locations if spec is not None else None
    return Path(places[0]) if places else None


def _tried() -> bool:
    """Whether this is a version of torch that `TRIED` names."""
    place = folder()
    try:
        text = (place / "version.py").read_text(encoding="utf-8") if place else ""
    except (OSError, ValueError):
        return False
    return any(f"__version__ = '{version}" in text for version in TRIED)
