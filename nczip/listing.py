"""``nczip l``: what files hold, read from their indexes without decoding."""

import io
import json
from dataclasses import asdict, dataclass

import click

from nczip.archive import find_members
from nczip.foreign import LONGEST, refuse_foreign
from nczip.formats.container import ENGINE_NAMES, ENGINE_NONE
from nczip.sources import open_source
from nczip.terminal import printable

_WIDE = 200  # columns where no terminal says otherwise


@dataclass(frozen=True)
class Entry:
    """One compressed file; a file of several members shows the first one's engine and model."""

    file: str
    members: int
    blocks: int
    raw_size: int
    compressed_size: int
    ratio: float  #: compressed / raw
    bits_per_byte: float
    engine: str
    model: str | None
    model_sha256: str | None
    model_source: str | None
    lanes: int
    primer: str | None  #: 8 hexadecimal digits
    block_size: int
    table_bits: int


def describe(name: str) -> Entry:
    """The entry of a file.

    Raises:
        FormatError, CorruptError, TruncatedError, OSError: as the file deserves.
    """
    with open_source(name, follow=True, any_kind=False, last_link=False) as source:
        refuse_foreign(source.peek(LONGEST))
        members = find_members(source)
        size = source.seek(0, io.SEEK_END)
    raw = sum(member.index.raw_size for member in members)
    headers = [member.header for member in members]
    model = next((header.model for header in headers if header.model), None)
    return Entry(
        file=name,
        members=len(members),
        blocks=sum(len(member.index.blocks) for member in members),
        raw_size=raw,
        compressed_size=size,
        ratio=_ratio(size, raw),
        bits_per_byte=8 * _ratio(size, raw),
        engine=ENGINE_NAMES[model.engine if model else ENGINE_NONE],
        model=model.name if model else None,
        model_sha256=model.fingerprint.hex() if model else None,
        model_source=(model.source or None) if model else None,
        lanes=model.lanes if model else max((h.byte_lanes for h in headers), default=0),
        primer=next((f"{header.primer:08x}" for header in headers if header.primer), None),
        block_size=max((header.block_size for header in headers), default=0),
        table_bits=max((header.table_bits for header in headers), default=0),
    )


def _ratio(compressed: int, raw: int) -> float:
    return compressed / raw if raw else 0.0


def _sizes(compressed: int, raw: int) -> tuple[str, str, str, str]:
    """Cells of both sizes, their ratio, and bits per byte."""
    ratio = _ratio(compressed, raw)
    return f"{compressed:,}", f"{raw:,}", f"{ratio:.1%}", f"{8 * ratio:.3f}"


def print_json(entries: list[Entry]) -> None:
    """A JSON array of entries on standard output."""
    click.echo(json.dumps([asdict(entry) for entry in entries], indent=2))


def print_table(entries: list[Entry]) -> None:
    """A table on standard output, with totals where there are several files."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE)
    for heading in ("compressed", "raw", "ratio", "bpb", "blocks", "lanes"):
        table.add_column(heading, justify="right")
    for heading in ("primer", "engine", "model", "file"):
        table.add_column(heading, no_wrap=True)
    for entry in entries:
        table.add_row(
            *_sizes(entry.compressed_size, entry.raw_size),
            str(entry.blocks),
            str(entry.lanes),
            entry.primer or "-",
            entry.engine,
            Text(printable(entry.model or "-")),
            Text(printable(entry.file)),
        )
    if len(entries) > 1:
        compressed, raw = sum(e.compressed_size for e in entries), sum(e.raw_size for e in entries)
        blocks = str(sum(entry.blocks for entry in entries))
        table.add_section()
        table.add_row(*_sizes(compressed, raw), blocks, *[""] * 4, f"total of {len(entries)}")
    console = Console()
    if not console.is_terminal:
        console.width = _WIDE
    console.print(table)
