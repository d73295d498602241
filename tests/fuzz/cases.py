"""One case: what is made from a seed and a number, and whether readers behave."""

import contextlib
import copy
import functools
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from unittest import mock

import numpy as np
from tests_support import english, noise, records

import nczip
from nczip.errors import NczipError
from nczip.formats.transforms.linebreaks import put_back, take_out
from nczip.headers import codec_settings
from nczip.predictors.codec import decode, encode
from nczip.predictors.transformer import gguf_file
from nczip.predictors.transformer.exact import ExactEngine

from . import readers, seeds
from .mutations import MUTATIONS, other_bytes, other_number
from .readers import WrongBytesError
from .structure import Member, Skippable, Stream, join, raw_of


@dataclass(frozen=True)
class Input:
    """What a case reads, and what it may find."""

    data: bytes
    raw: bytes  #: the content, if there is no error
    blocks: frozenset[bytes]  #: of which it was made
    members: frozenset[bytes]
    is_strict: bool  #: whether no member may be lost or doubled unseen

    def check(self, reading: readers.Reading) -> None:
        """Raise WrongBytesError where a reading has what was never compressed."""
        content, whole = reading.content, reading.error is None
        if self.is_strict:
            right = content == self.raw if whole else self.raw.startswith(content)
        else:
            # Damage may cut out whole members, and skippable frames swallow some: that is valid.
            right = content == self.raw or readers.is_made_of(
                content, set(self.members), whole=whole
            )
        if not right:
            raise WrongBytesError(f"{content!r:.200} instead of {self.raw!r:.200}")


def _input(stream: Stream, data: bytes | None = None) -> Input:
    members = [part for part in stream if isinstance(part, Member)]
    return Input(
        data=join(stream) if data is None else data,
        raw=raw_of(stream),
        blocks=frozenset(block.raw for member in members for block in member.blocks),
        members=frozenset(member.raw for member in members),
        is_strict=data is None
        and all(
            part.size in (None, len(part.data)) for part in stream if isinstance(part, Skippable)
        ),
    )


def _pick(rng: Random) -> Stream:
    """A stream to be changed; the cheap ones more often."""
    names = list(seeds.streams())
    cheap = [name for name in names if name not in _COSTLY]
    return copy.deepcopy(seeds.streams()[rng.choice(names if rng.random() < 0.5 else cheap)])


_COSTLY = {"exact", "mixed runs", "apart", "all kinds", "lanes", "primed", "exact, primed"}


def mutated(rng: Random, name: str) -> Input:
    """A stream changed in one way, or in two."""
    stream = _pick(rng)
    if name in ("runs", "breaks", "coded"):
        stream = copy.deepcopy(seeds.streams()[rng.choice(_MODELLED[name])])
    MUTATIONS[name](rng, stream)
    if rng.random() < 0.2:
        MUTATIONS[rng.choice(list(MUTATIONS))](rng, stream)
    return _input(stream)


_MODELLED = {
    "runs": ["mixed runs", "one block", "exact", "all kinds", "lanes", "primed"],
    "breaks": ["apart", "apart, not coded", "apart, not coded"],
    "coded": [
        *("one block", "mixed runs", "apart", "cheap blocks"),
        *("exact", "lanes", "primed", "exact, primed"),
    ],
}


def damaged(rng: Random) -> Input:
    """A stream with damage that its checks should find."""
    stream = _pick(rng)
    return _input(stream, other_bytes(rng, join(stream)))


def _any_input(rng: Random) -> Input:
    """Changed, damaged, or whole."""
    choice = rng.random()
    if choice < 0.2:
        return _input(_pick(rng))
    return damaged(rng) if choice < 0.5 else mutated(rng, rng.choice(list(MUTATIONS)))


def _raise(reading: readers.Reading) -> None:
    if reading.error is not None:
        raise reading.error


def _check_whole(made: Input) -> None:
    reading = readers.read_whole(made.data)
    made.check(reading)
    _raise(reading)


def _check_pieces(made: Input, rng: Random) -> None:
    reading, whole = readers.read_pieces(made.data, rng), readers.read_whole(made.data)
    made.check(reading)
    if not readers.same_error(reading.error, whole.error):
        raise WrongBytesError(f"in pieces {reading.error!r}, else {whole.error!r}")
    if reading.error is None and reading.content != whole.content:
        raise WrongBytesError("in pieces there is other content")
    _raise(reading)


def _check_seeks(made: Input, rng: Random) -> None:
    whole = readers.read_whole(made.data)
    is_whole = whole.error is None
    readers.read_seeking(made.data, rng, whole.content if is_whole else made.raw, is_whole)


def _check_salvage(made: Input) -> None:
    readers.read_salvaging(made.data, set(made.blocks))


def _code_anything(rng: Random) -> bytes:
    """Coded strings that no encoder made, straight into the range coder."""
    data = rng.randbytes(rng.choice([0, 1, 4, 5, 12])) + bytes(rng.choice([0, 0, 1, 3]))
    if rng.random() < 0.4:
        data = bytes([rng.choice([0, 255])]) * len(data)
    if rng.random() < 0.5:
        text, width = english(rng.randint(0, 80), rng.randint(1, 50)), rng.randrange(256)
        broken = put_back(text, width, data)
        unbroken, breaks = take_out(broken, width)
        if put_back(unbroken, width, breaks) != broken:
            raise WrongBytesError("breaks of lines do not come back")
        return data
    settings = codec_settings(seeds.plain_header(), None, None, 1)
    _, decoded = decode(data, 0, rng.randint(0, 12), settings)
    coded = encode(b"", decoded, settings)
    if coded is not None and decode(coded, 0, len(decoded), settings) != (b"", decoded):
        raise WrongBytesError("what was decoded cannot be coded")
    return data


