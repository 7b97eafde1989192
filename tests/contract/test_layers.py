"""The house: which module may import which, and how long a module may be."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent.parent / "gptcli"
MODULES = sorted(PACKAGE.rglob("*.py"))
LONGEST = 350

# From the ground up: a module imports only from its own layer and those before it.
LAYERS = [
    {"errors", "system", "sanitizer", "stages", "digests", "hubcache"},
    {"libtorch"},
    {"native"},
    {"specs", "architecture", "names"},
    {"options"},
    {"modelfiles", "config", "disk", "files", "lines"},
    {"headers", "modelconfig", "vocabulary"},
    {"preflight", "tokenization", "hub", "reduced"},
    {"protocol"},
    {"multiplex"},
    {"checkpoints"},
    {"engines"},
    {"tasks", "chattemplates", "inspection", "scoring"},
    {"batch", "chat", "model", "bench", "peers", "conversion"},
    {"inventory", "checksums", "records"},
    {"doctor"},
    {"cli"},
]
HEIGHT = {name: height for height, layer in enumerate(LAYERS) for name in layer}
HEAVY = {
    "torch",
    "transformers",
    "tokenizers",
    "huggingface_hub",
    "numpy",
    "rich",
    "httpx",
    "httpx2",
    "openai",
    "pyarrow",
    "ray",
}


def part(module: Path) -> str:
    """The module's name below the package: `engines` for all of its modules."""
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(module: Path, anywhere: bool = True) -> set[str]:
    """Dotted names that a module imports; only at its top level if not `anywhere`."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    found: set[str] = set()
    for node in ast.walk(tree) if anywhere else tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_is_not_too_long(module: Path) -> None:
    assert len(module.read_text(encoding="utf-8").splitlines()) <= LONGEST


@pytest.mark.parametrize(
    "module",
    [module for module in MODULES if part(module) not in ("__init__", "__main__")],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_imports_go_one_way(module: Path) -> None:
    for name in imports(module):
        if name.startswith("gptcli."):
            target = name.split(".")[1]
            if target in HEIGHT:  # else a name of the package itself, as __version__
                assert HEIGHT[target] <= HEIGHT[part(module)], f"{part(module)} imports {target}"


def test_every_module_has_its_layer() -> None:
    assert {part(module) for module in MODULES} - {"__init__", "__main__"} == set(HEIGHT)


def test_the_protocol_knows_no_engine() -> None:
    below = {name.split(".")[1] for name in imports(PACKAGE / "protocol.py") if "gptcli" in name}
    assert below == {"errors", "options", "tokenization"}


@pytest.mark.parametrize(
    "module",
    [module for module in MODULES if part(module) != "engines"],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_engines_are_imported_to_open_one_not_for_a_type(module: Path) -> None:
    assert "gptcli.engines.Engine" not in imports(module)


def test_engines_import_in_no_circle() -> None:
    """Not even for a type; `gptcli.engines` itself is the protocol, and opens them all late."""
    folder = PACKAGE / "engines"
    modules = {path.stem: imports(path) for path in folder.glob("*.py") if path.stem != "__init__"}
    waiting = {
        one: {other for other in modules for name in names if _names(name, other)}
        for one, names in modules.items()
    }
    while free := [one for one, needed in waiting.items() if not needed & waiting.keys()]:
        for one in free:
            del waiting[one]
    assert not waiting


def _names(name: str, other: str) -> bool:
    """Whether an imported name is the engines' module `other`, or in it."""
    return f"{name}.".startswith(f"gptcli.engines.{other}.")


def test_only_engines_import_torch() -> None:
    users = {part(module) for module in MODULES if {"torch", "torch.Tensor"} & imports(module)}
    assert users == {"engines"}


def test_only_render_imports_rich() -> None:
    users = {
        str(module.relative_to(PACKAGE))
        for module in MODULES
        if any(name.split(".")[0] == "rich" for name in imports(module))
    }
    assert users == {"cli/render.py"}


@pytest.mark.parametrize(
    "module",
    [module for module in MODULES if part(module) != "engines"],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_heavy_libraries_are_imported_late(module: Path) -> None:
    at_top = {name.split(".")[0] for name in imports(module, anywhere=False)}
    assert not at_top & HEAVY
