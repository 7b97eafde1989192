"""The operating system's room: units, memory, processors, error texts."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from gptcli.system import memory, processors
from gptcli.system.os_errors import reason, said
from gptcli.system.units import (
    clock,
    counted,
    milliseconds,
    model_size,
    percent,
    rate,
    seconds,
    share,
    three_digits,
    transfer_size,
)


def test_an_error_is_told_in_the_systems_words() -> None:
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/somewhere")
    assert said(error) == "No space left on device"
    assert reason(error) == "no space left on device"


def test_an_error_without_the_systems_words_tells_its_own() -> None:
    assert said(OSError("Not a regular file")) == "Not a regular file"
    assert reason(OSError("Not a regular file")) == "not a regular file"


@pytest.mark.parametrize(
    ("size", "text"), [(0, "1 MB"), (124_400_000, "124 MB"), (1_560_000_000, "1.6 GB")]
)
def test_sizes_are_shown_for_people(size: int, text: str) -> None:
    assert model_size(size) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        *((0, "0 bytes"), (999, "999 bytes"), (1000, "1 kB"), (999_499, "999 kB")),
        *((12_340_000, "12.3 MB"), (1_560_000_000, "1.6 GB")),
    ],
)
def test_a_transfer_of_any_size_is_shown(size: int, text: str) -> None:
    assert transfer_size(size) == text


@pytest.mark.parametrize(("count", "text"), [(0, "0 tokens"), (1, "1 token"), (2, "2 tokens")])
def test_one_of_a_thing_has_no_plural(count: int, text: str) -> None:
    assert counted(count, "token") == text


def test_a_plural_may_be_irregular() -> None:
    assert counted(1, "entry", "entries") == "1 entry"
    assert counted(3, "entry", "entries") == "3 entries"


def test_times_and_rates_have_a_unit() -> None:
    assert seconds(0.254) == "0.25 s"
    assert milliseconds(0.0126) == 13
    assert rate(10, 4, "rows") == "2.5 rows/s"


@pytest.mark.parametrize(
    ("time", "text"), [(0.4, "0:00"), (245, "4:05"), (3599.6, "1:00:00"), (3723, "1:02:03")]
)
def test_a_long_time_is_shown_as_on_a_clock(time: float, text: str) -> None:
    assert clock(time) == text


def test_a_share_is_a_whole_percentage() -> None:
    assert share(0.474) == "47%"


@pytest.mark.parametrize(
    ("value", "shown"), [(1234.5, "1234"), (99.94, "99.9"), (0.01234, "0.0123"), (-0.5, "-0.5")]
)
def test_a_number_has_three_digits_or_its_whole_part(value: float, shown: str) -> None:
    assert three_digits(value) == shown


@pytest.mark.parametrize(
    ("probability", "shown"),
    [
        *((1, "100.0%"), (0.0005, "0.1%"), (0.00049, "0.05%"), (0.0000949, "0.009%")),
        *((0.0000999, "0.01%"), (1e-5, "0.001%"), (9.9e-6, "<0.001%"), (1e-300, "<0.001%")),
        (0, "0.0%"),
    ],
)
def test_a_probability_is_a_percentage_however_small_it_is(probability: float, shown: str) -> None:
    assert percent(probability) == shown


def test_available_memory_is_some_and_no_more_than_there_is() -> None:
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < memory.available() <= there


def test_without_a_kernels_count_all_memory_is_available(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> str:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")

    monkeypatch.setattr(Path, "read_text", refused)
    assert memory.available() == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_the_peak_is_in_bytes() -> None:
    assert memory.peak() > 5_000_000  # an interpreter with pytest


def test_the_groups_limit_bounds_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processors, "allowed_cores", lambda: 8)
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: "250000 100000")
    assert processors.usable_cores() == 3
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: "max 100000")
    assert processors.usable_cores() == 8


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A function that lays out control groups, with this process in one, on eight cores."""
    monkeypatch.setattr(processors, "allowed_cores", lambda: 8)
    monkeypatch.setattr(processors, "GROUPS", tmp_path / "groups")
    monkeypatch.setattr(processors, "OF_THIS_PROCESS", tmp_path / "cgroup")

    def groups(own: str | None, **files: str) -> int:
        if own is not None:
            (tmp_path / "cgroup").write_text(own)
        for name, text in files.items():
            path = tmp_path / "groups" / name.replace("__", "/").replace("DOT", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return processors.usable_cores()

    return groups


@pytest.mark.parametrize(
    ("own", "files", "cores"),
    [
        (None, {}, 8),
        ("0::/\n", {"cpuDOTmax": "150000 100000"}, 2),  # a container
        ("0::/\n", {"cpuDOTmax": "5000 100000"}, 1),
        ("0::/\n", {"cpuDOTmax": "max 100000"}, 8),
        ("0::/\n", {"cpuDOTmax": ""}, 8),
        ("0::/a/b\n", {"a__b__cpuDOTmax": "max 100000", "a__cpuDOTmax": "300000 100000"}, 3),
        ("0::/a/b\n", {"a__b__cpuDOTmax": "200000 100000", "a__cpuDOTmax": "300000 100000"}, 2),
        ("0::/../b\n", {"cpuDOTmax": "400000 100000"}, 4),
        ("1:cpu:/\n", {"cpu__cpuDOTcfs_quota_us": "-1", "cpu__cpuDOTcfs_period_us": "100000"}, 8),
        ("1:cpu:/\n", {"cpu__cpuDOTcfs_quota_us": "9", "cpu__cpuDOTcfs_period_us": "2"}, 5),
    ],
)
def test_a_limit_of_any_group_around_a_process_bounds_the_cores(
    groups, own: str | None, files: dict[str, str], cores: int
) -> None:
    assert groups(own, **files) == cores


@pytest.mark.parametrize(
    ("text", "threads"), [("3", 3), ("64", 64), ("2,4", 2), ("", 8), ("0", 8), ("-1", 8), ("x", 8)]
)
def test_openmps_variable_says_how_many_threads_there_are(
    monkeypatch: pytest.MonkeyPatch, text: str, threads: int
) -> None:
    monkeypatch.setattr(processors, "usable_cores", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    assert processors.default_threads() == threads
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert processors.default_threads() == 8
