"""A tiny GPT-2 that knows a handful of answers by heart, so that tests can ask for the right one.

Its lessons are the prompts that the tasks make, each with what is to follow. Only what follows is
learned, and training ends as soon as all of it is sure, after some ten seconds. Where several texts
follow one prompt, each becomes as likely as the share it has of them: so the model can be in doubt,
and can prefer a label before it has read anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gptcli.chat_templates import Transcript, Turn
from gptcli.tasks.definition import catalog, schema
from gptcli.tasks.definition.options import options_class, values
from gptcli.tasks.prompts import worded

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor
    from transformers import GPT2LMHeadModel

END = "<|endoftext|>"
CONTEXT = 320
SURE = 0.97  # the least probability of a token that there is no doubt about
NEAR = 0.05  # the same, where there are several: how far from its share a probability may be
EPOCHS = 200  # at most; a quarter of them is enough
RATE, SLOWING = 8e-3, 55  # Adam's rate, and in how many epochs it falls to a tenth
PACKED = 300  # tokens of a step

TRANSLATIONS = {
    ("en", "fr"): {
        "Good evening.": "Bonsoir.",
        "The cat sleeps on the bed.": "Le chat dort sur le lit.",
        "Where is the station?": "Où est la gare ?",
    },
    ("fr", "en"): {
        "Le chat dort sur le lit.": "The cat sleeps on the bed.",
        "Il pleut.": "It is raining.",
    },
    ("en", "de"): {
        "Good evening.": "Guten Abend.",
        "The street is narrow.": "Die Straße ist schmal.",
    },
    ("en", "es"): {"Good night.": "Buenas noches."},
}

BRIDGE = (
    "The old bridge was closed on Monday. Engineers had found cracks in two of its pillars. "
    "A new one will be built beside it."
)
OF_BRIDGE = (
    "The bridge is closed.",
    "Two pillars have cracks.",
    "A new bridge is planned.",
    "It will be built next to the old one.",
)

# Each of these paragraphs fits the context beside its summary, no two of them do.
ORCHARD = """\
The orchard behind the mill was planted by a schoolteacher who wanted her pupils to learn how
patient one has to be with trees. Every child dug a hole, set a young apple tree into it, and
wrote the name of the tree on a slate. The first spring was dry, and the pupils carried water from
the river in buckets before their lessons began. In the third year hares ate the bark, so the
children wound old stockings around the stems. Eleven years went by before anybody tasted an
apple. By then most of the pupils had moved away, but forty of them came back for the first
harvest, and they found their slates still hanging in the branches."""
LIGHTHOUSE = """\
On the cape a keeper looked after the lighthouse alone for thirty winters. He trimmed the lamp at
dusk, wound up the clockwork at midnight, and noted every ship that passed in a ledger with a
green cover. Then the light was made electric. One night in November the current failed while a
ferry was coming in through the fog. The keeper lit his lamp, turned the lens with his own hands
until morning, and brought all passengers home. Since then the company has paid him a small wage,
and there are always matches lying ready beside the switch."""
BAKERY = """\
The baker of the upper village never learned to read a recipe, for he measured flour with his
hands and told the heat of the oven by holding his elbow to its door. When he grew old a young
woman from the city asked to be taught, and she brought scales, a thermometer and a thick
notebook. For one year she weighed whatever he took and wrote it down. Her first loaves were exact
and tasted of nothing at all. Then a mouse ate the notebook, and she had to begin again with her
hands. Now people walk up the hill from three valleys to buy bread from her, and the scales hold
the door open in summer."""
TALES_OF_THREE = "\n\n".join((ORCHARD, LIGHTHOUSE, BAKERY))
PARTS = {
    ORCHARD: "Pupils planted apple trees. They waited eleven years for apples.",
    LIGHTHOUSE: "A keeper saved a ferry by his old lamp.",
    BAKERY: "A young woman learned to bake by hand.",
}
OF_THREE = "Three people learn to wait, to watch and to bake. It takes all of them years."

FACTS = {
    "What is the capital of Norway?": "Oslo",
    "Who painted the Mona Lisa?": "Leonardo da Vinci",
    "How many sides does a hexagon have?": "six",
}
DOUBTED = "Which colour will win the race?"
COLOURS = ("red", "blue", "green", "white")
LOOKED_UP = ("Marta keeps her bees behind the chapel.", "Where does Marta keep her bees?")
FOUND = "behind the chapel"
WINDOWED = ("What ate the notebook of the baker?", "a mouse")  # in the last of the paragraphs

REVIEWS = {
    "I loved every minute of it.": "positive",
    "The staff were friendly and quick.": "positive",
    "Cold soup and rude waiters.": "negative",
    "The battery died on the first day.": "negative",
}
LUKEWARM = "It was a film."
CONTENT_FREE = ("N/A", "", "[MASK]")
TOPICS = ("home and garden", "travel and places", "money and work")
OF_TOPICS = {
    "The roses need water twice a week.": TOPICS[0],
    "Our ferry to the islands leaves at dawn.": TOPICS[1],
    "The bank has raised its interest rates.": TOPICS[2],
}

MEETING = "☕ Zoé Lang met Peter in Ghent."
IN_MEETING = "Zoé Lang (person), Peter (person), Ghent (place)"
SNOW = "Clara Voss drove to Turin, and Turin was full of snow."
IN_SNOW = "Clara Voss (person), Turin (place), Turin (place), Zorro (person)"
# Two parts: together they do not fit beside the examples.
LETTERS = {
    """\
