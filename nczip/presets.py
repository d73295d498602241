"""From what a user chooses to what encoder and decoder agree on."""

import functools
import os
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from nczip.coder.errors import EngineError, LimitError, ModelError
from nczip.formats.container import (
    ENGINE_NAMES,
    ENGINE_NONE,
    FINGERPRINT_BYTES,
    MAX_BLOCK_SIZE,
    MAX_LANES,
    MIN_TABLE_BITS,
    Header,
    ModelId,
)
from nczip.models import BUILT_IN, find_by_fingerprint, find_model
from nczip.predictors.codec import CodecSettings, TransformerSettings, encode, engine_trie
from nczip.predictors.primer import TABLE_BITS as PRIMED_TABLE_BITS
from nczip.predictors.table import LINE_BYTES
from nczip.predictors.transformer.engine import Engine
from nczip.predictors.transformer.trie import Trie
from nczip.primer import identify, load_primer

_WINDOW = 512
#: Every part of the ensemble that can be switched off, and its bit in a mask.
PREDICTORS = MappingProxyType({"none": 0})
_LINES_PER_BYTE = 16  # of the n-gram table; more buys nothing, fewer costs bits
DEFAULT_MEMORY_LIMIT = 4 << 30

ENGINE_NUMBERS = {name: number for number, name in ENGINE_NAMES.items() if number != ENGINE_NONE}


@dataclass(frozen=True)
class Preset:
    """A named point between speed and ratio."""

    block_size: int
    table_bits: int
    lanes: int
    model: str | None


PRESETS = {
    "fast": Preset(block_size=8 << 20, table_bits=22, lanes=1, model=None),
    "default": Preset(block_size=4 << 20, table_bits=22, lanes=8, model=BUILT_IN),
    "max": Preset(block_size=32 << 20, table_bits=24, lanes=1, model=BUILT_IN),
}


@dataclass(frozen=True)
class LoadedModel:
    """An engine, its trie, and how to name it in a header."""

    engine: Engine
    trie: Trie
    name: str


@dataclass(frozen=True)
class Settings:
    """How to compress; made by :func:`choose`."""

    block_size: int
    table_bits: int
    lanes: int
    disabled: int
    primer: bool
    model: LoadedModel | None
    insist: bool  #: on the transformer for text, even where it costs bits


def choose(
    preset: str = "default",
    model: str | None = None,
    engine: str | None = None,
    lanes: int | None = None,
    block_size: int | None = None,
    disabled: int = 0,
    primer: bool = True,
    memory_limit: int | None = None,
) -> Settings:
    """The settings for a preset, with single values overridden.

    ``memory_limit`` bounds the bytes that decoding a block may need: the table shrinks to it.

    Raises:
        ValueError: an unknown preset or a value out of bounds.
        ModelError, EngineError: ``model`` is given and cannot be loaded.
    """
    if preset not in PRESETS:
        raise ValueError(f"unknown preset '{preset}': choose from {', '.join(PRESETS)}")
    base = PRESETS[preset]
    chosen = model if model is not None else base.model
    loaded = None if chosen is None else load_model(find_model(chosen), engine)
    settings = Settings(
        block_size=block_size if block_size is not None else base.block_size,
        table_bits=base.table_bits,
        lanes=lanes if lanes is not None else base.lanes,
        disabled=disabled,
        primer=primer,
        model=loaded,
        insist=model is not None or engine is not None,
    )
    if not 1 <= settings.lanes <= MAX_LANES:
        raise ValueError(f"lanes must be 1 to {MAX_LANES}")
    if not 1024 <= settings.block_size <= MAX_BLOCK_SIZE:
        raise ValueError(f"the block size must be 1024 to {MAX_BLOCK_SIZE} bytes")
    return settings if memory_limit is None else _fit_memory(settings, memory_limit)


def _fit_memory(settings: Settings, limit: int) -> Settings:
    """The same with the largest n-gram table, up to the preset's, that fits."""
    for bits in range(settings.table_bits, MIN_TABLE_BITS - 1, -1):
        if _decoding_memory(bits, settings.block_size, settings.primer) <= limit:
            return replace(settings, table_bits=bits)
    raise ValueError(
        f"{limit >> 20} MiB of memory are too little for blocks of {settings.block_size >> 10} KiB"
        + (" and the primer: raise --memory, or use --no-primer" if settings.primer else "")
    )


@functools.lru_cache(maxsize=4)
def load_model(path: Path, engine: str | None = None) -> LoadedModel:
    """A model under an engine; kept in memory, for loading takes long.

    Args:
        engine: ``exact`` or ``llama``; None takes ``exact`` where it can evaluate the model.

    Raises:
        ModelError, EngineError: the model or the engine does not serve.
        ValueError: no such engine.
    """
    if engine not in (None, *ENGINE_NUMBERS):
        raise ValueError(f"unknown engine '{engine}': choose from {', '.join(ENGINE_NUMBERS)}")
    loaded = _load_engine(path, engine)
    return LoadedModel(loaded, engine_trie(loaded), path.stem)


