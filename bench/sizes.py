"""``nczip bench sizes``: what a change does to compressed sizes, in seconds.

One process encodes the heads of a set (sets.toml), nothing is decoded, and the result is a row of
experiments.jsonl, against which later ones are compared.
"""

import datetime
import json
import math
import subprocess
import time
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import nczip
from nczip.corpora.manifest import load_manifest
from nczip.corpora.store import read
from nczip.errors import NczipError
from nczip.presets import PresetName

_HERE = Path(__file__).resolve().parent  # in the checkout, not its link in nczip/
LOG = _HERE / "experiments.jsonl"
_IN_CHECKOUT = (_HERE.parent / ".git").exists()
#: Where the corpora lie beside a checkout; they are searched here before the usual places.
BESIDE = _HERE.parents[1] / "shared" / "corpora"


class SizesError(NczipError):
    """A set or a row to compare with does not exist."""


@dataclass(frozen=True)
class Head:
    """The first bytes of a file of a set."""

    path: str  #: corpus/name
    kind: str
    data: bytes


@dataclass(frozen=True)
class Row:
    """One run: a line of experiments.jsonl."""

    commit: str | None  #: None outside a checkout
    dirty: bool  #: whether the checkout had changes that are not in the commit
    date: str
    set: str
    preset: str
    options: dict[str, Any]  #: what was chosen beside the preset
    seconds: float  #: of process time, encoding only
    files: dict[str, tuple[int, int]]  #: raw and compressed bytes of each head
    note: str = field(default="")


def read_sets() -> dict[str, dict[str, Any]]:
    """sets.toml."""
    return tomllib.loads((Path(__file__).parent / "sets.toml").read_text())


def load_set(name: str) -> list[Head]:
    """The heads of a set, by kind.

    Raises:
        SizesError: there is no such set.
        CorpusError: a file of it is not here.
    """
    sets = read_sets()
    if name not in sets:
        raise SizesError(f"no set '{name}': there are {', '.join(sets)} (bench/sets.toml)")
    kinds = dict(sets[name])
    kinds.pop("what")
    cut = kinds.pop("cut", None)
    manifest = load_manifest()
    heads = []
    for kind, paths in kinds.items():
        for path in paths:
            file = manifest.file(path)
            if file is None:
                raise SizesError(f"the set '{name}' names {path}, which is in no corpus")
            heads.append(Head(path, kind, read(file, BESIDE)[:cut]))
    return heads


def run(
    name: str,
    heads: Sequence[Head],
    preset: PresetName,
    options: dict[str, Any],
    jobs: int = 1,
    note: str = "",
) -> Row:
    """Encode the heads of a set; kernels are compiled and models loaded before the clock runs."""

    def size(data: bytes) -> int:
        return len(nczip.compress(data, preset, **options))

    for warm_up in (b"A few words of text. " * 400, bytes(range(256)) * 4):
        size(warm_up)
    start = time.process_time()
    with ThreadPoolExecutor(jobs) as pool:
        sizes = list(pool.map(size, [head.data for head in heads]))
    seconds = time.process_time() - start
    commit, dirty = _commit()
    return Row(
        commit=commit,
        dirty=dirty,
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        set=name,
        preset=preset,
        options=options,
        seconds=round(seconds, 2),
        files={h.path: (len(h.data), n) for h, n in zip(heads, sizes, strict=True)},
        note=note,
    )


def default_log() -> Path:
    """bench/experiments.jsonl of the checkout that runs.

    Raises:
        SizesError: nczip runs from an installation.
    """
    if not _IN_CHECKOUT:
        raise SizesError("rows are kept in a checkout: run there, or name a file with --log")
    return LOG


def _commit() -> tuple[str | None, bool]:
    """The commit of the checkout that runs, and whether it has other changes than log entries."""
    if not _IN_CHECKOUT:
        return None, False

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(_HERE.parent), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        changes = git("status", "--porcelain", "--", ":/", f":!{LOG.parent.name}/{LOG.name}")
        return git("rev-parse", "--short=12", "HEAD"), bool(changes)
    except (OSError, subprocess.CalledProcessError):
        return None, False


def read_log(path: Path = LOG) -> list[Row]:
    """The rows so far, oldest first."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text().splitlines():
        values = json.loads(line)
        values["files"] = {name: (raw, size) for name, (raw, size) in values["files"].items()}
        rows.append(Row(**values))
    return rows


def append(row: Row, path: Path = LOG) -> int:
    """Write a row behind the others; returns its number, counted from 1."""
    with path.open("a") as log:
        log.write(json.dumps(asdict(row)) + "\n")
    return len(read_log(path))


def find_row(reference: str, rows: Sequence[Row], like: tuple[str, str, dict[str, Any]]) -> Row:
    """The row to compare with.

    Args:
        reference: ``last`` for the last of the same set, preset and options; the number of a row,
            counted from 1; or the beginning of a commit, of which the last row of the same set is
            meant.
        like: set, preset and options of the row that is compared.

    Raises:
        SizesError: there is none.
    """
    found: list[Row] = []
    if reference == "last":
        found = [row for row in rows if (row.set, row.preset, row.options) == like]
    elif reference.isdigit() and 1 <= int(reference) <= len(rows):
        found = [rows[int(reference) - 1]]
    elif reference:
        found = [r for r in rows if (r.commit or "").startswith(reference) and r.set == like[0]]
    if not found:
        raise SizesError(
            f"no row '{reference}' of the set '{like[0]}' among {len(rows)}: say 'last', the "
            "number of a row or the beginning of its commit"
        )
    return found[-1]


def shared(row: Row, other: Row) -> list[str]:
    """The files that both have encoded, cut alike."""
    return [
        name for name, (raw, _) in row.files.items() if other.files.get(name, (None,))[0] == raw
    ]


def ratio(row: Row, other: Row, names: Sequence[str]) -> float:
    """Geometric mean of the sizes of some files, relative to those of another row."""
    return _mean([row.files[name][1] / other.files[name][1] for name in names])


def bits_per_byte(row: Row, names: Sequence[str]) -> float:
    """Geometric mean over some files."""
    return _mean([8 * size / raw for raw, size in (row.files[name] for name in names)])


def _mean(values: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


def to_markdown(row: Row, kinds: dict[str, str], reference: Row | None) -> str:
    """A line for each file, each kind (geometric mean) and all.

    Args:
        kinds: the kind of each file of ``row``.
        reference: what to compare with; None for nothing.
    """
    both = [] if reference is None else shared(row, reference)

    def line(label: str, names: list[str]) -> str:
        raw, size = (sum(row.files[name][i] for name in names) for i in (0, 1))
        cells = [label, f"{raw:,}", f"{size:,}", f"{bits_per_byte(row, names):.4f}"]
        if reference is not None:
            compared = [name for name in names if name in both]
            change = ratio(row, reference, compared) - 1 if compared else None
            cells.append("" if change is None else f"{change:+.3%}")
        return "| " + " | ".join(cells) + " |"

    title = ["file", "raw", "bytes", "bpb"]
    if reference is not None:
        title.append(f"against {reference.commit}{' and changes' * reference.dirty}")
    lines = ["| " + " | ".join(title) + " |", "| --- |" + " --: |" * (len(title) - 1)]
    lines += [line(name, [name]) for name in row.files]
    for kind in dict.fromkeys(kinds.values()):
        lines.append(line(f"*{kind}*", [name for name in row.files if kinds[name] == kind]))
    lines.append(line("**all**", list(row.files)))
    return "\n".join(lines)