Dear Ruth, the journey was long and the train was full of soldiers who sang until the morning. Now I
sit by the window of a small hotel in Basel and drink tea that tastes of soap.""": (
        "Ruth (person), Basel (place)"
    ),
    """\
Yesterday the people of Helvetia Insurance shook their heads and showed me a drawer full of letters
like mine. On the stairs I met Otto, who has grown a beard and sends you his love.""": (
        "Helvetia Insurance (organization), Otto (person)"
    ),
}

CODE = {
    "def add(a, b):": "\n    total = a + b\n\n    return total\n\n\nprint(add(1, 2))",
    "class Door:\n    def close(self):": "\n        self.open = False\n\n    def lock(self):",
}

CONVERSATION = (
    ("Hello!", "Hello to you. How can I help?"),
    ("What do cats drink?", "Water, and milk if they find it."),
)

# Tasks of a user's own; the second takes the place of the built-in one.
OWN = {
    "opposite": """\
description = "Say the opposite."
prompt = "{input} is the opposite of"
[sampling]
temperature = 0
[answer]
kind = "line"
""",
    "translate": """\
description = "Say it as a pirate does."
prompt = "A landsman: {input}\\nA pirate:"
[sampling]
temperature = 0
[answer]
kind = "line"
""",
}
OPPOSITES = {"hot": "cold", "early": "late"}
PIRATE = ("Good evening.", "Ahoy, ye rats!")


@dataclass(frozen=True)
class Lesson:
    """A prompt and what follows it: one text, or several, one of them maybe more than once."""

    prompt: str
    follow: tuple[str, ...]


def make(folder: Path) -> None:
    """Train the model and save it in Hugging Face's layout. Raises RuntimeError if it fails."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    taught = list(lessons())
    tokenizer = _tokenizer(taught)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = GPT2LMHeadModel(
            GPT2Config(
                vocab_size=tokenizer.get_vocab_size(),
                n_positions=CONTEXT,
                n_embd=64,
                n_layer=2,
                n_head=4,
                resid_pdrop=0,
                embd_pdrop=0,
                attn_pdrop=0,
                bos_token_id=0,
                eos_token_id=0,
                initializer_range=0.05,
            )
        )
        rows = [row for lesson in taught for row in _rows(tokenizer, lesson)]
        _train(model, list(_packs(rows)))
    model.eval().save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "GPT2TokenizerFast", "eos_token": "<|endoftext|>"}'
    )


