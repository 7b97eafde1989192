"""Compiles the kernels of `gptcli.native` while a wheel is built, where there is a C compiler.

They are plain C without Python's headers, so one wheel serves every version of Python. Without a
compiler, or on a machine they are not written for, the wheel goes without them: everything works,
by torch's own kernels.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCES = Path("gptcli/native")
FLAGS = ["-O3", "-fPIC", "-shared", "-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math"]
# The names that processor.c gives to kinds of processor, and what compilers call the first of each.
KINDS = {"avx2": "haswell", "avx512": "skylake-avx512", "avx512vnni": "cascadelake"}


class Kernels(BuildHookInterface):  # type: ignore[type-arg]
    """hatchling's hook; see pyproject.toml."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile beside the sources and add the libraries to the wheel."""
        folder = Path(self.root) / SOURCES
        if sys.platform != "linux" or platform.machine() not in ("x86_64", "AMD64"):
            return
        compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
        compiler = compiler or shutil.which("clang")
        if compiler is None:
            self.app.display_warning("no C compiler: gptcli will use torch's kernels")
            return
        try:
            for old in folder.glob("*.so"):
                old.unlink()
            with tempfile.TemporaryDirectory(dir=folder) as made:
                compile_all(compiler.split(), folder, Path(made))
                for library in Path(made).iterdir():
                    library.replace(folder / library.name)
        except (OSError, subprocess.SubprocessError) as error:
            said = getattr(error, "stderr", None) or str(error)
            self.app.display_warning(f"gptcli will use torch's kernels: {said}")
            return
        build_data["artifacts"].append(f"{SOURCES}/*.so")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-linux_{platform.machine()}"


def compile_all(compiler: list[str], sources: Path, target: Path) -> None:
    """One library for each kind of processor, and one that tells which kind this is."""
    forward, processor = str(sources / "forward.c"), str(sources / "processor.c")
    for kind, name in KINDS.items():
        output = str(target / f"forward.{kind}.so")
        run([*compiler, *FLAGS, f"-march={name}", "-o", output, forward])
    run([*compiler, "-O2", "-fPIC", "-shared", "-o", str(target / "processor.so"), processor])


def run(command: list[str]) -> None:
    """Raises OSError and SubprocessError."""
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
