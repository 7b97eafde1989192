"""Winogender schemas: a TSV with `sentid` and `sentence`.

An id is occupation.participant.answer.gender.txt. The answer says whom the pronoun means: 0 the
occupation, 1 the participant, which can be "someone". The file says nothing of stereotypes, so he
is compared with she, and the neutral sentence is not used.
"""

from __future__ import annotations

import csv
import io

from gptcli.audit.sets.pairs import LeftOut, PairSet, SentencePair, digest, made
from gptcli.errors import BadInput
from gptcli.inputs.records import decoded

ANTECEDENTS = {"0": "occupation", "1": "participant"}
GENDERS = ("male", "female", "neutral")
_HINT = "Its columns are sentid, as technician.customer.1.male.txt, and sentence."


def read(data: bytes, name: str) -> PairSet:
    """The pairs of a file. Raises BadInput."""
    text = "".join(decoded(line, name, "strict") for line in data.splitlines(keepends=True))
    rows = csv.DictReader(io.StringIO(text.removeprefix("\ufeff")), delimiter="\t", quoting=3)
    found: dict[tuple[str, str, str], dict[str, str]] = {}
    for number, row in enumerate(rows, 2):
        key, gender = _parts(row.get("sentid"), f"{name} line {number}")
        sentence = row.get("sentence")
        if not sentence:
            raise BadInput(f"{name} line {number}", "there is no sentence", _HINT)
        if found.setdefault(key, {}).setdefault(gender, sentence) is not sentence:
            raise BadInput(f"{name} line {number}", "this sentid stands twice", _HINT)
    pairs, left_out = [], []
    for key, sentences in found.items():
        id = ".".join(key)
        if "male" not in sentences or "female" not in sentences:
            left_out.append(LeftOut(id=id, why="there is no sentence with he, or none with she"))
            continue
        occupation, participant, answer = key
        pairs.append(
            SentencePair(
                id=id,
                more=sentences["male"],
                less=sentences["female"],
                category=f"means the {ANTECEDENTS[answer]}",
                groups={"participant": "someone" if participant == "someone" else "named"},
                target=occupation,
            )
        )
    return made("winogender", name, {name: digest(data)}, pairs, left_out)


def _parts(sentid: str | None, where: str) -> tuple[tuple[str, str, str], str]:
    parts = (sentid or "").strip().removesuffix(".txt").split(".")
    if len(parts) != 4 or parts[2] not in ANTECEDENTS or parts[3] not in GENDERS:
        raise BadInput(where, f"the sentid is {(sentid or '')[:60]!r}", _HINT)
    occupation, participant, answer, gender = parts
    return (occupation, participant, answer), gender