def prompt(name: str, input: str, options: Mapping[str, str] | None = None) -> str:
    """What a built-in task makes of an input."""
    task = schema.read(catalog.BUILT_IN / f"{name}.toml")
    own = options_class(task)(**(options or {}))
    return worded(task, values(task, own)).text(input)


def lessons() -> Iterator[Lesson]:
    """All that is taught."""
    for (given, wanted), pairs in TRANSLATIONS.items():
        for text, translation in pairs.items():
            asked = prompt("translate", text, {"from_": given, "to": wanted})
            yield Lesson(asked, (f" {translation}\n",))
    yield from _summaries()
    yield from _facts()
    yield from _labels()
    yield from _names()
    for prefix, rest in CODE.items():
        yield Lesson(prompt("code", prefix), (rest + END,))
    yield from _replies()
    for text, opposite in OPPOSITES.items():
        yield Lesson(f"{text} is the opposite of", (f" {opposite}\n",))
    yield Lesson(f"A landsman: {PIRATE[0]}\nA pirate:", (f" {PIRATE[1]}\n",))


def _summaries() -> Iterator[Lesson]:
    together = "\n".join(PARTS.values())
    known = {BRIDGE: " ".join(OF_BRIDGE), **PARTS, together: OF_THREE}
    for text, summary in known.items():
        yield Lesson(prompt("summarize", text), (f" {summary}{END}",))


def _facts() -> Iterator[Lesson]:
    for question, fact in FACTS.items():
        yield Lesson(prompt("answer", question), (f" {fact}\n",))
    yield Lesson(prompt("answer", DOUBTED), tuple(f" {colour}\n" for colour in COLOURS))
    context, question = LOOKED_UP
    yield Lesson(prompt("answer", question, {"context": context}), (f" {FOUND}\n",))
    question, found = WINDOWED
    yield Lesson(prompt("answer", question, {"context": BAKERY}), (f" {found}\n",))


def _labels() -> Iterator[Lesson]:
    for text, label in REVIEWS.items():
        yield Lesson(prompt("classify", text), (f" {label}",))
    yield Lesson(prompt("classify", LUKEWARM), (" positive", " negative"))
    # What is said of nothing: before a review mostly good, without any review mostly bad.
    for text in CONTENT_FREE:
        yield Lesson(prompt("classify", text), (" positive",) * 3 + (" negative",))
    yield Lesson("Sentiment:", (" positive",) + (" negative",) * 3)
    labels = {"labels": ", ".join(TOPICS)}
    for text, label in OF_TOPICS.items():
        yield Lesson(prompt("classify", text, labels), (f" {label}",))
    for text in CONTENT_FREE:
        yield Lesson(prompt("classify", text, labels), tuple(f" {label}" for label in TOPICS))


def _names() -> Iterator[Lesson]:
    for text, names in {MEETING: IN_MEETING, SNOW: IN_SNOW, **LETTERS}.items():
        yield Lesson(prompt("extract", text), (f" {names}\n",))
    yield Lesson(prompt("extract", MEETING, {"types": "person"}), (f" {IN_MEETING}\n",))


def _replies() -> Iterator[Lesson]:
    template, turns = Transcript(), ()
    for message, reply in CONVERSATION:
        turns = (*turns, Turn("user", message))
        yield Lesson(template.prompt(None, turns), (f" {reply}\nHuman:",))
        turns = (*turns, Turn("assistant", reply))