def _round_trip(rng: Random) -> bytes:
    """Small inputs of every sort, compressed and back."""
    make = rng.choice([english, noise, lambda size, seed: records(size)])
    pieces = [make(rng.randint(0, 150), rng.randint(1, 99)) for _ in range(rng.randint(0, 3))]
    raw = b"".join(pieces)
    if rng.random() < 0.3:
        raw = raw.replace(b"\n", b"\r\n")
    packed = nczip.compress(
        raw,
        "fast",
        primer=rng.random() < 0.3,
        block_size=1024,
        lanes=rng.choice([1, 3]),
        memory_limit=4 << 20,
    )
    if nczip.decompress(packed) != raw:
        raise WrongBytesError("a round trip ends elsewhere")
    return raw


class _Recorder(gguf_file._Cursor):
    """Notes where a GGUF's numbers and strings lie."""

    def __init__(self, view: memoryview) -> None:
        super().__init__(view)
        _spans.append([])

    def take(self, count: int) -> memoryview:
        _spans[-1].append((self.at, count))
        return super().take(count)


_spans: list[list[tuple[int, int]]] = []


@functools.cache
def _gguf() -> tuple[bytes, list[tuple[int, int]]]:
    """A GGUF, and where in it its fields lie."""
    with mock.patch.object(gguf_file, "_Cursor", _Recorder):
        gguf_file.read_gguf(seeds.model_file())
    return seeds.model_file().read_bytes(), _spans.pop()


def hostile_model(rng: Random) -> bytes:
    """A GGUF with other fields, or other weights."""
    data, spans = _gguf()
    out = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        at, size = rng.choice(spans)
        if rng.random() < 0.15:
            at, size = 4 * rng.randrange(len(out) // 4), 4
            value = rng.choice([np.inf, np.nan, 1e38, -1e-40, 0.0])
            out[at : at + 4] = np.float32(value).tobytes()
        elif size in (1, 2, 4, 8):
            value = int.from_bytes(out[at : at + size], "little")
            changed = other_number(rng, value, (1 << 8 * size) - 1)
            out[at : at + size] = changed.to_bytes(size, "little")
        else:
            out[at : at + size] = other_bytes(rng, bytes(out[at : at + size]))
    return bytes(out[: rng.randrange(len(out))]) if rng.random() < 0.03 else bytes(out)


def _check_model(data: bytes) -> None:
    """Open it as a model and evaluate a token."""
    with tempfile.TemporaryDirectory(prefix="nczip-fuzz-") as folder:
        path = Path(folder) / "hostile.gguf"
        path.write_bytes(data)
        engine = ExactEngine(path)
        engine.tokenise(b"a line of text")
        session = engine.open_session(1, 16, 1)
        session.evaluate([0], [[engine.start_token]])
        session.close()


#: For each target, what makes the input and reads it; it is told of the input as soon as it is.
TARGETS: dict[str, Callable[[Random, "Note"], None]] = {}
Note = Callable[[bytes], object]


def _target(name: str, make: Callable[[Random], Input], check: Callable[..., None]) -> None:
    def run(rng: Random, note: Note) -> None:
        made = make(rng)
        note(made.data)
        arguments = (made, rng) if check in (_check_pieces, _check_seeks) else (made,)
        check(*arguments)

    TARGETS[name] = run


for _name in MUTATIONS:
    _target(_name, functools.partial(mutated, name=_name), _check_whole)
_target("damage", damaged, _check_whole)
_target("pieces", _any_input, _check_pieces)
_target("seeks", _any_input, _check_seeks)
_target("salvage", _any_input, _check_salvage)
TARGETS["coder"] = lambda rng, note: note(_code_anything(rng))  # type: ignore[assignment,return-value]
TARGETS["round trip"] = lambda rng, note: note(_round_trip(rng))  # type: ignore[assignment,return-value]


def _model(rng: Random, note: Note) -> None:
    data = hostile_model(rng)
    note(data)
    _check_model(data)


TARGETS["model"] = _model


def target_of(number: int) -> str:
    """What case ``number`` tries."""
    return list(TARGETS)[number % len(TARGETS)]


def run_case(seed: int, number: int, note: Note) -> NczipError | None:
    """Run case ``number`` of a seed.

    Returns:
        The error that refused the input; None where it was taken.

    Raises:
        WrongBytesError, MemoryError, any other: what must not be.
    """
    try:
        with seeds.small_scale():
            TARGETS[target_of(number)](Random(f"{seed} {number}"), note)
    except NczipError as error:
        return error
    return None


def read_any(data: bytes) -> NczipError | None:
    """A stream that was kept, through every reader; its error, if it has one."""
    with seeds.small_scale():
        return _read_any(data)


def _read_any(data: bytes) -> NczipError | None:
    whole = readers.read_whole(data)
    pieces = readers.read_pieces(data, Random(len(data)))
    if not readers.same_error(whole.error, pieces.error):
        raise WrongBytesError(f"in pieces {pieces.error!r}, else {whole.error!r}")
    with contextlib.suppress(NczipError):
        list(readers.Salvager(data, **readers.options()))
    return whole.error
