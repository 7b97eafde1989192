"""Letters for pictures: 5 dots wide, 7 high, with 2 above for accents and 2 below the line.

A letter is its rows as hexadecimal pairs, 16 being the leftmost dot; what has more than seven rows
goes below the line. Drawn for this package.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

from gptcli.inspection.labels import BLANK_SIGNS, ELLIPSIS, PART

ADVANCE, HEIGHT, BASELINE = 6, 11, 9  # dots of a letter with its gap, of a line, above the line
_WIDE, _ABOVE = 5, 2
ROWS = """
! 04040404000400  " 0a0a0a00000000  # 0a0a1f0a1f0a0a  $ 040f140e051e04  % 18190204081303
& 0c12140815120d ' 04040800000000  ( 02040808080402  ) 08040202020408  * 0004150e150400
+ 0004041f040400  , 00000000000c0408  - 0000001f000000  . 00000000000c0c  / 01010204081010
0 0e11131519110e  1 040c040404040e  2 0e11010204081f  3 1f02040201110e  4 02060a121f0202
5 1f101e0101110e  6 0608101e11110e  7 1f010204040808  8 0e11110e11110e  9 0e11110f01020c
: 000c0c000c0c00  ; 000c0c000c0408  < 02040810080402  = 00001f001f0000  > 08040201020408
? 0e110102040004  @ 0e11171517100e
A 0e11111f111111  B 1e11111e11111e  C 0e11101010110e  D 1e11111111111e  E 1f10101e10101f
F 1f10101e101010  G 0e11101711110f  H 1111111f111111  I 0e04040404040e  J 0702020202120c
K 11121418141211  L 1010101010101f  M 111b1515111111  N 11191915131311  O 0e11111111110e
P 1e11111e101010  Q 0e11111115120d  R 1e11111e141211  S 0f10100e01011e  T 1f040404040404
U 1111111111110e  V 11111111110a04  W 1111111515150a  X 11110a040a1111  Y 11110a04040404
Z 1f01020408101f
[ 0e08080808080e  \\ 10100804020101  ] 0e02020202020e  ^ 040a1100000000  _ 0000000000001f
` 08040200000000
a 00000e010f110f  b 1010161911111e  c 00000e1010110e  d 01010d1311110f  e 00000e111f100e
f 0609081c080808  g 00000f1111110f010e  h 10101619111111  i 04000c0404040e  j 02000602020202120c
k 10101214181412  l 0c04040404040e  m 00001a15151111  n 00001619111111  o 00000e1111110e
p 00001e1111111e1010  q 00000f1111110f0101  r 00001619101010  s 00000e100e011e  t 08081c08080906
u 0000111111130d  v 00001111110a04  w 0000111115150a  x 0000110a040a11  y 0000111111110f010e
z 00001f0204081f
{ 02040408040402  | 04040404040404  } 08040402040408  ~ 00000815020000
"""
SIGNS = {
    BLANK_SIGNS[" "]: "0000000000111f",
    BLANK_SIGNS["\n"]: "010105091f0804",
    BLANK_SIGNS["\t"]: "0105091f090501",
    ELLIPSIS: "00000000000015",
    PART: "00000000040000",
}
ACCENTS = {  # the two rows above a letter
    "\u0300": "0804",
    "\u0301": "0204",
    "\u0302": "040a",
    "\u0303": "0d16",
    "\u0304": "000e",
    "\u0306": "0a04",
    "\u0307": "0004",
    "\u0308": "000a",
    "\u030a": "0404",
    "\u030c": "0a04",
}


def _normalized(form: Literal["NFC", "NFD"], text: str) -> str:
    import unicodedata  # its tables take a tenth of a second

    return unicodedata.normalize(form, text)


def composed(text: str) -> str:
    """A text with its marks in its letters, as `spelled` takes it."""
    return text if text.isascii() else _normalized("NFC", text)


def spelled(text: str) -> str:
    """A text in the letters that there are: others as their code points."""
    return "".join(map(_spelled, composed(text)))


def line(text: str) -> Any:
    """The dots of a `spelled` text: numpy bool (HEIGHT, N)."""
    import numpy as np

    dots = np.zeros((HEIGHT, ADVANCE * len(text)), dtype=bool)
    for place, character in enumerate(text):
        base, *marks = list(_normalized("NFD", character))
        letter = dots[:, ADVANCE * place : ADVANCE * place + _WIDE]
        _stamp(letter, _letters().get(base, ""), _ABOVE)
        low = _ABOVE if base.isupper() or base in "bdfhklt" else _ABOVE + 2
        for mark in marks:
            letter[low - 2 : low] = False
            _stamp(letter, ACCENTS[mark], low - 2)
    return dots


def _spelled(character: str) -> str:
    base, *marks = list(_normalized("NFD", character))
    if base == " " or (base in _letters() and all(mark in ACCENTS for mark in marks)):
        return character
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:06x}"


def _stamp(letter: Any, rows: str, first: int) -> None:
    for place, row in enumerate(bytes.fromhex(rows), first):
        for dot in range(_WIDE):
            letter[place, dot] |= bool(row >> (_WIDE - 1 - dot) & 1)


@cache
def _letters() -> dict[str, str]:
    """The rows of each letter, in hexadecimal."""
    found = dict(SIGNS)
    letter = ""
    for part in ROWS.split():
        if len(part) == 1:
            letter = part[0]
            found[letter] = ""
        else:
            found[letter] += part
    return found
