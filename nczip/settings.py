"""From a user's options to settings: the preset's values, single ones overridden, models loaded."""

from dataclasses import dataclass, replace

from nczip.assets.catalogue import CatalogueModel, entry_for
from nczip.assets.models import find_model
from nczip.engines import LoadedModel, load_model
from nczip.errors import EngineError
from nczip.formats.container import MAX_BLOCK_SIZE, MAX_LANES, MIN_TABLE_BITS
from nczip.limits import decoding_memory
from nczip.options import CompressOptions
from nczip.presets import PRESETS, Preset, preset_name

_LINES_PER_BYTE = 16  # of the n-gram table; more buys nothing, fewer costs bits


@dataclass(frozen=True)
class Settings:
    """How to compress; made by :func:`choose`."""

    block_size: int
    table_bits: int
    lanes: int
    window: int  #: tokens
    sinks: int  #: a lane's first tokens that stay in its window
    primer: bool
    model: LoadedModel | None
    insist: bool  #: on the transformer for text, even where it costs bits


def choose(options: CompressOptions) -> Settings:
    """The settings for a preset and a model, with single values overridden.

    Raises:
        ValueError: a value out of bounds.
        ModelError, EngineError: the model is not here, or cannot be loaded.
    """
    base = PRESETS[preset_name(options.preset)]
    model = options.model if options.model is not None else base.model
    loaded, offload = None, options.offload
    if model is not None:
        loaded = load_model(find_model(model), options.engine, offload)
    if offload.is_asked_for and (loaded is None or loaded.engine.name != "llama"):
        raise EngineError("only the llama engine uses GPUs: add --engine llama")
    # The catalogue knows how its models are used best, whatever their files are called here.
    suited: CatalogueModel | Preset = base
    if loaded is not None:
        suited = entry_for(loaded.engine.fingerprint) or base
    settings = Settings(
        block_size=base.block_size if options.block_size is None else options.block_size,
        table_bits=base.table_bits,
        lanes=suited.lanes if options.lanes is None else options.lanes,
        window=suited.window,
        sinks=suited.sinks,
        primer=options.primer,
        model=loaded,
        insist=options.model is not None or options.engine is not None,
    )
    if not 1 <= settings.lanes <= MAX_LANES:
        raise ValueError(f"lanes must be 1 to {MAX_LANES}")
    if not 1024 <= settings.block_size <= MAX_BLOCK_SIZE:
        raise ValueError(f"the block size must be 1024 to {MAX_BLOCK_SIZE} bytes")
    limit = options.memory_limit
    return settings if limit is None else _fit_memory(settings, limit)


def _fit_memory(settings: Settings, limit: int) -> Settings:
    """The same with the largest n-gram table, up to the preset's, that fits."""
    session = 0
    if settings.model is not None:
        session = settings.model.engine.session_bytes(
            settings.lanes, settings.window, settings.sinks
        )
    for bits in range(settings.table_bits, MIN_TABLE_BITS - 1, -1):
        memory = decoding_memory(bits, settings.block_size, settings.primer, session)
        if memory.worker + memory.shared <= limit:
            return replace(settings, table_bits=bits)
    raise ValueError(
        f"{limit >> 20} MiB of memory are too little for blocks of {settings.block_size >> 10} KiB"
        + (" and the primer: raise --memory, or use --no-primer" if settings.primer else "")
    )


def fit_tables(settings: Settings, size: int) -> Settings:
    """Settings for a stream of a single block of ``size`` bytes: no larger than it needs."""
    bits = max((size * _LINES_PER_BYTE - 1).bit_length(), MIN_TABLE_BITS)
    block_size = max(min(size, settings.block_size), 1)
    return replace(settings, table_bits=min(bits, settings.table_bits), block_size=block_size)
