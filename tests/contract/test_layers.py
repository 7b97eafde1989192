"""The house: which room may import which, how full a room and how long a module may be.

The table below is read from the ground up. Each folder lists what lies in it, in rows: a module or
an inner folder imports only from rows below its own, never from its own row. A folder that has no
inner folder needs no rows: its modules import each other, but never in a circle.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "gptcli"
MODULES = sorted(PACKAGE.rglob("*.py"))
OTHERS = [module for module in MODULES if "engines" not in module.parts]
LONGEST_MODULE = 350  # lines
FULLEST_ROOM = 14  # modules

ROWS: dict[str, list[str]] = {
    "": [
        "errors",
        "options system web",
        "checkpoints inputs native",
        "chat_templates config protocol ray_cluster",
        "wrapped",
        "moderation",
        "chat engines models multiplex",
        "scoring tasks",
        "conversion writing",
        "audit batch doctor inspection server",
        "training",
        "api bench replay",
        "cli",
    ],
    "audit": [
        "sets",
        "judges options prompts scores statistics",
        "divisions",
        "bias comparison record toxicity",
    ],
    "batch": [
        "options",
        "input",
        "output",
        "run",
        "api",
    ],
    "bench": [
        "figures peers",
        "chart options rounds workloads",
        "entrants",
        "labelling learning processes quality scoring speeds",
        "training",
        "measure",
    ],
    "checkpoints": [
        "architecture file_kinds hf_cache training_files",
        "tokenization",
        "config_json names safetensors_headers",
        "head inference_files",
        "sources",
        "hub preflight",
        "integrity",
        "adapters",
        "formats int8_store resolve",
    ],
    "checkpoints/formats": [
        "locked",
        "process",
        "conversion",
        "writers",
    ],
    "checkpoints/formats/locked": [
        "landlock source",
        "confinement writing",
        "readers",
        "program",
    ],
    "checkpoints/formats/locked/readers": [
        "containers ggml gpt2 npz pickles tensorflow",
        "transformers4",
        "flax_msgpack gguf_file keras_hub llmc mlx nanogpt tf_bundle tf_h5",
    ],
    "checkpoints/tokenization": [
        "files roles text",
        "pieces",
        "kinds",
        "builders",
        "tokenizer",
        "absent language parts",
        "loading",
    ],
    "cli": [
        "declaration recording registry signals",
        "option_groups output",
        "completion defaults help_page interactive session",
        "flags rehearsing",
        "mistakes root",
        "command_groups main",
        "commands",
    ],
    "cli/commands": [
        "audit batch bench cache chat config docs generate inspect models",
        "replay score serve task tasks train",
        "doctor",
    ],
    "engines": [
        "adapted decoding forking hf_loading token_counter",
        "gpt2 hf remote",
        "capabilities classifier placement",
        "bandwidth drafter filtering",
    ],
    "engines/decoding": [
        "bans segment vocabulary_ops",
        "detokenizer sampler_state",
        "request sampler",
        "sequence",
        "speculative step",
        "loglikelihood loglikelihood_rolling",
    ],
    "engines/gpt2": [
        "half network reference",
        "on_cpu on_torch scheduler tracing",
        "draft_model engine",
        "attribution",
    ],
    "engines/remote": [
        "bounds wire",
        "client gate inflight schema",
        "echo_tokenizer failures",
        "generation retry scoring waiting",
        "rolling",
        "engine",
        "connection",
    ],
    "server": [
        "options paths refusals",
        "engine_thread",
        "metrics request_note",
        "body service",
        "responses",
        "openai operation own page",
        "openapi",
        "app",
        "cluster",
    ],
    "system": [
        "accelerators durable memory os_errors processors sanitizer stages text units versions",
        "file_lock regular_files",
        "checksums strict_json",
        "strict_toml",
    ],
    "training": [
        "events settings",
        "data",
        "options",
        "compute durability fitting tokenizer",
        "plan",
        "finish pace report start",
        "loop material",
        "following forecast",
        "recipe",
    ],
    "training/data": [
        "options shuffling store",
        "input",
        "cutting pieces splitting",
        "corpus encoding tabulating",
        "writing",
        "keeping",
        "preparing",
    ],
    "tasks": [
        "calibration definition",
        "prompts text",
        "answers",
        "run_context",
        "outcome",
        "plans",
        "rehearsal solver",
    ],
}
"""Rows of each folder that has inner folders, from the ground up."""

HEAVY = {
    "torch",
    "transformers",
    "tokenizers",
    "huggingface_hub",
    "h5py",
    "numpy",
    "rich",
    "httpx",
    "httpx2",
    "openai",
    "pyarrow",
    "ray",
}


def name_of(module: Path) -> str:
    """The dotted name of a module; of a folder for its `__init__`."""
    return ".".join(module.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(
        ".__init__"
    )


def shown(module: Path) -> str:
    return str(module.relative_to(PACKAGE))


@cache
def parsed(module: Path) -> ast.Module:
    return ast.parse(module.read_text(encoding="utf-8"))


@cache
def imported(module: Path, anywhere: bool = True) -> set[str]:
    """Dotted names that a module imports; only at its top level if not `anywhere`."""
    tree = parsed(module)
    found: set[str] = set()
    for node in ast.walk(tree) if anywhere else tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


NAMES = {name_of(module): module for module in MODULES}


def targets(module: Path) -> Iterator[str]:
    """The modules of the package that a module imports, by their dotted names."""
    for name in imported(module):
        parent = name.rpartition(".")[0]
        found = name if name in NAMES else parent if parent in NAMES else None
        if found and found not in ("gptcli", name_of(module)):  # of the package itself: __version__
            yield found


def parting(source: str, target: str) -> tuple[str, str, str]:
    """The innermost folder that holds both, and what of it each of them lies in."""
    ours, theirs = source.split(".")[1:], target.split(".")[1:]
    shared = 0
    while shared < min(len(ours), len(theirs)) and ours[shared] == theirs[shared]:
        shared += 1
    inner = [parts[shared] if shared < len(parts) else "__init__" for parts in (ours, theirs)]
    return "/".join(ours[:shared]), inner[0], inner[1]


def heights(folder: str) -> dict[str, int]:
    """The number of the row of everything in a folder."""
    return {name: row for row, names in enumerate(ROWS[folder]) for name in names.split()}


def arrows() -> Iterator[tuple[str, str]]:
    """Which module imports which."""
    for module in MODULES:
        for target in targets(module):
            yield name_of(module), target


def test_imports_go_one_way() -> None:
    wrong = []
    for source, target in arrows():
        folder, ours, theirs = parting(source, target)
        if folder not in ROWS or {"__init__", "__main__"} & {ours, theirs}:
            continue  # one room: see the test for circles
        height = heights(folder)
        if height[theirs] >= height[ours]:
            wrong.append(f"{folder or 'gptcli'}: {ours} imports {theirs} ({source})")
    assert wrong == []


def test_everything_has_its_row() -> None:
    for folder, rows in ROWS.items():
        there = {
            path.stem
            for path in (PACKAGE / folder).iterdir()
            if (path.suffix == ".py" or (path / "__init__.py").exists())
            and path.stem not in ("__init__", "__main__")
        }
        listed = [name for row in rows for name in row.split()]
        assert sorted(listed) == sorted(there), folder


def test_every_folder_with_inner_folders_is_in_the_table() -> None:
    nested = {
        str(path.parent.parent.relative_to(PACKAGE)).removeprefix(".")
        for path in PACKAGE.rglob("__init__.py")
        if path.parent != PACKAGE
    }
    assert nested == set(ROWS)


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Also not by imports inside functions."""
    after: dict[str, set[str]] = defaultdict(set)
    for source, target in arrows():
        after[source].add(target)
    left = set(NAMES)
    while free := {name for name in left if not after[name] & left}:
        left -= free
    assert not left


