"""Which colour a number has, in the terminal, in SVG and in PNG alike.

One ramp from light yellow for 0 to dark blue for 1, whose lightness falls all the way: it is told
apart in grey and by colour-blind eyes, and little is pale, as paper is. Ranks have four bands, as
in GLTR (Gehrmann, Strobelt and Rush 2019).
"""

from __future__ import annotations

from itertools import pairwise

Colour = tuple[int, int, int]
STOPS: tuple[Colour, ...] = (
    (255, 252, 226),
    (183, 215, 170),
    (93, 166, 172),
    (40, 100, 150),
    (12, 28, 78),
)
BANDS = (10, 100, 1000)  # the last rank of each band but the last
NAMES = ("top 10", "top 100", "top 1000", "beyond")
OF_BANDS: tuple[Colour, ...] = ((100, 205, 100), (246, 226, 110), (250, 130, 115), (205, 120, 245))
FOR, AGAINST = (46, 134, 193), (211, 84, 60)  # what speaks for a token, and what against it


def ramp(share: float) -> Colour:
    """The colour of a number from 0 to 1; what is outside is as its end."""
    place = min(max(share, 0.0), 1.0) * (len(STOPS) - 1)
    step = min(int(place), len(STOPS) - 2)
    low, high = list(pairwise(STOPS))[step]
    red, green, blue = (round(a + (b - a) * (place - step)) for a, b in zip(low, high, strict=True))
    return red, green, blue


def band(rank: int) -> int:
    """Which of the four bands a rank is in."""
    return sum(rank > last for last in BANDS)


def code(colour: Colour) -> str:
    """As HTML, SVG and Rich write it: #rrggbb."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


def ink(colour: Colour) -> str:
    """Black or white, whichever is read more easily on a colour (WCAG's contrast)."""
    return "#000000" if luminance(colour) > 0.179 else "#ffffff"


def luminance(colour: Colour) -> float:
    """Relative luminance of an sRGB colour, 0 to 1, as WCAG 2 defines it."""
    parts = (part / 255 for part in colour)
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
