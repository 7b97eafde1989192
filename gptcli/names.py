"""What a model may be called: aliases, Hub ids, and the likeliest meaning of a wrong name.

A name ends up in a path of the cache and in a URL, so only what the Hub itself allows passes;
everything else is a usage error before a file is touched. Whether a model exists is not asked here.
"""

from __future__ import annotations

import re

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

# Before the Hub had organisations these models had no owner; a cache can still hold them so.
OLD_IDS = {repo_id: repo_id.partition("/")[2] for repo_id in dict.fromkeys(ALIASES.values())}

_PART = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
HUB_ID = re.compile(rf"{_PART}(/{_PART})?")
REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,254}")
_SIZED = re.compile(r"gpt-?2?[-_](?P<size>.+)")
COMMIT = re.compile(r"[0-9a-f]{40}")


def check_hub_id(name: str) -> str:
    """The name, if it can be a Hub id (`owner/model` or `model`); raises UsageError."""
    if HUB_ID.fullmatch(name) and "--" not in name and ".." not in name:
        return name
    hint = "Give a folder, a Hub id such as openai-community/gpt2, or an alias such as gpt2"
    raise UsageError("--model", f"{name[:100]!r} is not a model name", did_you_mean(name) or hint)


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
    import difflib

    wrong = name.rpartition("/")[2].lower()
    known = {alias.lower(): alias for alias in (*ALIASES, BUNDLED)}
    if wrong.startswith("gpt"):
        known["gpt2-small"] = "gpt2"
    sized = _SIZED.fullmatch(wrong)
    if sized and known.get(sized["size"]) in ALIASES:  # gpt2-small: a size's name, not a model's
        repo_id = ALIASES[known[sized["size"]]]
        return f"Did you mean -m {next(name for name in ALIASES if ALIASES[name] == repo_id)}?"
    # Bare sizes are near to too much: t5-small is not a slip for small.
    likely = [name for name in known if "gpt2" in name or name in (BUNDLED, wrong)]
    near = difflib.get_close_matches(wrong, likely, n=1, cutoff=0.7)
    return f"Did you mean -m {known[near[0]]}?" if near else ""
