"""Banned words: no sequence of tokens writes one, and little else is forbidden.

The referee is the finished text itself, as the detokenizer gives it, searched with plain patterns.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path
from random import Random

import pytest
import tokenizers
from support.engines import built_in, completions, requests, through_transformers
from support.small_tokenizers import FEW, KINDS, bytes_of, chinese, japanese, made
from tokenizers import decoders, models, pre_tokenizers

from gptcli.checkpoints.tokenization.loading import load_tokenizer
from gptcli.checkpoints.tokenization.roles import TokenRoles
from gptcli.checkpoints.tokenization.tokenizer import Tokenizer
from gptcli.engines import open_engine
from gptcli.engines.decoding.bans.automaton import Bans, State, bans_of
from gptcli.engines.decoding.bans.borders import OTHER, closed, form_of
from gptcli.engines.decoding.detokenizer import Detokenizer
from gptcli.options import Load, Sampling
from gptcli.protocol import Completion, Engine, Request

# The referee.


def pattern(word: str) -> re.Pattern[str]:
    """A word at its borders, where its letters have any."""
    body = r"\s+".join(map(re.escape, word.split(" ")))
    left, right = (r"(?<![a-zé0-9])", r"(?![a-zé0-9])")
    first, last = (re.match("[a-zé0-9]", end, re.IGNORECASE) for end in (word[0], word[-1]))
    return re.compile(f"{left if first else ''}{body}{right if last else ''}", re.IGNORECASE)


def written(
    tokenizer: Tokenizer, prompt: str, ids: Sequence[int], stop: tuple[str, ...] = ()
) -> str:
    """The finished text."""
    text = Detokenizer(tokenizer, stop, tokenizer.encode(prompt), prompt)
    return "".join(map(text.push, ids)) + text.flush()


def has_banned(words: Sequence[str], prompt: str, text: str) -> bool:
    """Whether a word is in the text, or begins in the prompt and ends in the text."""
    for searched in map(pattern, words):
        across = (found.end() > len(prompt) for found in searched.finditer(prompt + text))
        if searched.search(text) or any(across):
            return True
    return False


def bans(tokenizer: Tokenizer, *words: str, stop: tuple[str, ...] = ()) -> Bans:
    found = bans_of(words, stop, tokenizer, tokenizer.size)
    assert found is not None
    return found


def forbidden(banned: Bans, state: State) -> set[int]:
    return {int(id) for part in banned.forbidden(state) for id in part}


def begin(banned: Bans, tokenizer: Tokenizer, prompt: str = "") -> State:
    return banned.begin(tokenizer.encode(prompt), prompt)


# Every sequence of small vocabularies.

PARTS = ["c", "a", "t", "ca", "at", "cat", "Ġcat", "Ġc", "CAT", "Ġcategory", "egory", "s", "Ġ"]


def few(*more: str) -> Tokenizer:
    tokens = ["<|endoftext|>", *PARTS, *more]
    return Tokenizer(bytes_of(tokens, [], tokens[0]), 0)


def paths(
    banned: Bans, tokenizer: Tokenizer, prompt: str, length: int
) -> Iterator[tuple[list[int], set[int]]]:
    """Every sequence that may be written, up to a length, and what may not come next."""
    todo = [(list[int](), begin(banned, tokenizer, prompt))]
    while todo:
        ids, state = todo.pop()
        never = forbidden(banned, state)
        yield ids, never
        if len(ids) < length - 1:
            rest = (id for id in range(tokenizer.size) if id not in never)
            todo += [([*ids, id], banned.after(state, id)) for id in rest]


@pytest.mark.parametrize(
    ("words", "prompt", "more", "length"),
    [
        (("cat",), "", ("Ã", "©"), 4),  # the bytes of é
        (("cat", "s cat"), "s ca", (".",), 3),
        (("cat",), "the cat", ("âĢ", "Ļ"), 3),  # the bytes of a quotation mark
        (("at c", "CATS"), "c", (), 3),
    ],
    ids=str,
)
def test_exactly_what_would_write_a_banned_word_is_forbidden(
    words: tuple[str, ...], prompt: str, more: tuple[str, ...], length: int
) -> None:
    tokenizer = few(*more)
    for ids, never in paths(bans(tokenizer, *words), tokenizer, prompt, length):
        for id in range(tokenizer.size):
            text = written(tokenizer, prompt, [*ids, id])
            assert has_banned(words, prompt, text) == (id in never), (text, ids, id)


def test_a_longer_word_stays_writable_in_tokens_that_do_not_end_the_banned_one() -> None:
    tokenizer = few("Ġca", "tegory")
    texts = {
        tokenizer.decode([*ids, id])
        for ids, never in paths(bans(tokenizer, "cat"), tokenizer, "", 2)
        for id in range(tokenizer.size)
        if id not in never
    }
    assert {" category", " categorys", "tegory", " c"} <= texts
    assert {"cat", " cat", "CAT", " cats", "cata"} & texts == set()


def test_a_stop_string_makes_no_banned_word_by_its_cut() -> None:
    tokenizer = few("tegory", "Ġca")
    stop = ("egory", "a", ".")
    banned = bans(tokenizer, "cat", stop=stop)
    for ids, never in paths(banned, tokenizer, "", 3):
        for id in {*range(tokenizer.size)} - never:
            for text in (written(tokenizer, "", [*ids, id], (end,)) for end in stop):
                assert not has_banned(("cat",), "", text)


# Every kind of tokenizer, at random.

WORDS = ("cat", "the cat", "hello", "c", "a!", "天気", "天", "。今", "e2", "s t", "new york", "0")
PROMPTS = ("the", "the ", "cat", "天", "a c", "hello th", "the cat\n", "new", "ca")
ALL_KINDS = {
    **{name: lambda name=name: made(name) for name in KINDS},
    **{f"few {name}": few_of for name, few_of in FEW.items()},
    "chinese": chinese,
    "japanese": japanese,
}


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_no_kind_of_tokenizer_writes_a_banned_word(kind: str) -> None:
    tokenizer, source = ALL_KINDS[kind](), Random(kind)
    letters = {*"".join(WORDS), " "}
    tried = [
        id
        for id in range(tokenizer.size)
        if letters & {*tokenizer.token_text(id).lower().strip()} or id == tokenizer.eos_id
    ]
    wrong = 0
    for _ in range(24):
        words, prompt = tuple(source.sample(WORDS, 3)), source.choice(PROMPTS)
        banned = bans(tokenizer, *words)
        state, ids = begin(banned, tokenizer, prompt), list[int]()
        for _ in range(7):
            never = forbidden(banned, state)
            for id in source.sample(tried, min(len(tried), 20)):
                text = written(tokenizer, prompt, [*ids, id])
                found = has_banned(words, prompt, text)
                assert not found or id in never, (words, prompt, text)
                wrong += id in never and not found
            allowed = [id for id in tried if id not in never]
            if not allowed:
                break
            ids.append(source.choice(allowed))
            state = banned.after(state, ids[-1])
    # A run of bytes may turn out to be no text: only there more is forbidden than must be.
    assert wrong == 0 or "fallback" in kind


# A real vocabulary.


@pytest.fixture(scope="module")
def tales_tokenizer(tales: Path) -> Tokenizer:
    return load_tokenizer(tales)


SPELLINGS = ("{}", " {}", "\n{}", '"{}', "({}")


def splits(
    banned: Bans, tokenizer: Tokenizer, data: bytes, by_bytes: dict[bytes, list[int]]
) -> Iterator[tuple[int, State]]:
    """How far each sequence of tokens comes in writing the bytes, and the state there."""
    seen, todo = set[tuple[int, State]](), [(0, begin(banned, tokenizer))]
    while todo:
        at, state = here = todo.pop()
        if here in seen:
            continue
        seen.add(here)
        yield here
        never = forbidden(banned, state)
        for end in range(at + 1, len(data) + 1):
            for id in by_bytes.get(data[at:end], []):
                if id not in never:
                    todo.append((end, banned.after(state, id)))


@pytest.mark.parametrize("word", ["king", "once upon", "Dorothy", "e", "don't", "naïve", "好"])
def test_no_split_of_a_banned_word_into_tokens_passes(
    tales_tokenizer: Tokenizer, word: str
) -> None:
    tokenizer = tales_tokenizer
    banned = bans(tokenizer, word)
    by_bytes: dict[bytes, list[int]] = {}
    for id in range(tokenizer.size):
        by_bytes.setdefault(tokenizer.token_bytes(id) or b"", []).append(id)
    for case, form in product((str, str.lower, str.upper, str.title), SPELLINGS):
        data = form.format(case(word)).encode()
        reached = list(splits(banned, tokenizer, data, by_bytes))
        assert max(at for at, _ in reached) < len(data)
        # Nor in a token that goes on behind the word, unless with a letter.
        for at, state in reached:
            never = forbidden(banned, state)
            for text, ids in by_bytes.items():
                if text.startswith(data[at:]) and not {*ids} <= never:
                    assert text[len(data[at:]) :].decode()[:1].isalnum()


def test_the_index_finds_what_reading_every_token_finds(tales_tokenizer: Tokenizer) -> None:
    """At each state that any tokens lead to."""
    banned = bans(tales_tokenizer, "king", "a king's", "!?", "the")
    start = begin(banned, tales_tokenizer, "a")
    seen, todo = {start}, [start]
    while todo:
        state = todo.pop()
        never = forbidden(banned, state)
        for id in range(tales_tokenizer.size):
            assert (id in never) == any(banned.completes(place, id) for place in state)
            after = banned.after(state, id)
            if id not in never and after not in seen and len(seen) < 10:
                seen.add(after)
                todo.append(after)


# How words are compared.


@pytest.mark.parametrize(
    ("word", "text", "hit"),
    [
        ("Straße", "die STRASSE.", True),
        ("bad word", "a bad\n word", True),
        ("bad word", "a bad-word", False),
        ("cat", "_cat_", True),
        ("cat", "cat9", False),
        ("cat", "cat's", True),
        ("cat", "使用cat写", True),
        ("कि", "किताब", False),
        ("坏蛋", "他是坏蛋吗", True),
        ("바보", "바보야", True),
        ("바보", "왕바보", False),
        ("กา", "การ", True),
        ("<b>", "a<b>c", True),
        ("C++", "(c++)", True),
    ],
)
def test_words_have_borders_where_their_script_has(word: str, text: str, hit: bool) -> None:
    assert (form_of(word) in closed(text, OTHER)) == hit


@pytest.mark.parametrize(
    ("prompt", "text", "never"),
    [
        ("My cat", " sat", False),  # the prompt's own word
        ("My ca", "t", True),  # begins in the prompt
        ("My con", "cat", True),  # the text alone begins with it
        ("My cat", "tle", False),
        ("My ", "cat", True),
    ],
)
def test_a_word_counts_in_the_text_alone_and_behind_its_prompt(
    tales_tokenizer: Tokenizer, prompt: str, text: str, never: bool
) -> None:
    banned = bans(tales_tokenizer, "cat")
    state, hit = begin(banned, tales_tokenizer, prompt), False
    for id in tales_tokenizer.encode(text):
        hit |= id in forbidden(banned, state)
        state = banned.after(state, id)
    assert hit == never


def test_a_prompt_of_ids_may_end_inside_a_character(tales_tokenizer: Tokenizer) -> None:
    banned = bans(tales_tokenizer, "é")
    singles = {tales_tokenizer.token_bytes(id): id for id in range(tales_tokenizer.size)}
    first, second = singles[b"\xc3"], singles[b"\xa9"]
    assert second in forbidden(banned, banned.begin([first], ""))
    assert second not in forbidden(banned, banned.begin([], ""))


def test_an_end_of_the_text_is_forbidden_only_if_it_is_a_word_of_it() -> None:
    raw = tokenizers.Tokenizer(models.BPE({"end": 0, "a": 1}, []))
    raw.decoder = decoders.ByteLevel()
    for words in (frozenset(), frozenset({0})):
        roles = TokenRoles(begin=0, end=0, ends=(0,), words=words)
        tokenizer = Tokenizer(raw, None, roles=roles)  # none is special
        banned = bans(tokenizer, "end")
        assert forbidden(banned, begin(banned, tokenizer)) == words


# In engines.

COMMON = ("the", "and", "a", "of", "to", "he", "she", "was", "in", "it", "that", "said", "I")


def found_in(texts: Sequence[str], words: Sequence[str]) -> list[str]:
    return [word for word in words for text in texts if pattern(word).search(text)]


def test_text_at_random_has_no_banned_word(tales: Path) -> None:
    engine = built_in(tales, 8)
    options = {"temperature": 2.0, "top_k": 0, "top_p": 1.0, "max_new_tokens": 100, "seed": 1}
    prompts = ["Once upon a time", "The k"]
    free = completions(engine, requests(prompts, Sampling(**options)))
    assert found_in([c.text for c in free], COMMON)
    held = Sampling(num_return_sequences=8, bad_words=COMMON, **options)
    done = completions(engine, requests(prompts, held))
    assert sum(len(c.tokens) for c in done) > 1000
    assert found_in([c.text for c in done], COMMON) == []
    # Neighbours change nothing, nor do drafts.
    alone = Sampling(bad_words=COMMON, **options)
    (one,) = completions(built_in(tales, 1), requests(prompts[:1], alone))
    assert one.text == done[0].text


@pytest.fixture(scope="module", params=[built_in, through_transformers], ids=["gpt2", "auto"])
def engine(request: pytest.FixtureRequest, tales: Path) -> Engine:
    return request.param(tales)


def test_every_engine_bans(engine: Engine) -> None:
    words = ("king", "the", "was", "a")
    options = {"greedy": True, "max_new_tokens": 24}
    (free,) = completions(engine, requests(["The king"], Sampling(**options)))
    (held,) = completions(engine, requests(["The king"], Sampling(bad_words=words, **options)))
    assert found_in([free.text], words)
    assert found_in([held.text], words) == []
    assert len(held.tokens) == 24


def test_a_text_with_bans_is_the_same_with_and_without_drafts(tales: Path) -> None:
    options = {"max_new_tokens": 60, "bad_words": ("she", "the king")}
    asked = [
        *requests(["The king and the king and the king"], Sampling(greedy=True, **options)),
        *requests(["He said, he said, he said,"], Sampling(seed=3, **options)),
    ]
    drafts, none = (
        open_engine(Load(model=str(tales), draft=draft), 1) for draft in ("ngram", "off")
    )
    for request in asked:
        assert one_of(drafts, request).tokens == one_of(none, request).tokens


def one_of(engine: Engine, request: Request) -> Completion:
    (found,) = completions(engine, [request])
    return found


def test_beams_ban(tales: Path) -> None:
    words = ("king", "the", "was", "a", "of")
    engine = through_transformers(tales)
    options = {"num_beams": 3, "num_return_sequences": 2, "max_new_tokens": 16}
    done = completions(engine, requests(["The king"], Sampling(bad_words=words, **options)))
    assert [len(c.tokens) for c in done] == [16, 16]
    assert found_in([c.text for c in done], words) == []


@pytest.mark.parametrize(
    ("opened", "beams"),
    [(built_in, 1), (through_transformers, 1), (through_transformers, 2)],
    ids=["gpt2", "auto", "beams"],
)
def test_where_every_token_is_banned_the_text_ends_and_says_so(
    make_tiny, opened: Callable[[Path], Engine], beams: int
) -> None:
    moves = ("e2e4", "e7e5", "g1f3", "b8c6")
    folder = make_tiny(vocab_size=4, bos_token_id=None, eos_token_id=None)
    raw = tokenizers.Tokenizer(models.WordLevel({move: id for id, move in enumerate(moves)}))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    raw.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").unlink()
    engine = opened(folder)
    pairs = tuple(f"{first} {second}" for first in moves[1:] for second in moves)
    for words, length in ((moves, 0), ((*pairs, moves[0]), 1)):
        sampling = Sampling(num_beams=beams, seed=1, max_new_tokens=5, bad_words=words)
        (done,) = completions(engine, requests(["e2e4"], sampling))
        assert (done.error, done.finish_reason, len(done.tokens)) == (None, "stop", length)
        assert [notice for notice in done.notices if "--bad-words" in notice]
