"""Measures compressors on files, each run in a process of its own."""

import filecmp
import os
import platform
import signal
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nczip
from nczip.bench.compressors import DEFAULT_TIMEOUT, Compressor


class BenchError(nczip.NczipError):
    """A compressor failed, took too long, or did not give the file back."""


@dataclass(frozen=True)
class Run:
    """One process."""

    seconds: float
    peak_bytes: int  #: resident memory, as the operating system counts it


@dataclass
class Measurement:
    """One compressor on one file; seconds are medians over the repetitions."""

    compressor: str
    file: str
    raw_size: int
    compressed_size: int = 0
    compress_seconds: float = 0.0
    decompress_seconds: float = 0.0
    compress_peak_bytes: int = 0
    decompress_peak_bytes: int = 0
    repetitions: int = 0
    error: str | None = None  #: why there are no figures

    @property
    def bits_per_byte(self) -> float:
        return 8 * self.compressed_size / self.raw_size if self.raw_size else 0.0


@dataclass
class _Samples:
    size: int = 0
    compress: list[Run] = field(default_factory=list)
    decompress: list[Run] = field(default_factory=list)


def measure_all(
    compressors: list[Compressor],
    files: list[tuple[str, Path]],
    repetitions: int = 1,
    timeout: float = DEFAULT_TIMEOUT,
    report: Callable[[str], None] = lambda message: None,
) -> list[Measurement]:
    """Every compressor on every (label, path), round trips verified.

    The order of the compressors turns around with every repetition, so that a machine that warms
    up or slows down favours none. What fails is reported in its measurement, and not repeated.
    """
    results = []
    for label, path in files:
        samples = {compressor.name: _Samples() for compressor in compressors}
        errors: dict[str, str] = {}
        for repetition in range(repetitions):
            for compressor in compressors if repetition % 2 == 0 else reversed(compressors):
                if compressor.name in errors:
                    continue
                report(f"{compressor.name}: {label}")
                try:
                    _round_trip(compressor, path, timeout, samples[compressor.name])
                except BenchError as error:
                    errors[compressor.name] = str(error)
        size = path.stat().st_size
        for name, sample in samples.items():
            results.append(_summary(name, label, size, sample, errors.get(name)))
    return results


def _summary(name: str, label: str, size: int, sample: _Samples, error: str | None) -> Measurement:
    if error is not None:
        return Measurement(name, label, size, error=error)
    return Measurement(
        compressor=name,
        file=label,
        raw_size=size,
        compressed_size=sample.size,
        compress_seconds=statistics.median(run.seconds for run in sample.compress),
        decompress_seconds=statistics.median(run.seconds for run in sample.decompress),
        compress_peak_bytes=max(run.peak_bytes for run in sample.compress),
        decompress_peak_bytes=max(run.peak_bytes for run in sample.decompress),
        repetitions=len(sample.compress),
    )


def _round_trip(compressor: Compressor, path: Path, timeout: float, samples: _Samples) -> None:
    """Compress, decompress, compare, and note what it took."""
    with tempfile.TemporaryDirectory(prefix="nczip-bench-") as name:
        folder = Path(name)
        packed, out = folder / "packed", folder / "out"
        (folder / "work").mkdir()
        compress = _run(compressor, compressor.compress, path, packed, folder / "work", timeout)
        if not packed.exists():  # archivers add their own suffix
            packed = next(folder.glob("packed.*"), packed)
        if not packed.exists():
            raise BenchError("it wrote nothing")
        decompress = _run(compressor, compressor.decompress, packed, out, folder / "work", timeout)
        if not out.is_file():
            out = next((p for p in (folder / "work").rglob("*") if p.is_file()), out)
        if not out.is_file() or not filecmp.cmp(path, out, shallow=False):
            raise BenchError("the file does not come back")
        samples.size = packed.stat().st_size
        samples.compress.append(compress)
        samples.decompress.append(decompress)


def _run(
    compressor: Compressor,
    command: tuple[str, ...],
    source: Path,
    target: Path,
    folder: Path,
    timeout: float,
) -> Run:
    """One process to its end; the worker's own seconds count where there is one."""
    places = {"input": str(source), "output": str(target), "folder": str(folder)}
    words = [word.format(**places | compressor.places) for word in command]
    template = " ".join(command)
    given = Path(os.devnull) if "{input}" in template else source
    piped = "{output}" not in template and "{folder}" not in template
    log, said = folder.parent / "errors", folder.parent / "said"
    with (
        given.open("rb") as stdin,
        log.open("wb") as errors,
        (target if piped else said).open("wb") as stdout,
    ):
        start = time.perf_counter()
        process = subprocess.Popen(
            words, stdin=stdin, stdout=stdout, stderr=errors, start_new_session=True
        )
        killed = threading.Event()

        def kill() -> None:
            killed.set()
            os.killpg(process.pid, signal.SIGKILL)

        timer = threading.Timer(timeout, kill)
        timer.start()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        timer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
    if killed.is_set():
        raise BenchError(f"it took more than {timeout:.0f} s")
    if process.returncode != 0:
        last = log.read_text(errors="replace").strip().splitlines()[-1:] or ["it says nothing"]
        raise BenchError(f"exit code {process.returncode}: {last[0][:200]}")
    if compressor.in_python:
        seconds = float(said.read_text())
    unit = 1 if platform.system() == "Darwin" else 1024  # ru_maxrss: bytes there, KiB elsewhere
    return Run(seconds, usage.ru_maxrss * unit)


def describe_machine() -> dict[str, Any]:
    """What the figures were measured on."""
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text().splitlines()
        named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        model = named[0] if named else model
    memory = 0
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_bytes": memory,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "nczip": nczip.__version__,
    }
