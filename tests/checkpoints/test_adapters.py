"""Adapters in PEFT's layout: what is read of them, what is refused, and what they change."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from support.adapters import ATTENTION, PREFIX, SMALL, adapter, base, pair

from gptcli.checkpoints import int8_store
from gptcli.checkpoints.adapters.changes import Changes, changes
from gptcli.checkpoints.adapters.numbers import floats, stored_as
from gptcli.checkpoints.adapters.opened import content_of, inspect_adapted, tokenizer_folder
from gptcli.checkpoints.adapters.overlay import with_adapters
from gptcli.checkpoints.adapters.parts import read_parts
from gptcli.checkpoints.adapters.patterns import BadPattern, matches
from gptcli.checkpoints.adapters.reference import Adapter, fingerprint
from gptcli.checkpoints.adapters.stored_base import StoredBase
from gptcli.checkpoints.integrity.content import content, digest_of
from gptcli.checkpoints.preflight import inspect
from gptcli.checkpoints.resolve import missing, resolve
from gptcli.checkpoints.safetensors_headers import Tensor, read_header
from gptcli.errors import BadModel, MissingInput, UsageError
from gptcli.options import Load
from gptcli.options.model import parse_adapter

NAME = "h.0.attn.c_attn.weight"
A, B = (ATTENTION[f"{PREFIX}h.0.attn.c_attn.lora_{name}.weight"] for name in "AB")


@pytest.fixture
def there(tmp_path: Path) -> Path:
    return base(tmp_path / "base")


def fitted(there: Path, *given: Path, scale: float = 1.0) -> Changes:
    read = [read_parts(Adapter(name=one.name, folder=one, scale=scale)) for one in given]
    return changes(StoredBase(inspect(there), "the base"), read)


def stored(there: Path, name: str = NAME) -> np.ndarray:
    return floats(inspect(there).tensors[name])


def refused(there: Path, given: Path) -> str:
    with pytest.raises(BadModel) as error:
        fitted(there, given)
    assert error.value.hint
    return f"{error.value.message} {error.value.hint}"


def test_the_files_tensors_decide_and_not_the_list_of_modules(there: Path, tmp_path: Path) -> None:
    lora = adapter(
        tmp_path / "lora",
        target_modules=["attn_c_proj", "nothing"],  # as public adapters have it
        layers_to_transform=[1],
        fan_in_fan_out=False,
        a_key_of_tomorrow={"deep": [1]},
    )
    found = fitted(there, lora)
    assert set(found.parts) == {NAME}
    assert np.allclose(found.value(NAME), stored(there) + 2 * (B @ A).T, atol=1e-6)


@pytest.mark.parametrize(
    ("changed", "scaling"),
    [
        ({"use_rslora": True}, 4 / 2**0.5),
        ({"alpha_pattern": {"c_attn": 6}}, 3),
        ({"alpha_pattern": {r"transformer\.h\.[0-3]\.attn\.c_(attn|proj)": 6}}, 3),
        ({"alpha_pattern": {"attn": 6}}, 2),  # matches the end of a name alone
        ({"rank_pattern": {"c_attn": 2}, "r": 64}, 2),
    ],
)
def test_the_scale_is_that_of_the_configuration(
    there: Path, tmp_path: Path, changed: dict[str, object], scaling: float
) -> None:
    found = fitted(there, adapter(tmp_path / "lora", **changed))
    assert np.allclose(found.value(NAME), stored(there) + scaling * (B @ A).T, atol=1e-5)


def test_without_alpha_nothing_is_applied(there: Path, tmp_path: Path) -> None:
    assert "lora_alpha" in refused(there, adapter(tmp_path / "lora", lora_alpha=None))


def test_a_rank_that_the_tensors_do_not_have_is_refused(there: Path, tmp_path: Path) -> None:
    assert "rank 8" in refused(there, adapter(tmp_path / "lora", r=8))


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"peft_type": kind}, kind)
        for kind in ("ADALORA", "LOHA", "LOKR", "IA3", "PROMPT_TUNING", "PREFIX_TUNING", "OFT")
    ]
    + [
        ({"peft_type": None}, "peft_type"),
        ({"target_parameters": ["mlp.experts.gate"]}, "target_parameters"),
        ({"layer_replication": [[0, 1]]}, "layer_replication"),
        ({"use_qalora": True}, "use_qalora"),
        ({"alora_invocation_tokens": [1]}, "alora_invocation_tokens"),
        ({"arrow_config": {"top_k": 2}}, "arrow_config"),
        ({"init_lora_weights": "pissa"}, "pissa"),
        ({"init_lora_weights": "olora"}, "olora"),
        ({"use_dora": True}, "magnitudes"),
        ({"lora_alpha": float("nan")}, "lora_alpha"),
        ({"lora_alpha": "16"}, "lora_alpha"),
        ({"alpha_pattern": {"(": 1}}, "alpha_pattern"),
        ({"rank_pattern": {r"(?=a)c_attn": 1}}, "rank_pattern"),
        ({"modules_to_save": "wte"}, "modules_to_save"),
    ],
)
def test_what_is_not_applied_is_refused_by_name(
    there: Path, tmp_path: Path, changed: dict[str, object], named: str
) -> None:
    assert named in refused(there, adapter(tmp_path / "lora", **changed))


@pytest.mark.parametrize(
    ("tensors", "named"),
    [
        ({f"{PREFIX}h.0.attn.c_attn.hada_w1_a": np.ones((2, 2), np.float32)}, "hada_w1_a"),
        ({f"{PREFIX}h.0.attn.c_attn.lora_E": np.ones((2, 1), np.float32)}, "lora_E"),
        ({f"{PREFIX}h.0.attn.c_attn.ia3_l": np.ones((8,), np.float32)}, "ia3_l"),
        ({"prompt_embeddings": np.ones((2, 8), np.float32)}, "prompt_embeddings"),
        (dict(list(ATTENTION.items())[:1]), "one of LoRA's two matrices"),
        (pair("h.7.attn.c_attn", 8, 24), "h.7.attn.c_attn"),
        ({}, "no tensor"),
        ({name: values.astype(np.int32) for name, values in ATTENTION.items()}, "floating"),
        ({**ATTENTION, "x.lora_magnitude_vector": np.ones(3, np.float32)}, "one of LoRA's two"),
    ],
)
def test_a_tensor_that_is_not_understood_refuses_the_adapter(
    there: Path, tmp_path: Path, tensors: dict[str, np.ndarray], named: str
) -> None:
    assert named in refused(there, adapter(tmp_path / "lora", tensors))


def test_an_adapter_of_a_larger_model_is_refused_with_both_names(
    there: Path, tmp_path: Path
) -> None:
    large = adapter(tmp_path / "lora", pair("h.0.attn.c_attn", 16, 48))
    said = refused(there, large)
    assert "[16, 48]" in said
    assert "[8, 24]" in said
    assert "../base" in said
    assert "the base" in said


def test_a_pickle_is_refused_with_a_way_out(there: Path, tmp_path: Path) -> None:
    lora = adapter(tmp_path / "lora")
    (lora / "adapter_model.safetensors").rename(lora / "adapter_model.bin")
    assert "pickle" in refused(there, lora)


def test_an_adapter_of_ours_knows_its_base_by_content(there: Path, tmp_path: Path) -> None:
    digest = digest_of(content(there, "base"))
    lora = adapter(tmp_path / "lora", gptcli={"base_sha256": digest})
    given = [Adapter(name="lora", folder=lora)]
    inspect_adapted(there, given, "base")
    other = base(tmp_path / "other", seed=5)  # of the same shape
    with pytest.raises(BadModel, match=rf"made for ../base .*{digest[:12]}.*and other is"):
        inspect_adapted(other, given, "other")


def test_scales_and_several_adapters_add_up(there: Path, tmp_path: Path) -> None:
    one = adapter(tmp_path / "one")
    whole = {
        f"{PREFIX}h.0.attn.c_attn.weight": np.ones((8, 24), np.float32),
        f"{PREFIX}ln_f.bias": np.full(8, 7, np.float32),
    }
    other = adapter(tmp_path / "other", whole)
    was = stored(there)
    found = fitted(there, one, other, scale=0.5)
    assert np.allclose(found.value(NAME), was + (B @ A).T + 0.5 * (1 - was), atol=1e-6)
    assert np.array_equal(fitted(there, other).value("ln_f.bias"), whole[f"{PREFIX}ln_f.bias"])
    assert np.array_equal(fitted(there, one, scale=0.0).value(NAME), was)


def test_bfloat16_is_read_as_float32_and_a_half_precision_base_is_rounded_once(
    tmp_path: Path,
) -> None:
    there = base(tmp_path / "base", dtype=np.float16)
    path = tmp_path / "bf16"
    path.write_bytes(stored_as(A, "BF16"))
    read = floats(Tensor(path, "BF16", A.shape, 0, A.size * 2))
    assert np.abs(read - A).max() <= np.abs(A).max() * 2**-8
    assert np.array_equal(floats(Tensor(path, "BF16", A.shape, 0, A.size * 2)), read)
    checked, _ = with_adapters(
        inspect(there), [Adapter(name="l", folder=adapter(tmp_path / "l"))], "base"
    )
    assert checked.tensors[NAME].dtype == "F32"  # each network rounds it, once
    assert checked.tensors["wte.weight"].dtype == "F16"


def test_ties_to_even_and_overflow_of_what_is_stored() -> None:
    halfway = np.array([1 + 2**-8, 1 + 3 * 2**-8], np.float32)
    assert np.frombuffer(stored_as(halfway, "BF16"), "<u2").tolist() == [0x3F80, 0x3F82]
    with pytest.raises(OverflowError):
        stored_as(np.array([1e6], np.float32), "F16")


def test_a_changed_embedding_alone_makes_two_matrices(there: Path, tmp_path: Path) -> None:
    own = {f"{PREFIX}wte.weight": np.ones((24, 8), np.float32)}
    lora = adapter(tmp_path / "own", own, modules_to_save=["wte"])
    checked, said = with_adapters(inspect(there), [Adapter(name="own", folder=lora)], "base")
    assert checked.gpt2 is not None
    assert not checked.gpt2.tie_word_embeddings
    assert np.array_equal(floats(checked.tensors["lm_head.weight"]), stored(there, "wte.weight"))
    assert any("no longer" in line for line in said)
    shared = adapter(tmp_path / "shared", own)  # not of the module alone: a new vocabulary
    checked, _ = with_adapters(inspect(there), [Adapter(name="s", folder=shared)], "base")
    assert checked.gpt2 is not None
    assert checked.gpt2.tie_word_embeddings


def test_two_vocabularies_are_refused(there: Path, tmp_path: Path) -> None:
    sizes = [
        adapter(tmp_path / f"v{size}", {f"{PREFIX}wte.weight": np.ones((size, 8), np.float32)})
        for size in (25, 26)
    ]
    with pytest.raises(BadModel, match="25 and 26"):
        fitted(there, *sizes)


def test_what_was_applied_is_said_in_full(there: Path, tmp_path: Path) -> None:
    tensors = ATTENTION | pair("h.1.attn.c_attn", 8, 24) | pair("h.1.mlp.c_fc", 8, 32)
    lora = adapter(tmp_path / "lora", tensors)
    _, adapted = inspect_adapted(there, [Adapter(name="lora", folder=lora, scale=0.5)], "base")
    assert adapted.applied == (
        "adapter lora is applied at scale 0.5: 6 tensors: LoRA of rank 2 times 2 on attn.c_attn of"
        " layers 0-1; LoRA of rank 2 times 2 on mlp.c_fc of layers 1",
    )


@pytest.mark.parametrize("pattern", ["(a+)+$", "(.*)*x", "(a|a)*y", "(a|aa)+$", ".*.*.*.*.*.*z"])
def test_a_slow_pattern_takes_no_time(pattern: str) -> None:
    begun = time.monotonic()
    assert not matches(pattern, "a" * 200 + "b")
    assert time.monotonic() - begun < 2


@pytest.mark.parametrize(
    "pattern",
    ["c_attn", r"h\.\d+\.attn", r".*\.0\..*", "[a-z_]+", "h.(0|1).attn.c_attn", "x?c_attn", "^h",
     "transformer.h.0.attn.c_attn", "c_att[^n]", r"\w{3,9}", "attn.c_attn$", "(?:c_)?attn", ""],
)  # fmt: skip
def test_a_pattern_matches_as_in_python(pattern: str) -> None:
    import re

    for name in ("transformer.h.0.attn.c_attn", "h.1.attn", "c_attn", "wte", "model.h"):
        expected = re.match(rf"(.*\.)?({pattern})$", name) is not None
        assert matches(pattern, name) == expected, name


def test_a_pattern_that_is_not_known_is_no_match_but_an_error() -> None:
    for pattern in (r"(a)\1", "(?=a)b", "(", "a" * 501):
        with pytest.raises(BadPattern):
            matches(pattern, "a.b")


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("lora", ("lora", 1.0)),
        ("./a=0.5", ("./a", 0.5)),
        ("a=-2", ("a", -2.0)),
        ("a=b=1e-1", ("a=b", 0.1)),
    ],
)
def test_a_scale_stands_behind_the_last_equals_sign(text: str, meant: tuple[str, float]) -> None:
    assert parse_adapter(text) == meant


@pytest.mark.parametrize("text", ["a=", "=1", "a=x", "a=nan", "a=inf", "a=1000"])
def test_a_scale_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="SCALE"):
        Load(adapter=(text,))


def test_a_folder_with_an_equals_sign_is_a_folder(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "rate=0.1")
    assert parse_adapter(str(folder)) == (str(folder), 1.0)
    assert parse_adapter(f"{folder}=0.5") == (str(folder), 0.5)


def test_a_servers_model_takes_no_adapter() -> None:
    with pytest.raises(UsageError, match="own weights"):
        Load(adapter=("a",), server="http://127.0.0.1:9/v1")


def test_the_name_of_an_adapter_opens_its_base(there: Path, tmp_path: Path) -> None:
    lora = adapter(tmp_path / "lora")
    found = resolve(Load(model=str(lora), adapter=(f"{lora}=0.5",)))
    assert found.folder.resolve() == there
    assert [one.scale for one in found.adapters] == [1.0, 0.5]
    assert found.title.endswith("base+lora+lora=0.5")
    again = resolve(found.pinned(Load()))
    assert (again.folder.resolve(), again.adapters) == (there, tuple(
        replace(one, name=str(lora)) for one in found.adapters
    ))  # fmt: skip
    assert resolve(Load(model=str(there))).adapters == ()


@pytest.mark.parametrize("named", [None, "../nowhere/at/all", "../lora", "no such\0name"])
def test_a_base_that_is_not_there_is_named(tmp_path: Path, named: str | None) -> None:
    lora = adapter(tmp_path / "lora", base_model_name_or_path=named)
    with pytest.raises(BadModel, match="base"):
        resolve(Load(model=str(lora)))


@pytest.mark.parametrize("name", ["../../etc", "a/../b", "owner/..", "a//b", "o/n@../x"])
def test_a_name_leads_nowhere_else(there: Path, name: str) -> None:
    with pytest.raises((UsageError, BadModel, MissingInput)):
        resolve(Load(model=str(there), adapter=(name,), offline=True))


def test_adapters_by_names_and_models_are_told_apart(there: Path, tmp_path: Path) -> None:
    adapter(tmp_path / "outer" / "inner")
    with pytest.raises(BadModel, match=r"by their names: .*outer/inner"):
        resolve(Load(model=str(there), adapter=(str(tmp_path / "outer"),)))
    with pytest.raises(BadModel, match="with -m"):
        resolve(Load(model=str(there), adapter=(str(there),)))
    assert missing(tmp_path / "outer" / "inner") == ()


def test_everything_that_is_kept_is_keyed_by_adapter_and_scale(there: Path, tmp_path: Path) -> None:
    one, other = adapter(tmp_path / "one"), adapter(tmp_path / "other", lora_alpha=5)
    same = adapter(tmp_path / "moved")
    given = [
        [],
        [Adapter(name="one", folder=one)],
        [Adapter(name="one", folder=one, scale=0.5)],
        [Adapter(name="other", folder=other)],
    ]
    assert len({fingerprint(adapters) for adapters in given}) == len(given)
    files = [content_of(there, adapters, "base") for adapters in given]
    assert len({digest_of(found) for found in files}) == len(given)
    assert content_of(there, [Adapter(name="x", folder=same)], "base") == files[1]

    def kept(adapters: list[Adapter]) -> str:
        checked, _ = with_adapters(inspect(there), adapters, "base")
        return int8_store.digest(checked.tensors.values(), checked.digests)

    assert len({kept(adapters) for adapters in given}) == len(given)
    assert kept(given[1]) == kept(given[1])


def test_the_changed_tensors_live_as_long_as_the_checkpoint(there: Path, tmp_path: Path) -> None:
    lora = [Adapter(name="lora", folder=adapter(tmp_path / "lora"))]
    checked, _ = with_adapters(inspect(there), lora, "base")
    [path] = checked.digests
    assert path.exists()
    del checked
    assert not path.exists()


def test_new_tokens_come_from_the_adapter_that_has_their_embeddings(
    there: Path, tmp_path: Path
) -> None:
    grown = {f"{PREFIX}wte.weight": np.ones((26, 8), np.float32)}
    folders = [adapter(tmp_path / "a", grown), adapter(tmp_path / "b", grown)]
    plain = adapter(tmp_path / "plain")
    for number, folder in enumerate((*folders, plain)):
        (folder / "tokenizer.json").write_text(json.dumps({"number": number}))
    first, second, third = (Adapter(name=one.name, folder=one) for one in (*folders, plain))
    assert tokenizer_folder(there, [third]) == there
    assert tokenizer_folder(there, [third, first]) == folders[0]
    with pytest.raises(BadModel, match="different tokenizers"):
        tokenizer_folder(there, [first, second])


def test_a_file_that_is_cut_off_is_refused(there: Path, tmp_path: Path) -> None:
    lora = adapter(tmp_path / "lora")
    file = lora / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-4])
    assert "cut off" in refused(there, lora)


def test_a_head_of_its_own_keeps_it(tmp_path: Path) -> None:
    there = base(tmp_path / "base", replace(SMALL, tie_word_embeddings=False))
    own = {"base_model.model.lm_head.weight": np.ones((24, 8), np.float32)}
    found = fitted(there, adapter(tmp_path / "own", own, modules_to_save=["lm_head"]))
    assert set(found.parts) == {"lm_head.weight"}


def test_tensors_of_a_wrapped_model_are_known(there: Path, tmp_path: Path) -> None:
    wrapped = {
        name.replace("transformer.", "_orig_mod.transformer."): values
        for name, values in ATTENTION.items()
    }
    assert set(fitted(there, adapter(tmp_path / "lora", wrapped)).parts) == {NAME}
    save_file({f"{PREFIX}ln_f.base_layer.bias": np.ones(8, np.float32)}, tmp_path / "x.safetensors")
    assert read_header(tmp_path / "x.safetensors")