def test_no_module_is_too_long() -> None:
    lines = {shown(path): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert {name: count for name, count in lines.items() if count > LONGEST_MODULE} == {}


def test_no_room_is_too_full() -> None:
    rooms: dict[str, int] = defaultdict(int)
    for module in MODULES:
        rooms[str(module.parent.relative_to(PACKAGE))] += module.name != "__init__.py"
    assert {room: count for room, count in rooms.items() if count > FULLEST_ROOM} == {}


# Public class names that stand twice, each with the reason; at most ten.
TWICE: dict[str, str] = {}


def test_a_public_class_name_has_one_meaning() -> None:
    found: dict[str, list[str]] = defaultdict(list)
    for module in MODULES:
        for node in ast.walk(parsed(module)):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(shown(module))
    twice = {name: places for name, places in found.items() if len(places) > 1}
    assert set(twice) == set(TWICE), twice
    assert len(TWICE) <= 10


def test_the_protocol_knows_no_engine() -> None:
    below = {target.split(".")[1] for target in targets(PACKAGE / "protocol.py")}
    assert below == {"errors", "options", "checkpoints"}


def test_engines_are_imported_to_open_one_not_for_a_type() -> None:
    assert [shown(path) for path in OTHERS if "gptcli.engines.Engine" in imported(path)] == []


def test_only_engines_and_the_trainer_import_torch() -> None:
    users = {
        "/".join(module.relative_to(PACKAGE).parts[:-1])
        for module in MODULES
        if {"torch", "torch.Tensor"} & imported(module)
    }
    # `pickles` is a part of a program of its own, which never runs in gptcli's process.
    others = {room for room in users if room.split("/")[0] != "engines"}
    assert others == {"checkpoints/formats/locked/readers", "training/compute"}
    assert [
        shown(module)
        for module in MODULES
        if "checkpoints" in module.relative_to(PACKAGE).parts
        and {"torch", "torch.Tensor"} & imported(module)
    ] == ["checkpoints/formats/locked/readers/pickles.py"]


def test_only_render_imports_rich() -> None:
    users = {
        shown(module)
        for module in MODULES
        if any(name.split(".")[0] == "rich" for name in imported(module))
    }
    assert users == {"cli/output/render.py"}


def test_heavy_libraries_are_imported_late() -> None:
    early = {}
    for module in OTHERS:
        if "compute" in module.parts:
            continue  # of training
        at_top = {name.split(".")[0] for name in imported(module, anywhere=False)}
        if at_top & HEAVY:
            early[shown(module)] = at_top & HEAVY
    assert early == {}
