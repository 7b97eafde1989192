"""What the Hub has of a model: one question, bounded in time, before anything else happens.

The answer names the commit and, for every file, size and checksum, so that room on the disk is
known beforehand and each file can be checked when it came.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gptcli.checkpoints.file_kinds import foreign_files
from gptcli.checkpoints.hub.access import token_for
from gptcli.checkpoints.hub.blobs import HubFile
from gptcli.checkpoints.hub.failures import explain
from gptcli.checkpoints.hub.watch import within
from gptcli.checkpoints.names import COMMIT, did_you_mean
from gptcli.checkpoints.safetensors_headers import CONVERT, INDEX, PICKLED, SINGLE
from gptcli.checkpoints.tokenization.files import has_tokenizer, tokenizer_files
from gptcli.errors import BadModel, Unavailable
from gptcli.system.checksums import CHECKSUM

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

REACH_SECONDS = 3.0  # for the first answer of the Hub, name resolution included
SETTINGS = {"config.json", "generation_config.json", "chat_template.json", "chat_template.jinja"}
ADAPTER = ("adapter_config.json", "adapter_model.safetensors")  # of PEFT
SHARD = re.compile(r"model-[0-9]{5}-of-[0-9]{5}\.safetensors")  # as save_pretrained names them


@dataclass(frozen=True, kw_only=True)
class HubListing:
    """A model as the Hub has it now: the commit, and the files that are needed, weights last."""

    commit: str
    files: tuple[HubFile, ...]


def ask(repo_id: str, revision: str) -> HubListing:
    """Ask the Hub for a model's commit and files.

    Raises Unavailable (Hub not reachable within 3 s, no such model or revision, no access),
    BadModel (no safetensors, tokenizer or config.json).
    """
    from huggingface_hub import HfApi, constants

    endpoint = constants.ENDPOINT
    api = HfApi(endpoint=endpoint, token=token_for(repo_id))
    try:
        info = within(
            REACH_SECONDS,
            lambda: api.model_info(
                repo_id, revision=revision, timeout=REACH_SECONDS, files_metadata=True
            ),
        )
        listed = {item.rfilename: item for item in info.siblings or ()}
    except Exception as error:
        raise explain(error, repo_id, revision) from error
    strange = Unavailable(repo_id, f"{endpoint} does not answer as a Hub", "Check HF_ENDPOINT")
    if not COMMIT.fullmatch(info.sha or ""):
        raise strange
    files = [_file(listed[name]) for name in choose_files(listed, repo_id)]
    if None in files:
        raise strange
    return HubListing(commit=info.sha or "", files=tuple(file for file in files if file))


def choose_files(listed: Iterable[str], repo_id: str) -> list[str]:
    """Of a repository's files, those that are needed and safe; config.json first, weights last.

    Raises BadModel where there is no configuration, no tokenizer, or no safetensors: the weights
    are then a pickle, which can run code when it is read.
    """
    names = set(listed)
    if ADAPTER[0] in names and "config.json" not in names:
        return _adapter_files(names, repo_id)
    usable = SINGLE in names or INDEX in names or names.intersection(PICKLED)
    if not usable and (foreign := foreign_files(repo_id, "the repository", names)):
        raise foreign
    if "config.json" not in names:
        raise BadModel(repo_id, "no config.json: not a transformers model", _other(repo_id))
    if SINGLE in names:
        weights = {SINGLE}
    elif INDEX in names:
        weights = {INDEX, *filter(SHARD.fullmatch, names)}
    else:
        raise BadModel(
            repo_id, f"no {SINGLE} in the repository, so nothing was downloaded", CONVERT
        )
    if not has_tokenizer(names):
        why = "no tokenizer.json, nor vocab.json and merges.txt, vocab.txt or a sentencepiece model"
        raise BadModel(repo_id, why, _other(repo_id))
    return [*sorted(small_files(names), key=_config_first), *sorted(weights, key=_index_first)]


def _adapter_files(names: set[str], repo_id: str) -> list[str]:
    """The files of an adapter. Raises BadModel where its tensors are a pickle, or nowhere."""
    if not names.issuperset(ADAPTER):
        why = f"an adapter without {ADAPTER[1]}, so nothing was downloaded"
        raise BadModel(repo_id, why, "Save it again with peft's save_pretrained.")
    small = small_files(names) - {ADAPTER[0]}
    return [ADAPTER[0], *sorted(small), ADAPTER[1]]


def small_files(names: Iterable[str]) -> set[str]:
    """Of a model's files, those beside the weights that decide what it writes."""
    known = set(names)
    return known & SETTINGS | tokenizer_files(known)


def _config_first(name: str) -> tuple[bool, str]:
    return name != "config.json", name


def _index_first(name: str) -> tuple[bool, str]:
    return name != INDEX, name


def _file(item: RepoSibling) -> HubFile | None:
    """A file with what is known of it; None if that is not what a Hub says."""
    size, checksum = item.size, item.blob_id
    if item.lfs is not None:
        size, checksum = item.lfs.size, item.lfs.sha256
    if not isinstance(size, int) or size < 0 or not CHECKSUM.fullmatch(str(checksum)):
        return None  # the checksum becomes a file's name
    return HubFile(name=item.rfilename, size=size, checksum=str(checksum))


def _other(repo_id: str) -> str:
    return did_you_mean(repo_id) or "Choose another model with -m, for example -m gpt2"
