"""Compiles the kernels of `gptcli.native` while a wheel is built, where there is a C compiler.

They are plain C without Python's headers, so one wheel serves every version of Python. Without a
compiler the wheel goes without them: everything works, by torch's own kernels. A kind of processor
that the compiler does not know is left out; its processors take the next kind.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCES = Path("gptcli/native/kernels")
# Exactness rests on -ffp-contract=off: a multiply-add is fused where the source says so, nowhere
# else. -fopenmp-simd reads pragmas for vectors; there is no OpenMP at run time.
FLAGS = ["-O3", "-fPIC", "-shared", "-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math"]
FLAGS += ["-ffp-contract=off"]
LIBRARIES = ["-lm", "-pthread"]
# The names that processor.c gives to kinds of processor, and what compilers call the first of each.
X86 = {
    "baseline": ["-march=x86-64"],
    "avx2": ["-march=haswell"],
    "avx512": ["-march=skylake-avx512"],
    "avx512vnni": ["-march=cascadelake"],
}
ARM = {"baseline": ["-march=armv8-a"], "dotprod": ["-march=armv8.2-a+dotprod"]}
APPLE = {"dotprod": ["-march=armv8.2-a+dotprod"]}  # all of Apple's processors for Macs
OTHERS: dict[str, list[str]] = {"baseline": []}  # vectors as the compiler makes them
OLDEST_MACOS = "11.0"  # the first one for ARM
COMPILERS = ("cc", "gcc", "clang")


class Kernels(BuildHookInterface):  # type: ignore[type-arg]
    """hatchling's hook; see pyproject.toml."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile beside the sources and add the libraries to the wheel."""
        folder = Path(self.root) / SOURCES
        kinds = kinds_here()
        if not kinds:
            return
        found = os.environ.get("CC") or next(filter(None, map(shutil.which, COMPILERS)), None)
        if found is None:
            self._without("no C compiler")
            return
        try:
            for old in folder.glob("*.so"):
                old.unlink()
            with tempfile.TemporaryDirectory(dir=folder) as made:
                faults = compile_all(found.split(), kinds, folder, Path(made))
                for library in Path(made).glob("*.so"):
                    library.replace(folder / library.name)
        except (OSError, subprocess.SubprocessError) as error:
            self._without(said_by(error))
            return
        for kind, fault in faults.items():
            self.app.display_warning(f"no kernels for {kind}: {fault}")
        if len(faults) == len(kinds):
            self._without("no kernels were compiled")
            return
        build_data["artifacts"].append(f"{SOURCES}/*.so")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform_tag()}"

    def _without(self, why: str) -> None:
        self.app.display_warning(f"gptcli will use torch's kernels: {why}")


def kinds_here() -> dict[str, list[str]]:
    """Compiler flags of each kind of processor that this machine may be; none without kernels."""
    if sys.platform not in ("linux", "darwin") or sys.maxsize < 2**32 or sys.byteorder != "little":
        return {}
    machine = platform.machine()
    if machine in ("x86_64", "AMD64"):
        return X86
    if machine in ("aarch64", "arm64"):
        return APPLE if sys.platform == "darwin" else ARM
    return OTHERS


def platform_tag() -> str:
    """The wheel's tag for this platform; `auditwheel` turns that for Linux into manylinux."""
    if sys.platform == "darwin":
        return f"macosx_{oldest_macos().replace('.', '_')}_{platform.machine()}"
    return f"linux_{platform.machine()}"


def oldest_macos() -> str:
    """The oldest macOS that the libraries run on, as major.minor."""
    major, minor, *_ = *os.environ.get("MACOSX_DEPLOYMENT_TARGET", OLDEST_MACOS).split("."), "0"
    return f"{major}.{minor}"


def compile_all(
    compiler: list[str], kinds: dict[str, list[str]], sources: Path, target: Path
) -> dict[str, str]:
    """A library for each kind of processor, and one that tells which kind this is.

    Returns the kinds that could not be compiled, with the compiler's words. Raises OSError and
    SubprocessError if the compiler does nothing at all.
    """
    processor = str(sources / "processor.c")
    run([*compiler, "-O2", "-fPIC", "-shared", "-o", str(target / "processor.so"), processor])
    code = [str(sources / name) for name in ("network.c", "pool.c")]

    def compiled(kind: str) -> str | None:
        output = str(target / f"network.{kind}.so")
        try:
            run([*compiler, *FLAGS, *kinds[kind], "-o", output, *code, *LIBRARIES])
        except (OSError, subprocess.SubprocessError) as error:
            Path(output).unlink(missing_ok=True)
            return said_by(error)
        return None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        faults = dict(zip(kinds, pool.map(compiled, kinds), strict=True))
    return {kind: fault for kind, fault in faults.items() if fault is not None}


def run(command: list[str]) -> None:
    """Raises OSError and SubprocessError."""
    environment = os.environ
    if sys.platform == "darwin":
        environment = {**environment, "MACOSX_DEPLOYMENT_TARGET": oldest_macos()}
    subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=300, env=environment
    )


def said_by(error: Exception) -> str:
    """The compiler's words, or the system's."""
    return str(getattr(error, "stderr", None) or error).strip()
