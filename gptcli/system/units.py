"""Numbers as people read them: sizes, times, rates, shares and counts.

One place, so that a number looks the same in every command. JSON has the numbers themselves.
"""

from __future__ import annotations


def model_size(size: int) -> str:
    """Bytes of a model, a cache or a memory: 124 MB, 1.6 GB; never less than 1 MB."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{max(round(size / 1e6), 1)} MB"


def transfer_size(size: int) -> str:
    """Bytes that go over a network, of any size: 12 bytes, 5 kB, 12.3 MB, 1.6 GB."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size / 1000:.0f} kB" if size >= 1000 else f"{size} bytes"


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """A count with its noun: 1 token, 2 tokens, 0 tokens; `plural` where it is not noun + s."""
    return f"{count} {noun if count == 1 else plural or f'{noun}s'}"


def seconds(time: float) -> str:
    """A measured time: 0.25 s."""
    return f"{time:.2f} s"


def clock(time: float) -> str:
    """A long time in seconds as a clock shows it: 1:02:03, 4:05."""
    whole = round(time)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def milliseconds(time: float) -> int:
    """A time in seconds as whole milliseconds."""
    return round(time * 1000)


def rate(count: float, time: float, unit: str) -> str:
    """How many in a second, of `count` in `time` seconds: 61.3 tokens/s."""
    return f"{count / time:.1f} {unit}/s"


def three_digits(value: float) -> str:
    """A measured number: three digits, more where they stand before the point."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def share(part: float) -> str:
    """A part of a whole: 47%."""
    return f"{part:.0%}"


def percent(probability: float) -> str:
    """A probability in at most 7 columns: 92.8%, 0.02%, <0.001%; 0.0% only for 0 itself."""
    if probability == 0 or probability >= 0.0005:
        return f"{probability:.1%}"
    return f"{100 * probability:.1g}%" if probability >= 1e-5 else "<0.001%"
