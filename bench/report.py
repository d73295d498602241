"""Measurements as JSON, as Markdown and as a table in the terminal."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from nczip.bench.measure import Measurement

SCHEMA = "nczip-bench/1"


def to_json(results: Sequence[Measurement], machine: dict[str, Any], command: str) -> str:
    """The whole bench as JSON (schema: docs/bench.md)."""
    rows = [asdict(result) | {"bits_per_byte": result.bits_per_byte} for result in results]
    document = {"schema": SCHEMA, "command": command, "machine": machine, "measurements": rows}
    return json.dumps(document, indent=2)


def totals(results: Sequence[Measurement]) -> list[Measurement]:
    """One measurement for each compressor over all files that every one of them mastered."""
    failed = {result.file for result in results if result.error}
    names = dict.fromkeys(result.compressor for result in results)
    out = []
    for name in names:
        mine = [r for r in results if r.compressor == name and r.file not in failed]
        if mine:
            out.append(
                Measurement(
                    compressor=name,
                    file=f"{len(mine)} files",
                    raw_size=sum(r.raw_size for r in mine),
                    compressed_size=sum(r.compressed_size for r in mine),
                    compress_seconds=sum(r.compress_seconds for r in mine),
                    decompress_seconds=sum(r.decompress_seconds for r in mine),
                    compress_peak_bytes=max(r.compress_peak_bytes for r in mine),
                    decompress_peak_bytes=max(r.decompress_peak_bytes for r in mine),
                    repetitions=min(r.repetitions for r in mine),
                )
            )
    return out


_COLUMNS: tuple[tuple[str, Callable[[Measurement], str]], ...] = (
    ("bytes", lambda m: f"{m.compressed_size:,}"),
    ("bpb", lambda m: f"{m.bits_per_byte:.3f}"),
    ("c s", lambda m: f"{m.compress_seconds:.2f}"),
    ("c kB/s", lambda m: _speed(m.raw_size, m.compress_seconds)),
    ("d s", lambda m: f"{m.decompress_seconds:.2f}"),
    ("d kB/s", lambda m: _speed(m.raw_size, m.decompress_seconds)),
    ("c MiB", lambda m: f"{m.compress_peak_bytes >> 20}"),
    ("d MiB", lambda m: f"{m.decompress_peak_bytes >> 20}"),
)


def _speed(size: int, seconds: float) -> str:
    return f"{size / max(seconds, 1e-9) / 1000:,.1f}"


def _cells(result: Measurement) -> list[str]:
    if result.error:
        return [f"failed: {result.error}", *[""] * (len(_COLUMNS) - 1)]
    return [render(result) for _, render in _COLUMNS]


def to_markdown(results: Sequence[Measurement]) -> str:
    """A table for every file, and one of all files where there are several."""
    parts = []
    for label in dict.fromkeys(result.file for result in results):
        rows = [result for result in results if result.file == label]
        parts.append(f"### {label} ({rows[0].raw_size:,} bytes)\n\n" + _markdown_table(rows))
    if len(parts) > 1:
        rows = totals(results)
        if rows:
            parts.append(f"### All: {rows[0].file}\n\n" + _markdown_table(rows))
    return "\n\n".join(parts) + "\n"


def _markdown_table(rows: Sequence[Measurement]) -> str:
    lines = ["| compressor | " + " | ".join(title for title, _ in _COLUMNS) + " |"]
    lines.append("| --- |" + " --: |" * len(_COLUMNS))
    lines += [f"| {row.compressor} | " + " | ".join(_cells(row)) + " |" for row in rows]
    return "\n".join(lines)


def sizes_markdown(results: Sequence[Measurement]) -> str:
    """Bytes only: a row for every file, a column for every compressor."""
    names = list(dict.fromkeys(result.compressor for result in results))
    lines = ["| file | raw | " + " | ".join(names) + " |"]
    lines.append("| --- |" + " --: |" * (len(names) + 1))
    for label in dict.fromkeys(result.file for result in results):
        row = {result.compressor: result for result in results if result.file == label}
        cells = ["-" if row[name].error else f"{row[name].compressed_size:,}" for name in names]
        raw = next(iter(row.values())).raw_size
        lines.append(f"| {label} | {raw:,} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def print_table(results: Sequence[Measurement]) -> None:
    """On standard output, the smallest first in each file."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console.width = 140
    groups = list(dict.fromkeys(result.file for result in results))
    tables = [[r for r in results if r.file == label] for label in groups]
    if len(groups) > 1:
        tables.append(totals(results))
    for rows in tables:
        if not rows:
            continue
        table = Table(box=box.SIMPLE, title=f"{rows[0].file}: {rows[0].raw_size:,} bytes")
        table.add_column("compressor", no_wrap=True)
        for title, _ in _COLUMNS:
            table.add_column(title, justify="right")
        for row in sorted(rows, key=lambda r: (r.error is not None, r.compressed_size)):
            table.add_row(row.compressor, *_cells(row))
        console.print(table)
