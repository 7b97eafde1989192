"""llama.cpp, through llama-cpp-python's bindings of its C interface.

The bindings' class `Llama` runs one sequence and copies all logits at each step, so the C calls are
used: one model, and rows in slots of one context, where a finished row leaves its slot to the next,
as in llama.cpp's own server. Our tokenizer encodes the prompts, so the tokens are the same. CPU
only: for a GPU the package has to be built by hand.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from gptcli.bench.peers.peer import PeerSetting, PeerWork
from gptcli.errors import Unavailable

FILE_NAME = "model.gguf"
COLD = """
import sys
from llama_cpp import Llama
folder, prompt, dtype, device, threads = sys.argv[1:]
model = Llama(
    folder + "/model.gguf", n_ctx=0, n_threads=int(threads), n_threads_batch=int(threads),
    verbose=False,
)
print(model(prompt, max_tokens=1, temperature=0)["choices"][0]["text"])
"""


@dataclass
class LlamaRow:
    """A prompt under way in a slot; `fresh` tokens have not been run yet."""

    place: int  # in the work
    fresh: list[int]
    left: int  # tokens still to write
    held: int = 0  # tokens in the KV cache
    written: list[int] = field(default_factory=list)


class LlamaCpp:
    """See `gptcli.bench.peers.peer.Peer`."""

    modules: ClassVar[tuple[str, ...]] = ("llama_cpp", "gguf")
    dtypes: ClassVar[tuple[str, ...]] = ("f32", "f16", "q8_0")
    devices: ClassVar[tuple[str, ...]] = ("cpu",)
    cold: ClassVar[str] = COLD

    def __init__(self, setting: PeerSetting) -> None:
        import llama_cpp
        from tokenizers import Tokenizer

        logging.getLogger("llama-cpp-python").setLevel(logging.ERROR)  # as its verbose=False
        self._c: Any = llama_cpp
        self._c.llama_backend_init()
        file = str(setting.folder / FILE_NAME).encode()
        self._model = self._c.llama_model_load_from_file(file, self._c.llama_model_default_params())
        if not self._model:
            raise Unavailable("llama.cpp", "it cannot load the converted model", "Leave it out")
        self._tokenizer: Any = Tokenizer.from_file(str(setting.folder / "tokenizer.json"))
        vocabulary = self._c.llama_model_get_vocab(self._model)
        self._size = self._c.llama_vocab_n_tokens(vocabulary)
        self._end = self._c.llama_vocab_eos(vocabulary)
        self._length = self._c.llama_model_n_ctx_train(self._model)
        self._threads, self._slots = setting.threads, setting.slots
        self._contexts: dict[int, Any] = {}  # by the number of slots

    @staticmethod
    def prepare(checkpoint: Path, folder: Path, dtype: str) -> None:
        """Write the GGUF file, and our tokenizer beside it. Raises BadModel, see `write_gguf`."""
        from gptcli.checkpoints.formats.writers.gguf_file import write_gguf
        from gptcli.checkpoints.tokenization.loading import load_tokenizer

        write_gguf(checkpoint, folder / FILE_NAME, dtype)
        load_tokenizer(checkpoint).raw.save(str(folder / "tokenizer.json"))

    def write(self, work: Sequence[PeerWork]) -> list[list[int]]:
        """See `gptcli.bench.peers.peer.Peer.write`; no row waits for a longer one."""
        slots = min(self._slots, len(work))
        context = self._context(slots)
        memory = self._c.llama_get_memory(context)
        self._c.llama_memory_clear(memory, True)
        waiting = deque(
            LlamaRow(place, self._tokenizer.encode(item.prompt).ids, item.new_tokens)
            for place, item in enumerate(work)
        )
        busy: dict[int, LlamaRow] = {}
        found: list[list[int]] = [[] for _ in work]
        while waiting or busy:
            free = sorted(set(range(slots)) - set(busy))
            begun = {slot: waiting.popleft() for slot in free if waiting}
            busy |= begun
            for rows in [*_of_one_length(begun), busy]:
                self._run(context, {slot: row for slot, row in rows.items() if row.left})
            for slot in [slot for slot, row in busy.items() if not row.left]:
                row = busy.pop(slot)
                found[row.place] = row.written
                self._c.llama_memory_seq_rm(memory, slot, -1, -1)
        return found

    def _context(self, slots: int) -> Any:
        """A context of that many slots, each as long as the model allows."""
        if slots not in self._contexts:
            settings = self._c.llama_context_default_params()
            settings.n_ctx = settings.n_batch = slots * self._length
            settings.n_seq_max = slots
            settings.n_threads = settings.n_threads_batch = self._threads
            settings.no_perf = True
            context = self._c.llama_init_from_model(self._model, settings)
            if not context:
                raise Unavailable("llama.cpp", "no room for its KV cache", "Leave it out")
            self._contexts[slots] = context
        return self._contexts[slots]

    def _run(self, context: Any, busy: dict[int, LlamaRow]) -> None:
        """Run what is fresh of every row, by slot, and write a token to each."""
        import numpy

        if not busy:
            return
        batch = self._c.llama_batch_init(sum(len(row.fresh) for row in busy.values()), 0, 1)
        last = [self._add(batch, slot, row) for slot, row in busy.items()]
        fault = self._c.llama_decode(context, batch)
        self._c.llama_batch_free(batch)
        if fault:
            raise Unavailable("llama.cpp", f"its decoder gave {fault}", "Leave it out")
        for row, place in zip(busy.values(), last, strict=True):
            pointer = self._c.llama_get_logits_ith(context, place)
            logits = numpy.ctypeslib.as_array(pointer, shape=(self._size,))
            if self._end >= 0:
                logits[self._end] = -numpy.inf  # a text that ends early is no measure
            row.fresh = [int(logits.argmax())]
            row.written += row.fresh
            row.left -= 1

    def _add(self, batch: Any, slot: int, row: LlamaRow) -> int:
        """Put a row's fresh tokens into the batch; returns the place of the last."""
        for token in row.fresh:
            place = batch.n_tokens
            batch.token[place], batch.pos[place] = token, row.held
            batch.n_seq_id[place], batch.seq_id[place][0] = 1, slot
            batch.logits[place] = False
            batch.n_tokens += 1
            row.held += 1
        batch.logits[batch.n_tokens - 1] = True
        return int(batch.n_tokens) - 1


def _of_one_length(rows: dict[int, LlamaRow]) -> list[dict[int, LlamaRow]]:
    """Prompts that may run together: a batch of several lengths is split into equal pieces, which
    is slower than one prompt after the other."""
    found: dict[int, dict[int, LlamaRow]] = {}
    for slot, row in rows.items():
        found.setdefault(len(row.fresh), {})[slot] = row
    return list(found.values())
