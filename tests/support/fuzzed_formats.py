"""The readers of Keras' and Flax' files, with files whose bytes are nearly right."""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

from hypothesis import strategies as st

from gptcli.checkpoints.formats.locked.readers import flax_msgpack, keras_hub, tf_h5
from gptcli.checkpoints.formats.locked.source import Job, Refused
from gptcli.errors import BadModel
from support.foreign_files import (
    JSON,
    KERAS,
    checked,
    keras_variables,
    random_tensors,
    write_flax,
    write_h5,
    write_tf,
)
from support.fuzzed_readers import Reader
from support.fuzzing import json_files


@cache
def good(name: str) -> bytes:
    """A whole file of this name."""
    tensors = random_tensors()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        if name.endswith(".msgpack"):
            write_flax(path, tensors)
        elif name == "tf_model.h5":
            write_tf(path, tensors, compression="gzip", shuffle=True, chunks=True)
        else:
            write_h5(path, keras_variables(tensors))
        return path.read_bytes()


def archive(config: bytes) -> bytes:
    """A .keras file with this config.json."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("config.json", config)
        made.writestr("model.weights.h5", good("model.weights.h5"))
    return file.getvalue()


@st.composite
def spoilt(draw: st.DrawFn, whole: Callable[[], bytes]) -> bytes:
    """A file with some bytes changed, most near its beginning, where its structure is."""
    data = bytearray(whole())
    end = len(data) - 1
    places = st.one_of(st.integers(0, min(end, 4000)), st.integers(0, end))
    numbers = st.integers(0, len(data) + 9).map(lambda number: number.to_bytes(8, "little"))
    pieces = st.one_of(
        st.binary(min_size=1, max_size=8),
        st.sampled_from([bytes(1), bytes(8), b"\xff", b"\xff" * 4, b"\xff" * 8, b"\x7f"]),
        numbers,
    )
    for at, piece in draw(st.lists(st.tuples(places, pieces), max_size=6)):
        data[at : at + len(piece)] = piece
    if draw(st.sampled_from([False] * 9 + [True])):
        del data[draw(st.integers(0, end)) :]
    return bytes(data)


def _read(reader: Callable[[Job], object], path: Path, data: bytes) -> None:
    path.write_bytes(data)
    try:
        source = reader(Job(folder=path.parent, files=(path,)))
        checked(source, {}, JSON)  # type: ignore[arg-type]
    except Refused as refused:
        raise BadModel("unsafe model file", str(refused), "Choose another model") from None


def read_tf(folder: Path, data: bytes) -> None:
    """tf_model.h5, and all its values."""
    _read(tf_h5.read, folder / "tf_model.h5", data)


def read_flax(folder: Path, data: bytes) -> None:
    """flax_model.msgpack, and all its values."""
    _read(flax_msgpack.read, folder / "flax_model.msgpack", data)


def read_keras(folder: Path, data: bytes) -> None:
    """A .keras file, and all its values."""
    _read(keras_hub.read, folder / "model.keras", data)


CONFIGS = json_files(st.just(KERAS))
READERS = [
    Reader("TensorFlow's weights", spoilt(lambda: good("tf_model.h5")), read_tf),
    Reader("Flax' weights", spoilt(lambda: good("flax_model.msgpack")), read_flax),
    Reader("Keras' archives", spoilt(lambda: archive(json.dumps(KERAS).encode())), read_keras),
    Reader("Keras' configurations", CONFIGS.map(archive), read_keras),
]
