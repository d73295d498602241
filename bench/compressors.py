"""What is measured: every compressor in one table.

A new peer is an entry: how it is called to compress and to decompress. Commands name ``{input}``,
``{output}`` and ``{folder}`` (an empty one, for archivers). Where ``{input}`` is missing the
program reads standard input, where ``{output}`` and ``{folder}`` are, it writes to standard output.
``{checkout}`` is the folder that a variable of the environment names, and ``{model}`` the GGUF that
all compressors under a language model of the user's choice share: that of ``NCZIP_BENCH_MODEL``,
else the catalogue's smollm2. Without these the compressor is not available.
"""

import importlib.util
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from nczip.assets.models import find_model
from nczip.errors import ModelError

#: Seconds that one direction may take for a file.
DEFAULT_TIMEOUT = 3600.0

MODEL_VARIABLE = "NCZIP_BENCH_MODEL"


@dataclass(frozen=True)
class Compressor:
    """One compressor with one setting."""

    name: str
    compress: tuple[str, ...]
    decompress: tuple[str, ...]
    #: The program that must be on PATH, the Python module if ``in_python``, or the variable
    #: that names the ``{checkout}``.
    needs: str
    in_python: bool = False  #: run by nczip.bench.worker, which warms up and times only the work

    @property
    def missing(self) -> str | None:
        """What it lacks here, if it lacks something."""
        words = " ".join(self.compress)
        if "{model}" in words and _model() is None:
            return f"{MODEL_VARIABLE} or 'nczip models pull smollm2'"
        if self.in_python:
            is_here = importlib.util.find_spec(self.needs) is not None
        elif "{checkout}" in words:
            is_here = Path(os.environ.get(self.needs) or "/nowhere").is_dir()
        else:
            is_here = shutil.which(self.needs) is not None
        return None if is_here else self.needs

    @property
    def places(self) -> dict[str, str]:
        """What ``{checkout}`` and ``{model}`` stand for."""
        return {"checkout": os.environ.get(self.needs, ""), "model": str(_model())}


def _model() -> Path | None:
    """The GGUF that is compared."""
    try:
        return find_model(os.environ.get(MODEL_VARIABLE) or "smollm2").absolute()
    except ModelError:
        return None


def _library(name: str, module: str, method: str) -> Compressor:
    """A compressor that is a function of a Python library (see worker.py)."""
    # -P: the current folder is not where modules come from.
    worker = (sys.executable, "-P", "-m", "nczip.bench.worker", method)
    arguments = ("{input}", "{output}")
    return Compressor(
        name, (*worker, "c", *arguments), (*worker, "d", *arguments), module, in_python=True
    )


def _checkout(name: str, variable: str, start: str, compress: str, decompress: str) -> Compressor:
    """A Python program that is not installed; it runs under this Python, with its packages."""
    python = (sys.executable, *start.split())
    return Compressor(
        name, (*python, *compress.split()), (*python, *decompress.split()), needs=variable
    )


def _program(name: str, compress: str, decompress: str) -> Compressor:
    """A compressor that is a program on PATH; the commands are split at spaces."""
    words = tuple(compress.split())
    return Compressor(name, words, tuple(decompress.split()), needs=words[0])


COMPRESSORS: tuple[Compressor, ...] = (
    _library("nczip fast", "nczip", "nczip:preset=fast"),
    _library("nczip fast, no primer", "nczip", "nczip:preset=fast,primer=no"),
    _library("nczip default", "nczip", "nczip:preset=default"),
    _library("nczip max", "nczip", "nczip:preset=max"),
    _library("nczip --model", "nczip", "nczip:preset=smollm2,model={model}"),
    _library("gzip -9", "gzip", "gzip"),
    _library("bz2 -9", "bz2", "bz2"),
    _library("lzma -9e", "lzma", "lzma"),
    _library("zstandard 22", "zstandard", "zstandard"),
    _library("brotli 11", "brotli", "brotli"),
    _program("xz -9e", "xz -9e -k -c -T1 {input}", "xz -d -c {input}"),
    _program(
        "zstd -22", "zstd -q --ultra -22 --long=27 -c {input}", "zstd -q -d --long=27 -c {input}"
    ),
    _program("brotli -11", "brotli -q 11 -w 24 -c {input}", "brotli -d -c {input}"),
    _program(
        "7z PPMd",
        "7z a -bd -y -m0=PPMd:o=16:mem=1g {output} {input}",
        "7z x -bd -y -so {input}",
    ),
    _program("zpaq -m5", "zpaq add {output} {input} -m5", "zpaq extract {input} -to {folder}/out"),
    _program("bzip3", "bzip3 -e -b 511 -c {input}", "bzip3 -d -c {input}"),
    _program("lrzip -z", "lrzip -q -z -o {output} {input}", "lrzip -q -d -o {output} {input}"),
    _program("paq8px -8", "paq8px -8 {input} {output}", "paq8px -d {input} {output}"),
    _program("cmix", "cmix -c {input} {output}", "cmix -d {input} {output}"),
    _program("Midicoth", "mdc compress {input} {output}", "mdc decompress {input} {output}"),
    _program(
        "StateSMix",
        "ssm_best_version2 c {input} {output}",
        "ssm_best_version2 d {input} {output}",
    ),
    _program("nncp", "nncp c {input} {output}", "nncp d {input} {output}"),
    _program("ts_zip", "ts_zip c {input} {output}", "ts_zip d {input} {output}"),
    _checkout(
        "Nacrith",
        "NCZIP_NACRITH",
        "-P -m nczip.bench.nacrith {checkout} {model}",
        "compress --workers 1 {input} {output}",
        "decompress --workers 1 {input} {output}",
    ),
    # A quarter of the window is kept when it is full, as in its author's figures.
    _checkout("llama-zip", "NCZIP_LLAMA_ZIP", "{checkout}/llama_zip.py {model} -w 25%", "-c", "-d"),
)


def choose(names: tuple[str, ...]) -> list[Compressor]:
    """The compressors of these names, or all that are available here.

    Raises:
        ValueError: a name is unknown, or the compressor is not here.
    """
    if not names:
        return [compressor for compressor in COMPRESSORS if compressor.missing is None]
    known = {compressor.name: compressor for compressor in COMPRESSORS}
    for name in names:
        if name not in known:
            raise ValueError(f"no compressor '{name}': there are {', '.join(known)}")
        missing = known[name].missing
        if missing is not None:
            raise ValueError(f"{name} is not here, for it needs {missing}")
    return [known[name] for name in names]
