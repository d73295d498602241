"""Models under their engines: loaded, kept, and checked against what a header names."""

import functools
from dataclasses import dataclass
from pathlib import Path

from nczip.assets.models import ModelSearch, find_by_fingerprint
from nczip.coder.errors import EngineError, ModelError
from nczip.formats.container import ENGINE_EXACT, ENGINE_LLAMA, Header
from nczip.limits import check_memory, decoding_memory, engine_threads
from nczip.predictors.codec import engine_trie
from nczip.predictors.transformer.engine import Engine
from nczip.predictors.transformer.trie import Trie
from nczip.presets import EngineName

_NUMBERS: dict[EngineName, int] = {"llama": ENGINE_LLAMA, "exact": ENGINE_EXACT}
_NAMES = {number: name for name, number in _NUMBERS.items()}


@dataclass(frozen=True)
class LoadedModel:
    """An engine, its trie, and how to name it in a header."""

    engine: Engine
    trie: Trie
    name: str

    @property
    def engine_number(self) -> int:
        """As headers name the engine."""
        return _NUMBERS[self.engine.name]


@functools.lru_cache(maxsize=4)
def load_model(path: Path, engine: EngineName | None = None) -> LoadedModel:
    """A model under an engine; kept in memory, for loading takes long.

    Args:
        path: a GGUF file.
        engine: None takes ``exact`` where it can evaluate the model.

    Raises:
        ModelError, EngineError: the model or the engine does not serve.
    """
    loaded = _load_engine(path, engine)
    return LoadedModel(loaded, engine_trie(loaded), path.stem)


def _load_engine(path: Path, engine: EngineName | None) -> Engine:
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


def session_bytes(header: Header, model: LoadedModel | None) -> int:
    """Bytes that a worker's session of the model takes in memory."""
    if header.model is None or model is None:
        return 0
    return model.engine.session_bytes(header.model.lanes, header.model.window, header.model.sinks)


def open_model(
    header: Header, search: str | ModelSearch | None, memory_limit: int, workers: int
) -> LoadedModel | None:
    """The model that a header names, its fingerprint and probe checked.

    Raises:
        LimitError: a session of it takes more memory than the limit.
        ModelError: the model is not here.
        EngineError: its engine is not here, or evaluates it differently on this machine.
    """
    wanted = header.model
    if wanted is None:
        return None
    path = find_by_fingerprint(wanted.fingerprint, wanted.name, search)
    engine = _NAMES[wanted.engine]
    model = load_model(path, engine)
    sizes = header.table_bits, header.block_size, header.primer != 0
    check_memory(decoding_memory(*sizes, session_bytes(header, model)), memory_limit)
    threads = engine_threads(engine, workers)
    probe = model.engine.probe(wanted.lanes, wanted.window, threads, wanted.sinks)
    if probe != wanted.probe:
        raise EngineError(
            f"this machine's llama.cpp computes other logits (probe {probe:016x}) than the one "
            f"that made the file (probe {wanted.probe:016x}): decompress with the same "
            "llama-cpp-python build on the same kind of CPU, or compress with --engine exact"
        )
    return model
