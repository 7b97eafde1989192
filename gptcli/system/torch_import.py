"""A faster `import torch`: libraries are mapped early, and modules for compilers are deferred.

The import has two parts. The first maps libtorch_cpu.so and resolves its symbols: 0.3 s during
which the import holds the interpreter lock. `preload` does the same in a thread, through a foreign
call that releases the lock, while the command line is read and the tokenizer is parsed. The second
part is about 800 Python modules. A third of their time goes into kernels for the `meta` device,
which tracers and compilers use and a forward pass never does. In a process of our own `importing`
defers those until something that may need them is imported. Programs that use gptcli as a library
get all of torch at once.
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

# Loaded only for their side effects: they register kernels that compute shapes without values.
DEFERRED = ("torch.distributed._meta_registrations", "torch._meta_registrations")
# Versions of torch for which tests have shown that deferring changes nothing.
TESTED_VERSIONS = ("2.13.",)
# An import of any other package may need the deferred modules.
TORCH_FREE = sys.stdlib_module_names | {
    *("gptcli", "jinja2", "markupsafe", "numpy", "platformdirs", "prompt_toolkit", "pyarrow"),
    *("pygments", "rich", "tokenizers", "typer", "wcwidth", "zstandard"),
}
# The system's loader maps one library at a time, and an import that waits for it blocks all of
# Python. So the libraries of the command line and the tokenizer are loaded first.
PRELOADED = (
    *("_bisect", "_bz2", "_csv", "_ctypes", "_datetime", "_heapq", "_json", "_lzma", "_opcode"),
    *("_posixsubprocess", "_random", "_sha512", "_socket", "_struct", "_typing", "_uuid", "fcntl"),
    *("math", "mmap", "select", "zlib", "tokenizers"),
)

_lock = RLock()
_mapping: Thread | None = None
_abridged = False
_deferred: dict[str, tuple[ModuleType, Loader]] = {}


def abridge() -> None:
    """Defer modules for compilers; for a process in which only gptcli imports torch."""
    global _abridged
    _abridged = True


def preload() -> None:
    """Start to map torch's libraries in a thread, on Linux with at least two cores.

    Call it as soon as it is known that torch will be needed. Failures are left to the import, which
    reports them. The thread does not keep the process from ending.
    """
    global _mapping
    if _mapping is not None or "torch" in sys.modules or sys.platform != "linux":
        return
    place = folder()
    if place is None or len(os.sched_getaffinity(0)) < 2:
        return
    for name in PRELOADED:
        with suppress(ImportError):  # a Python built without it
            import_module(name)
    _mapping = Thread(target=_map, args=(place / "lib",), name="libtorch", daemon=True)
    _mapping.start()


def wait() -> None:
    """Wait until `preload` is done."""
    if _mapping is not None:
        _mapping.join()


@contextmanager
def importing() -> Iterator[None]:
    """Around the import of torch: after `preload`, without garbage collection, abridged if allowed.

    Does nothing if torch is imported already.
    """
    if "torch" in sys.modules:
        yield
        return
    wait()
    stages.mark("rest of torch's libraries")
    finder = Abridgement() if _abridged and _is_tested_version() else None
    if finder:
        sys.meta_path.insert(0, finder)
    with _uncollected():
        yield
    if finder:
        finder.over = True


def complete() -> None:
    """Import the deferred modules, as if they had been imported with torch."""
    with _lock:
        while _deferred:
            module, loader = _deferred.pop(next(iter(_deferred)))  # in the order of their import
            vars(module).pop("__getattr__", None)
            loader.exec_module(module)


class Abridgement:
    """Finds the modules to defer. `over`: torch is imported, and later imports may need them."""

    over = False

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """A spec whose module is executed later; None for all other modules."""
        if self.over:
            if _deferred and name.partition(".")[0] not in TORCH_FREE:
                complete()
            return None
        spec = PathFinder.find_spec(name, path) if name in DEFERRED else None
        if spec is not None and spec.loader is not None:
            spec.loader = Later(spec.loader)  # type: ignore[assignment]
        return spec


class Later:
    """A loader that executes a module when a name of it is used, or by `complete`."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """As the real loader does."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Leave the module empty, except for the function that fills it."""

        def fill(name: str) -> object:
            complete()
            return getattr(module, name)

        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        vars(module)["__getattr__"] = fill
        _deferred[module.__name__] = module, self._loader


@contextmanager
def _uncollected() -> Iterator[None]:
    """No garbage collection inside: an import creates many objects and keeps them."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        if gc.get_freeze_count() == 0:  # else another module froze objects
            gc.freeze()
            gc.unfreeze()  # new objects count as old, so the next collection skips them
        gc.enable()


def _map(libraries: Path) -> None:
    import ctypes

    # ctypes.CDLL holds the interpreter lock while it loads; a foreign function does not.
    try:
        dlopen = ctypes.CDLL(None).dlopen
    except (AttributeError, OSError):  # a libc without it
        return
    dlopen.argtypes, dlopen.restype = [ctypes.c_char_p, ctypes.c_int], ctypes.c_void_p
    with stages.beside("torch's libraries"):
        # As torch does: first the shared symbols, visible to all, then the library itself. But its
        # functions are resolved lazily, because few are ever called.
        for name, mode in (("libtorch_global_deps.so", ctypes.RTLD_GLOBAL), ("libtorch_cpu.so", 0)):
            dlopen(os.fsencode(libraries / name), os.RTLD_LAZY | mode)


def folder() -> Path | None:
    """The folder of torch, which is not imported."""
    spec = find_spec("torch")
    places = spec.submodule_search_locations if spec is not None else None
    return Path(places[0]) if places else None


def _is_tested_version() -> bool:
    """Whether the installed torch is in `TESTED_VERSIONS`."""
    place = folder()
    try:
        text = (place / "version.py").read_text(encoding="utf-8") if place else ""
    except (OSError, ValueError):
        return False
    return any(f"__version__ = '{version}" in text for version in TESTED_VERSIONS)
