"""check_kernels.c, compiled and run for this processor and for others.

It compares products, packing, half floats and the network with plain loops in float64, and has
several callers and forks. Marked tests run it with sanitizers and, under an emulator, for ARM.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import pytest

from gptcli import native

HERE = Path(__file__).parent
CHECK = HERE / "check_kernels.c"
SOURCES = [native.FOLDER / "network.c", native.FOLDER / "pool.c"]
FLAGS = [
    *("-O1", "-g", "-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off"),
    "-Wno-unknown-warning-option",
    "-Wno-pass-failed",  # a pragma that the compiler could not follow
]
LINKED = ["-lm", "-pthread"]
COMPILER = shutil.which("cc")
CROSS, EMULATOR = shutil.which("aarch64-linux-gnu-gcc"), shutil.which("qemu-aarch64")
X86 = platform.machine() in ("x86_64", "AMD64")
MARCH = {
    "avx512vnni": "cascadelake",
    "avx512": "skylake-avx512",
    "avx2": "haswell",
    "dotprod": "armv8.2-a+dotprod",
    "baseline": "x86-64" if X86 else "armv8-a",
}

FUSED = [kind for kind in native.kinds() if not (kind == "baseline" and X86)]
"""Kinds of this processor that fuse multiply-adds."""

needs_compiler = pytest.mark.skipif(
    COMPILER is None or sys.platform not in ("linux", "darwin"), reason="needs a C compiler"
)
needs_arm = pytest.mark.skipif(
    CROSS is None or EMULATOR is None, reason="needs aarch64-linux-gnu-gcc and qemu-aarch64"
)


def compiled(target: Path, compiler: str, *arguments: str | Path) -> Path:
    done = subprocess.run(
        [compiler, *FLAGS, "-o", target, *arguments], capture_output=True, text=True, timeout=300
    )
    if done.returncode and "sanitize" in done.stderr + done.stdout:
        pytest.skip(f"this compiler has no such sanitizer: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    return target


def said_by(command: Sequence[str | Path]) -> list[str]:
    """The lines of a check that found nothing."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert done.stderr == "", said
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def check_object(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The check without the kernels."""
    assert COMPILER is not None
    return compiled(tmp_path_factory.mktemp("check") / "check.o", COMPILER, "-c", CHECK)


@pytest.fixture(scope="module")
def checked(
    check_object: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], list[str]]:
    """A function that gives what the check says of the library of one kind of processor."""
    folder = tmp_path_factory.mktemp("checked")

    @cache
    def checked(kind: str) -> list[str]:
        library = native.FOLDER / f"network.{kind}.so"
        # macOS looks for a library where it was made, so there the sources are compiled anew.
        kernels = [library] if sys.platform == "linux" else [f"-march={MARCH[kind]}", *SOURCES]
        assert COMPILER is not None
        program = compiled(folder / kind, COMPILER, check_object, *kernels, *LINKED)
        return said_by([program])

    return checked


@needs_compiler
@pytest.mark.parametrize("kind", native.kinds())
def test_the_libraries_do_what_plain_loops_do(checked, kind: str) -> None:
    """And all products are the same to the bit on every kind that fuses multiply-adds."""
    found, fingerprint = checked(kind)
    assert found == "all equal"
    if kind in FUSED:
        assert fingerprint == checked(FUSED[-1])[1]


@needs_compiler
@pytest.mark.sanitizer
@pytest.mark.parametrize("sanitizer", ["address,undefined,float-cast-overflow", "thread"])
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("kind", native.kinds())
def test_sanitizers_report_nothing(
    tmp_path: Path, kind: str, compiler: str, sanitizer: str
) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"there is no {compiler}")
    flags = [f"-march={MARCH[kind]}", f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all"]
    if sanitizer == "thread":
        flags.pop()  # reports end the process with an error anyway
    check = compiled(tmp_path / "check", compiler, *flags, CHECK, *SOURCES, *LINKED)
    # The memory of a sanitizer may be locked by a thread that a fork leaves behind.
    assert said_by([check, "without forks"])[0] == "all equal"


@needs_arm
@pytest.mark.cross
@pytest.mark.parametrize("kind", ["armv8-a", "armv8.2-a+dotprod"])
def test_arm_gives_the_same_products(checked, tmp_path: Path, kind: str) -> None:
    assert CROSS is not None
    assert EMULATOR is not None
    flags = ["-static", f"-march={kind}"]
    check = compiled(tmp_path / "check", CROSS, *flags, CHECK, *SOURCES, *LINKED)
    found, fingerprint = said_by([EMULATOR, check, "without forks"])
    assert found == "all equal"
    if FUSED:
        assert fingerprint == checked(FUSED[-1])[1]


@needs_arm
@pytest.mark.cross
@pytest.mark.parametrize(("processor", "kind"), [("cortex-a53", "baseline"), ("max", "dotprod")])
def test_arm_processors_are_told_apart(tmp_path: Path, processor: str, kind: str) -> None:
    assert CROSS is not None
    assert EMULATOR is not None
    main = tmp_path / "main.c"
    main.write_text(
        "#include <stdio.h>\nconst char *gptcli_kind(void);\n"
        "int main(void) { puts(gptcli_kind()); }\n"
    )
    program = compiled(
        tmp_path / "kind", CROSS, "-static", main, native.FOLDER / "processor.c", *LINKED
    )
    assert said_by([EMULATOR, "-cpu", processor, program]) == [kind]


@needs_compiler
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("march", [f"-march={MARCH[kind]}" for kind in native.kinds()])
def test_no_compiler_warns(tmp_path: Path, march: str, compiler: str) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"there is no {compiler}")
    strict = ["-O0", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", march]
    for source in (*SOURCES, native.FOLDER / "processor.c"):
        compiled(tmp_path / "nothing", compiler, *strict, source)
