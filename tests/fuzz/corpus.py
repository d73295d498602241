"""The corpus: one stream for each thing that may become of one."""

import re
from collections.abc import Iterator
from pathlib import Path

from .cases import read_any, run_case, target_of

FOLDER = Path(__file__).parent / "corpus"
_SEED = 7
_INPUTS = 6000
# Targets that make no streams, or make them of the mutations of the others.
_NOT_STREAMS = {"coder", "round trip", "model", "pieces", "seeks", "salvage"}
_MOST_BYTES = 300


def remake() -> int:
    """Write the corpus anew; returns how many streams it has."""
    FOLDER.mkdir(exist_ok=True)
    for path in FOLDER.glob("*.ncz"):
        path.unlink()
    kept = dict(_found())
    for name, data in kept.items():
        (FOLDER / f"{name}.ncz").write_bytes(data)
    return len(kept)


def _found() -> Iterator[tuple[str, bytes]]:
    seen = set()
    for number in range(_INPUTS):
        target = target_of(number)
        held: list[bytes] = []
        run_case(_SEED, number, held.append)
        if target in _NOT_STREAMS or len(held[0]) > _MOST_BYTES:
            continue
        name = outcome(read_any(held[0]))
        if name not in seen:
            seen.add(name)
            yield name, held[0]


def outcome(error: BaseException | None) -> str:
    """A name for what became of an input, the same for all of a kind."""
    if error is None:
        return "taken"
    words = re.sub(r"[^a-z]+", "-", re.sub(r"'[^']*'|[0-9a-f]{8,}|/\S+", "", str(error).lower()))
    return f"{type(error).__name__}-{words[:50].strip('-')}"
