"""What a user may choose, the same for keyword arguments and for the command line."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TypedDict, cast

from nczip.assets.models import ModelSearch
from nczip.predictors.transformer.offload import Offload
from nczip.presets import ENGINES, EngineName, Level, PresetName, preset_name

DEFAULT_MEMORY_LIMIT = 4 << 30

#: Told, in words, what a user should know.
Announce = Callable[[str], object]


class CompressKeywords(TypedDict, total=False):
    """Keyword arguments of :class:`nczip.Compressor` beside the preset: see CompressOptions."""

    model: str | None
    engine: EngineName | None
    lanes: int | None
    block_size: int | None
    threads: int
    primer: bool
    memory_limit: int | None
    gpu_layers: int | None
    devices: Sequence[int]
    announce: Announce | None
    detail: Announce | None


class DecompressKeywords(TypedDict, total=False):
    """Keyword arguments of :class:`nczip.Decompressor`: see DecompressOptions."""

    model: str | ModelSearch | None
    threads: int
    memory_limit: int | None
    max_output: int | None
    gpu_layers: int | None
    devices: Sequence[int]
    announce: Announce | None
    detail: Announce | None


@dataclass(frozen=True)
class CompressOptions:
    """How to compress; None where the preset decides.

    Raises:
        ValueError: a value that cannot be.
    """

    preset: PresetName | Level = "default"
    model: str | None = None  #: path or name of a GGUF model
    engine: EngineName | None = None  #: what evaluates it; None takes exact where it serves
    lanes: int | None = None  #: pieces of a block that the transformer evaluates side by side
    block_size: int | None = None  #: raw bytes
    threads: int = 1  #: blocks worked on at once; 0 for as many as there are cores
    primer: bool = True  #: whether text is coded with what the primer knows
    memory_limit: int | None = None  #: bytes that decoding a block may need
    gpu_layers: int | None = None  #: that llama.cpp evaluates on GPUs; None for all, 0 for none
    devices: Sequence[int] = ()  #: GPUs by number, each with the whole model, that share the blocks
    announce: Announce | None = None  #: told what takes long once, and what limits the file
    detail: Announce | None = None  #: told what evaluates the model

    def __post_init__(self) -> None:
        preset_name(self.preset)
        if self.engine not in (None, *ENGINES):
            raise ValueError(f"unknown engine '{self.engine}': choose from {', '.join(ENGINES)}")
        _check_threads(self.threads)
        self.offload  # noqa: B018 - raises

    @property
    def workers(self) -> int:
        return _workers(self.threads, self.devices)

    @property
    def offload(self) -> Offload:
        return Offload(self.gpu_layers, tuple(self.devices))

    def keywords(self) -> CompressKeywords:
        """All but the preset, as arguments of :class:`nczip.Compressor`."""
        names = [field.name for field in fields(CompressOptions) if field.name != "preset"]
        return cast(CompressKeywords, {name: getattr(self, name) for name in names})


@dataclass(frozen=True)
class DecompressOptions:
    """How to decompress.

    Raises:
        ValueError: a value that cannot be.
    """

    #: Path or name of the model, or how to look for it, where it is not in the store.
    model: str | ModelSearch | None = None
    threads: int = 1  #: blocks worked on at once; 0 for as many as there are cores
    memory_limit: int | None = None  #: bytes that decoding may need; None for 4 GiB
    max_output: int | None = None  #: raw bytes that may come out; None for any number
    gpu_layers: int | None = None  #: as for compressing, and the same as then
    devices: Sequence[int] = ()  #: GPUs that share the blocks
    announce: Announce | None = None  #: told what takes long once
    detail: Announce | None = None  #: told what evaluates the model

    def __post_init__(self) -> None:
        _check_threads(self.threads)
        self.offload  # noqa: B018 - raises

    @property
    def workers(self) -> int:
        return _workers(self.threads, self.devices)

    @property
    def offload(self) -> Offload:
        return Offload(self.gpu_layers, tuple(self.devices))

    @property
    def most_memory(self) -> int:
        return DEFAULT_MEMORY_LIMIT if self.memory_limit is None else self.memory_limit


def _workers(threads: int, devices: Sequence[int]) -> int:
    """Blocks worked on at once: at least one on each GPU that is named."""
    return max(threads, len(devices)) or os.cpu_count() or 1


def _check_threads(threads: int) -> None:
    if threads < 0:
        raise ValueError(f"{threads} threads cannot be: 0 takes as many as there are cores")
