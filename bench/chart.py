"""Charts: speed against bits per byte, and bits per byte along a file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nczip.bench.measure import BenchError, Measurement
from nczip.bench.report import totals

Point = tuple[float, float, str]


def pareto_front(points: Sequence[Point]) -> list[Point]:
    """The (speed, bpb, name) that no other beats in both, slowest first."""
    front: list[Point] = []
    for point in sorted(points, key=lambda p: (-p[0], p[1])):
        if not front or point[1] < front[-1][1]:
            front.append(point)
    return front[::-1]


def _pyplot() -> Any:
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise BenchError("charts need matplotlib: pip install 'nczip[bench]'") from error
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def _save(figure: Any, prefix: Path) -> list[Path]:
    paths = [prefix.with_name(prefix.name + suffix) for suffix in (".png", ".svg")]
    for path in paths:
        figure.savefig(path, dpi=160, bbox_inches="tight")
    return paths


def draw_speeds(results: Sequence[Measurement], prefix: Path) -> list[Path]:
    """Write PREFIX.png and PREFIX.svg: compression and decompression speed against bpb.

    Raises:
        BenchError: there is nothing to draw, or no matplotlib.
    """
    rows = totals(results)
    if not rows:
        raise BenchError("no file was mastered by all compressors: nothing to draw")
    plt = _pyplot()
    figure, panels = plt.subplots(1, 2, figsize=(11, 5), sharey=True)
    directions = {
        "compression": [row.compress_seconds for row in rows],
        "decompression": [row.decompress_seconds for row in rows],
    }
    for panel, (title, seconds) in zip(panels, directions.items(), strict=True):
        points = [
            (row.raw_size / max(s, 1e-9) / 1000, row.bits_per_byte, row.compressor)
            for row, s in zip(rows, seconds, strict=True)
        ]
        _draw_panel(panel, points)
        panel.set_xlabel(f"{title}, kB/s (log)")
    panels[0].set_ylabel("bits per byte (less is better)")
    figure.suptitle(f"{rows[0].file}, {rows[0].raw_size:,} bytes: speed against size")
    paths = _save(figure, prefix)
    plt.close(figure)
    return paths


def _draw_panel(panel: Any, points: Sequence[Point]) -> None:
    front = pareto_front(points)
    best = {name for _, _, name in front}
    panel.set_xscale("log")
    panel.grid(True, which="both", alpha=0.25)
    panel.plot([p[0] for p in front], [p[1] for p in front], "-", color="tab:green", alpha=0.6,
               label="Pareto front")  # fmt: skip
    for number, (speed, bpb, name) in enumerate(sorted(points)):
        ours = name.startswith("nczip")
        panel.plot(speed, bpb, "o" if ours else "s", color="tab:red" if ours else "tab:blue",
                   alpha=1.0 if name in best else 0.5)  # fmt: skip
        above = number % 2 == 0
        panel.annotate(name, (speed, bpb), xytext=(4, 6 if above else -12), fontsize=8,
                       textcoords="offset points", fontweight="bold" if ours else None)  # fmt: skip
    panel.margins(0.18, 0.12)
    panel.legend(loc="upper left", fontsize=8)


def draw_curves(curves: dict[str, list[tuple[int, float]]], prefix: Path) -> list[Path]:
    """Write PREFIX.png and PREFIX.svg: bits per byte of each stretch, by where it ends."""
    plt = _pyplot()
    figure, panel = plt.subplots(figsize=(7, 5))
    for name, curve in curves.items():
        panel.plot([at for at, _ in curve], [bpb for _, bpb in curve], "o-", label=name, ms=4)
    panel.set_xscale("log")
    panel.grid(True, which="both", alpha=0.25)
    panel.set_xlabel("position in the file, bytes (log)")
    panel.set_ylabel("bits per byte up to there, from the point before")
    panel.legend(fontsize=8)
    paths = _save(figure, prefix)
    plt.close(figure)
    return paths