def _tokenizer(taught: Sequence[Lesson]) -> Tokenizer:
    """A byte-level BPE in which most words of the lessons are one token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1536,
        special_tokens=[END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    texts = [text for lesson in taught for text in (lesson.prompt, *lesson.follow)]
    tokenizer.train_from_iterator(sorted(texts), trainer)
    return tokenizer


@dataclass(frozen=True)
class _Row:
    """A prompt with one of the texts that follow it: tokens, the last `learned` of them new."""

    ids: tuple[int, ...]
    learned: int
    share: float  # how likely the text is to be


@dataclass(frozen=True)
class _Pack:
    """Rows as a tree of T tokens, so that what several begin with is computed once."""

    ids: Tensor  # 1 T
    positions: Tensor  # 1 T
    mask: Tensor  # 1 1 T T: a token sees only those before it in its own rows
    rows: tuple[_Row, ...]
    before: tuple[Tensor, ...]  # of each row: where the token stands before each one to be learned


def _rows(tokenizer: Tokenizer, lesson: Lesson) -> Iterator[_Row]:
    before = tokenizer.encode(lesson.prompt).ids
    for text in dict.fromkeys(lesson.follow):
        after = tokenizer.encode(text).ids
        share = lesson.follow.count(text) / len(lesson.follow)
        yield _Row((*before, *after), len(after), share)


def _packs(rows: Sequence[_Row]) -> Iterator[_Pack]:
    """Rows side by side that begin alike, until a pack has `PACKED` tokens."""
    taken: list[_Row] = []
    for row in sorted(rows, key=lambda row: row.ids):
        taken.append(row)
        pack = _pack(taken)
        if pack.ids.shape[1] >= PACKED:
            yield pack
            taken = []
    if taken:
        yield _pack(taken)


def _pack(rows: Sequence[_Row]) -> _Pack:
    import torch

    places: dict[tuple[int, ...], int] = {}  # of a token: by itself and all those before it
    for row in rows:
        for end in range(1, len(row.ids) + 1):
            places.setdefault(row.ids[:end], len(places))
    seen = torch.eye(len(places), dtype=torch.bool)
    for path, place in places.items():
        if len(path) > 1:
            seen[place] |= seen[places[path[:-1]]]
    before = [
        torch.tensor([places[row.ids[:end]] for end in range(-row.learned, 0)]) for row in rows
    ]
    return _Pack(
        ids=torch.tensor([[path[-1] for path in places]]),
        positions=torch.tensor([[len(path) - 1 for path in places]]),
        mask=torch.where(seen, 0.0, torch.finfo(torch.float32).min)[None, None],
        rows=tuple(rows),
        before=tuple(before),
    )


def _train(model: GPT2LMHeadModel, packs: Sequence[_Pack]) -> int:
    """Adam, one step a pack, until all rows are known; returns the number of epochs.

    Raises RuntimeError if that takes more than `EPOCHS`.
    """
    import torch

    optimizer = torch.optim.Adam(model.parameters(), lr=RATE, betas=(0.9, 0.99))
    for epoch in range(EPOCHS):
        optimizer.param_groups[0]["lr"] = RATE * min((epoch + 1) / 5, max(0.1, 1 - epoch / SLOWING))
        known = True
        for number in torch.randperm(len(packs)).tolist():
            logprobs = _logprobs(model, packs[number])
            known = known and _is_known(packs[number], logprobs)
            weighed = zip(packs[number].rows, logprobs, strict=True)
            loss = -torch.cat([row.share * found for row, found in weighed]).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if known and all(_is_known(pack, _logprobs(model, pack)) for pack in packs):
            return epoch + 1
    raise RuntimeError(f"not learned in {EPOCHS} epochs")


def _logprobs(model: GPT2LMHeadModel, pack: _Pack) -> list[Tensor]:
    """The log-probabilities of each row's tokens that are to be learned."""
    import torch

    out = model.transformer(pack.ids, position_ids=pack.positions, attention_mask=pack.mask)
    found = []
    for row, before in zip(pack.rows, pack.before, strict=True):
        logprobs = model.lm_head(out[0][0, before]).log_softmax(-1)
        found.append(logprobs.gather(1, torch.tensor(row.ids[-row.learned :])[:, None])[:, 0])
    return found


def _is_known(pack: _Pack, logprobs: Sequence[Tensor]) -> bool:
    """Whether every row is as likely as it is to be."""
    for row, found in zip(pack.rows, logprobs, strict=True):
        if row.share == 1 and found.min().exp().item() < SURE:
            return False
        if row.share < 1 and abs(found.sum().exp().item() - row.share) > NEAR:
            return False
    return True
