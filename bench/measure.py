"""Sizes, speeds and peak memory of nczip's presets, each measured in a process of its own.

    python -m nczip.bench.measure --preset fast --lanes 1 FILE...
    python -m nczip.bench.measure --ablate FILE...

Every file is compressed, decompressed and compared. A file may be cut with ``FILE:BYTES``. The
table is Markdown.
"""

import json
import resource
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

import nczip


@dataclass(frozen=True)
class Measurement:
    """One file under one setting."""

    file: str
    preset: str
    lanes: int
    raw: int
    compressed: int
    compress_seconds: float
    decompress_seconds: float
    peak_mib: int  #: resident memory of the process, NumPy and Numba included

    @property
    def bits_per_byte(self) -> float:
        return 8 * self.compressed / self.raw


def measure(name: str, preset: str, lanes: int | None, disabled: int | None) -> Measurement:
    """Measure in this process; a small round trip first loads kernels and model."""
    data = _load(name)
    options: dict[str, Any] = {"preset": preset, "lanes": lanes, "disabled": disabled}
    nczip.decompress(nczip.compress(data[:9000], **options))
    start = time.perf_counter()
    compressed = nczip.compress(data, **options)
    middle = time.perf_counter()
    if nczip.decompress(compressed) != data:
        raise AssertionError(f"{name} does not come back")
    stop = time.perf_counter()
    return Measurement(
        file=Path(name.split(":", maxsplit=1)[0]).name,
        preset=preset,
        lanes=lanes or 0,
        raw=len(data),
        compressed=len(compressed),
        compress_seconds=middle - start,
        decompress_seconds=stop - middle,
        peak_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
    )


def _load(name: str) -> bytes:
    path, _, size = name.partition(":")
    data = Path(path).read_bytes()
    return data[: int(size)] if size else data


def _in_child(name: str, preset: str, lanes: int | None, disabled: int | None) -> Measurement:
    arguments = json.dumps([name, preset, lanes, disabled])
    run = subprocess.run(
        [sys.executable, "-m", "nczip.bench.measure", "--child", arguments],
        capture_output=True,
        check=False,
    )
    if run.returncode != 0:
        raise click.ClickException(run.stderr.decode())
    return Measurement(**json.loads(run.stdout))


def _print_speeds(files: tuple[str, ...], preset: str, lanes: int | None) -> None:
    click.echo("| file | lanes | bytes | bpb | c s | c kB/s | d s | d kB/s | MiB |")
    click.echo("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for name in files:
        m = _in_child(name, preset, lanes, None)
        speeds = [
            f"{s:.2f} | {m.raw / s / 1000:.1f}" for s in (m.compress_seconds, m.decompress_seconds)
        ]
        click.echo(
            f"| {m.file} | {m.lanes or 'preset'} | {m.compressed:,} | {m.bits_per_byte:.3f} | "
            f"{speeds[0]} | {speeds[1]} | {m.peak_mib} |"
        )


def _print_ablation(files: tuple[str, ...], preset: str) -> None:
    from nczip.predictors.ensemble import SKIP, SWITCHES

    rows = {"(all)": SKIP, **{name: SKIP | bit for name, bit in SWITCHES.items() if bit != SKIP}}
    click.echo("| without | " + " | ".join(Path(f.split(":")[0]).name for f in files) + " |")
    click.echo("| --- " * (len(files) + 1) + "|")
    whole: list[int] = []
    for row, disabled in rows.items():
        sizes = [_in_child(name, preset, None, disabled).compressed for name in files]
        whole = whole or sizes
        cells = (f"{s:,} ({s / w - 1:+.1%})" for s, w in zip(sizes, whole, strict=True))
        click.echo(f"| {row} | " + " | ".join(cells) + " |")


@click.command()
@click.argument("files", nargs=-1)
@click.option("--preset", default="fast", show_default=True)
@click.option("--lanes", type=int)
@click.option("--ablate", is_flag=True, help="What each predictor is worth.")
@click.option("--child", hidden=True)
def main(
    files: tuple[str, ...], preset: str, lanes: int | None, ablate: bool, child: str | None
) -> None:
    """Measure nczip on FILES."""
    if child:
        click.echo(json.dumps(asdict(measure(*json.loads(child)))))
    elif ablate:
        _print_ablation(files, preset)
    else:
        _print_speeds(files, preset, lanes)


if __name__ == "__main__":
    main()