def _load_engine(path: Path, engine: str | None) -> Engine:
    from nczip.predictors.transformer.exact import ExactEngine
    from nczip.predictors.transformer.llama import LlamaEngine, is_available

    if engine == "llama":
        return LlamaEngine(path)
    try:
        return ExactEngine(path)
    except ModelError:
        if engine == "exact" or not is_available():
            raise
        return LlamaEngine(path)


def fit_tables(settings: Settings, size: int) -> Settings:
    """Settings for a stream of a single block of ``size`` bytes: no larger than it needs."""
    bits = max((size * _LINES_PER_BYTE - 1).bit_length(), MIN_TABLE_BITS)
    block_size = max(min(size, settings.block_size), 1)
    return replace(settings, table_bits=min(bits, settings.table_bits), block_size=block_size)


def build_header(settings: Settings, with_model: bool, with_primer: bool, workers: int) -> Header:
    """The header of a member; transformer and primer are named only where a block may use them."""
    model = None
    if settings.model is not None and with_model:
        engine = settings.model.engine
        probe = engine.probe(settings.lanes, _WINDOW, engine_threads(engine.name, workers))
        number = ENGINE_NUMBERS[engine.name]
        name = settings.model.name
        fingerprint = engine.fingerprint[:FINGERPRINT_BYTES]
        model = ModelId(number, fingerprint, name, settings.lanes, _WINDOW, probe)
    # Lanes of bytes cost context and buy nothing: only a user who asks for them gets them.
    byte_lanes = settings.lanes if settings.model is None else 1
    return Header(
        block_size=settings.block_size,
        table_bits=settings.table_bits,
        disabled=settings.disabled,
        byte_lanes=byte_lanes,
        primer=identify() if with_primer else 0,
        model=model,
    )


def codec_settings(header: Header, model: LoadedModel | None, workers: int) -> CodecSettings:
    """What the codec needs, from a header and the model it names.

    Raises:
        PrimerError: the primer that the header names is not here.
    """
    transformer = None
    if header.model is not None and model is not None:
        transformer = TransformerSettings(
            model.engine,
            model.trie,
            header.model.lanes,
            header.model.window,
            engine_threads(model.engine.name, workers),
        )
    plain = CodecSettings(header.table_bits, header.byte_lanes, transformer)
    if not header.primer:
        return plain
    # Coding a few bytes compiles or loads all kernels that this takes.
    text = b"" if transformer is None else b"a few words"
    tiny = replace(plain, table_bits=MIN_TABLE_BITS)
    meanwhile = functools.partial(encode, text, b"a few bytes", tiny)
    return replace(plain, primer=load_primer(header.primer, meanwhile))


def open_model(header: Header, hint: str | None, workers: int) -> LoadedModel | None:
    """The model that a header names, its fingerprint and probe checked.

    Raises:
        ModelError: the model is not here.
        EngineError: its engine is not here, or evaluates it differently on this machine.
    """
    wanted = header.model
    if wanted is None:
        return None
    path = find_by_fingerprint(wanted.fingerprint, wanted.name, hint)
    model = load_model(path, ENGINE_NAMES[wanted.engine])
    threads = engine_threads(model.engine.name, workers)
    probe = model.engine.probe(wanted.lanes, wanted.window, threads)
    if probe != wanted.probe:
        raise EngineError(
            f"this machine's llama.cpp computes other logits (probe {probe:016x}) than the one "
            f"that made the file (probe {wanted.probe:016x}): decompress with the same "
            "llama-cpp-python build on the same kind of CPU, or compress with --engine exact"
        )
    return model


def _decoding_memory(table_bits: int, block_size: int, with_primer: bool) -> int:
    """Bytes that a worker needs to decode a block, but for what is small; the primer is shared."""
    primed = LINE_BYTES << PRIMED_TABLE_BITS if with_primer else 0
    return (LINE_BYTES << table_bits) + 3 * block_size + primed


def check_memory(header: Header, limit: int) -> None:
    """Raise LimitError where decoding a block would need more than ``limit`` bytes."""
    need = _decoding_memory(header.table_bits, header.block_size, header.primer != 0)
    if need > limit:
        raise LimitError(
            f"decoding needs {need >> 20} MiB for each worker, more than the limit of "
            f"{limit >> 20} MiB: raise it with --memory"
        )


def engine_threads(engine: str, workers: int) -> int:
    """Threads for each worker's transformer.

    llama.cpp's threads spin while they wait, so the machine's cores are shared out; those of the
    exact engine sleep, and a file of one block keeps only one worker busy.
    """
    cores = os.cpu_count() or 1
    return cores if engine == "exact" else max(1, cores // workers)
