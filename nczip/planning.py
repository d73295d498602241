"""What to try for a block, and which of it to keep: the encoder's whole choice, made once.

`analyse` asks everything that the choice depends on, `candidates` names the ways of
keeping the block that can win, and `smallest` builds them and keeps the smallest.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import zstandard

from nczip.blocks import Apart, BlockKind, build_payload
from nczip.formats.runs import Run, RunKind
from nczip.formats.transforms.linebreaks import take_out
from nczip.formats.transforms.newlines import to_lf
from nczip.predictors.codec import CodecSettings
from nczip.segment import is_mostly_text, segment

# zstd within a thousandth of the raw size cannot be beaten by much, and is a thousand times faster.
_REDUNDANT = 1000
_TINY = 256  # bytes up to which zstd may win

# A break taken out of the text spares more than so many bits there...
_SPARED_BITS = 3
# ...where nearly all of them are taken out; so they must cost little, and be many of all lines.
_MOST_BITS = 1.2
_LEAST_SHARE = 0.2
# Prose, not a list or a log: lines of so many words, most of which go on in lower case.
_LEAST_WORDS = 6
_LEAST_LOWER = 0.5
_WIDTHS = range(40, 100)
_SAMPLE = 1 << 17  # bytes


@dataclass(frozen=True)
class Analysis:
    """What the encoder knows of a block before it codes it."""

    raw: bytes
    text: bytes  #: the block without what is kept apart; ``raw`` itself where nothing is
    apart: Apart
    plain_runs: Sequence[Run]  #: of ``text``, which counts as binary throughout
    text_runs: Sequence[Run]  #: of ``text``, with text told apart
    mostly_text: bool
    redundant: bool  #: so much that zstd serves

    @property
    def has_text(self) -> bool:
        return any(run.kind == RunKind.TEXT for run in self.text_runs)

    @property
    def is_noise(self) -> bool:
        """Whether nothing is worth coding."""
        return all(run.kind == RunKind.STORED for run in self.plain_runs)


def analyse(raw: bytes) -> Analysis:
    """Look at a block."""
    text, apart = raw, Apart()
    segments = segment(raw)
    mostly_text = is_mostly_text(raw, segments.with_text)
    if mostly_text:
        text, line_ends = to_lf(raw)
        width, breaks = find_width(text), b""
        if width:
            text, breaks = take_out(text, width)
        apart = Apart(line_ends, width, breaks)
    if apart != Apart():
        segments = segment(text)
    redundant = len(zstandard.compress(text, 3)) * _REDUNDANT < len(text)
    return Analysis(raw, text, apart, segments.plain, segments.with_text, mostly_text, redundant)


def find_width(text: bytes) -> int:
    """The width at which it pays to take breaks out of a text; 0 for none."""
    start = max(len(text) - _SAMPLE, 0) // 2
    sample = text[start : start + _SAMPLE]
    lines = sample.count(b"\n")
    best, found, joined = 0.0, 0, sample
    for width in _WIDTHS if lines > 1 else ():
        unbroken, breaks = take_out(sample, width)
        taken, bits = lines - unbroken.count(b"\n"), 8 * len(breaks)
        gain = _SPARED_BITS * taken - bits
        if gain > best and bits <= _MOST_BITS * taken and taken >= _LEAST_SHARE * lines:
            best, found, joined = gain, width, unbroken
    return found if found and _is_prose(sample, joined) else 0


def _is_prose(broken: bytes, unbroken: bytes) -> bool:
    """Whether lines that have been joined look like those of sentences."""
    before, after = (np.frombuffer(text, np.uint8) for text in (broken, unbroken))
    first = after[np.flatnonzero(before != after) + 1]
    lower = np.count_nonzero((first >= ord("a")) & (first <= ord("z")))
    words = np.count_nonzero(after == ord(" "))
    return bool(lower >= _LEAST_LOWER * len(first) and words >= _LEAST_WORDS * len(first))


@dataclass(frozen=True)
class Needs:
    """What a block cannot be decoded without."""

    model: bool = False
    primer: bool = False

    def __or__(self, other: "Needs") -> "Needs":
        return Needs(self.model or other.model, self.primer or other.primer)


@dataclass(frozen=True)
class Candidate:
    """One way of keeping a block."""

    kind: BlockKind
    text: bytes
    apart: Apart = field(default_factory=Apart)
    runs: Sequence[Run] = ()

    @property
    def needs(self) -> Needs:
        model = any(run.kind == RunKind.TEXT for run in self.runs)
        return Needs(model, primer=self.kind == BlockKind.PRIMED)


def candidates(block: Analysis, available: Needs, insist: bool) -> list[Candidate]:
    """The ways of keeping a block that can win; costly ones only where they can.

    Args:
        block: what is known of it.
        available: whether there are a model and a primer.
        insist: on the model for text, even where it costs bits; else the ensemble alone is tried
            as well, which takes a twentieth of the time.
    """
    text, apart = block.text, block.apart
    ways = [Candidate(BlockKind.STORED, block.raw)]
    if apart != Apart():
        ways.append(Candidate(BlockKind.STORED, text, apart))
    if block.redundant:
        return [*ways, Candidate(BlockKind.ZSTD, text, apart)]
    if block.is_noise:
        return ways
    if len(text) <= _TINY:
        ways.append(Candidate(BlockKind.ZSTD, text, apart))
    kind = BlockKind.BINARY
    if block.mostly_text:
        kind = BlockKind.PRIMED if available.primer else BlockKind.MODELLED
    with_model = available.model and block.has_text
    if not (with_model and insist):
        ways.append(Candidate(kind, text, apart, block.plain_runs))
    if with_model:
        ways.append(Candidate(kind, text, apart, block.text_runs))
    return ways


def needs_of(ways: Sequence[Candidate]) -> Needs:
    """What building these candidates takes."""
    needs = Needs()
    for way in ways:
        needs |= way.needs
    return needs


@dataclass(frozen=True)
class Choice:
    """A way of keeping a block that was carried out."""

    candidate: Candidate
    payload: bytes

    @property
    def needs(self) -> Needs:
        return self.candidate.needs


def smallest(
    ways: Sequence[Candidate],
    settings: CodecSettings,
    overhead: Callable[[Needs], int] = lambda needs: 0,
) -> Choice:
    """Carry the candidates out, by zstd where one is not possible; the smallest payload.

    Args:
        ways: the candidates; one of them is stored or by zstd.
        settings: how modelled ones are coded; all that they need is there.
        overhead: bytes that it costs to need something.
    """
    choices = []
    for way in ways:
        payload = build_payload(way.kind, way.text, way.apart, way.runs, settings)
        if payload is None:  # it gains nothing, or so much that the format leaves it to zstd
            way = Candidate(BlockKind.ZSTD, way.text, way.apart)  # noqa: PLW2901
            payload = build_payload(way.kind, way.text, way.apart, (), settings)
        if payload is not None:
            choices.append(Choice(way, payload))
    return min(choices, key=lambda choice: len(choice.payload) + overhead(choice.needs))
