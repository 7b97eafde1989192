"""What a model may be called: aliases, Hub ids, and the likeliest meaning of a wrong name.

A name ends up in a path of the cache and in a URL, so only what the Hub itself allows passes;
everything else is a usage error before a file is touched. What a wrong name may have meant is
looked for among the known names and the folders of the cache. Whether a model exists is not asked
here.
"""

from __future__ import annotations

import re

from gptcli.checkpoints import hf_cache
from gptcli.errors import UsageError

GPT2 = "openai-community/gpt2"
BUNDLED = "tiny-tales"

ALIASES = {
    **dict.fromkeys(("gpt2", "124M", "small"), GPT2),
    **dict.fromkeys(("gpt2-medium", "355M", "medium"), "openai-community/gpt2-medium"),
    **dict.fromkeys(("gpt2-large", "774M", "large"), "openai-community/gpt2-large"),
    **dict.fromkeys(("gpt2-xl", "1.5B", "xl"), "openai-community/gpt2-xl"),
    **dict.fromkeys(("distilgpt2", "distil"), "distilbert/distilgpt2"),
}

# GPT-2s by others, which run in the built-in engine: for suggestions only.
FAMILY = (
    *(f"microsoft/DialoGPT-{size}" for size in ("small", "medium", "large")),
    *(f"cerebras/Cerebras-GPT-{size}" for size in ("111M", "256M", "590M", "1.3B", "2.7B")),
)

# Before the Hub had organisations these models had no owner; a cache can still hold them so.
OLD_IDS = {repo_id: repo_id.partition("/")[2] for repo_id in dict.fromkeys(ALIASES.values())}

_PART = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
HUB_ID = re.compile(rf"{_PART}(/{_PART})?")
REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,254}")
_SIZED = re.compile(r"gpt-?2?[-_](?P<size>.+)")
_NUMBER = re.compile(r"[0-9]+")
COMMIT = re.compile(r"[0-9a-f]{40}")
MAX_COMPARED_CHARACTERS = 200  # characters: two parts of an id
ALIAS_LIKENESS, HUB_ID_LIKENESS = 0.7, 0.8  # how near a name must be: to an alias, to a Hub id


def known_ids(repo_id: str) -> tuple[str, ...]:
    """The ids under which the cache may hold a model: its own, and the one it once had."""
    return tuple(filter(None, (repo_id, OLD_IDS.get(repo_id))))


def check_hub_id(name: str, what: str = "--model") -> str:
    """The name, if it can be a Hub id (`owner/model` or `model`); raises UsageError for `what`."""
    if HUB_ID.fullmatch(name) and "--" not in name and ".." not in name:
        return name
    hint = "Give a folder, a Hub id such as openai-community/gpt2, or an alias such as gpt2"
    raise UsageError(what, f"{name[:100]!r} is not a model name", did_you_mean(name) or hint)


def check_revision(revision: str) -> str:
    """The revision, if it can be a branch, tag or commit; raises UsageError."""
    if REVISION.fullmatch(revision) and ".." not in revision and "//" not in revision:
        return revision
    raise UsageError(
        "--revision",
        f"{revision[:100]!r} is not a branch, tag or commit",
        "Leave it out for the main branch",
    )


def did_you_mean(name: str) -> str:
    """A hint with the known name that is nearest to a wrong one; empty if none is near."""
    near = nearest(name)
    return f"Did you mean -m {near}?" if near else ""


def nearest(name: str) -> str | None:
    """The known name that is likeliest meant by a wrong one: alias, GPT-2 family, cached model.

    None if none is near, and for a known name: then the name is not what is wrong.
    """
    cached = [repo_id for repo_id in hf_cache.model_ids() if HUB_ID.fullmatch(repo_id)]
    wrong, whole = (
        name.rpartition("/")[2].lower()[:MAX_COMPARED_CHARACTERS],
        name.lower()[:MAX_COMPARED_CHARACTERS],
    )
    if name in {*cached, *ALIASES, *FAMILY, *ALIASES.values()}:
        return None
    known = {alias.lower(): alias for alias in (*ALIASES, BUNDLED)}
    sized = _SIZED.fullmatch(wrong)
    if sized and known.get(sized["size"]) in ALIASES:  # gpt2-small: a size's name, not a model's
        repo_id = ALIASES[known[sized["size"]]]
        return next(name for name in ALIASES if ALIASES[name] == repo_id)
    # Bare sizes are near to too much: t5-small is not a slip for small.
    likely = {key: known[key] for key in known if "gpt2" in key or key in (BUNDLED, wrong)}
    if wrong.startswith("gpt"):
        likely["gpt2-small"] = "gpt2"
    # Other numbers are another model: pythia-160m is not a slip for pythia-70m.
    others = [
        repo_id
        for repo_id in (*cached, *FAMILY)
        if _NUMBER.findall(repo_id.rpartition("/")[2].lower()) == _NUMBER.findall(wrong)
    ]
    found = [(_likeness(wrong, key), 1, name) for key, name in likely.items()]
    found = [near for near in found if near[0] >= ALIAS_LIKENESS]
    for repo_id in others:
        key = repo_id.lower()
        likeness = max(_likeness(whole, key), _likeness(wrong, key.rpartition("/")[2]))
        if likeness >= HUB_ID_LIKENESS:
            found.append((likeness, 0, repo_id))
    return max(found, key=lambda near: near[:2])[2] if found else None


def _likeness(one: str, other: str) -> float:
    """From 0 to 1, as difflib has it."""
    from difflib import SequenceMatcher

    return SequenceMatcher(None, one, other).ratio()
