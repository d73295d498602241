"""Models under their engines: loaded, kept, and checked against what a header names."""

import functools
from dataclasses import dataclass
from pathlib import Path

from nczip.assets.models import ModelSearch, find_by_fingerprint
from nczip.assets.pull import source_of
from nczip.coder.errors import EngineError, ModelError
from nczip.formats.container import ENGINE_EXACT, ENGINE_LLAMA, Header
from nczip.limits import check_memory, decoding_memory, engine_threads
from nczip.options import Announce
from nczip.predictors.codec import engine_trie
from nczip.predictors.transformer.engine import Engine, UnsupportedModelError
from nczip.predictors.transformer.offload import Offload
from nczip.predictors.transformer.trie import Trie
from nczip.presets import EngineName

_NUMBERS: dict[EngineName, int] = {"llama": ENGINE_LLAMA, "exact": ENGINE_EXACT}
_NAMES = {number: name for name, number in _NUMBERS.items()}

_TRAVELS_BADLY = (
    "files open only with the same llama-cpp-python build on the same kind of CPU or GPU"
)


@dataclass(frozen=True)
class LoadedModel:
    """An engine, its trie, and how to name it in a header."""

    engine: Engine
    trie: Trie
    name: str
    source: str = ""  #: where it came from, if it was pulled from where others can get it
    unsupported: str | None = None  #: why exact, which would have been taken, could not be

    @property
    def warning(self) -> str | None:
        """What must be said before a file is made with it, where nobody has asked for llama."""
        if self.unsupported is None:
            return None
        return f"{self.unsupported}; llama.cpp evaluates it, and such {_TRAVELS_BADLY}"

    @property
    def description(self) -> str:
        """What evaluates it, and on what."""
        return f"the model {self.name} under the engine {self.engine.name} on {self.engine.places}"

    @property
    def engine_number(self) -> int:
        """As headers name the engine."""
        return _NUMBERS[self.engine.name]


@functools.lru_cache(maxsize=4)
def load_model(
    path: Path, engine: EngineName | None = None, offload: Offload | None = None
) -> LoadedModel:
    """A model under an engine; kept in memory, for loading takes long.

    Args:
        path: a GGUF file.
        engine: None takes ``exact`` where it can evaluate the model.
        offload: what GPUs do under ``llama``; None for all layers on all that there are.

    Raises:
        ModelError, EngineError: the model or the engine does not serve.
    """
    loaded, unsupported = _load_engine(path, engine, offload)
    source = source_of(path, loaded.fingerprint.hex())
    return LoadedModel(loaded, engine_trie(loaded), path.stem, source, unsupported)


def _load_engine(
    path: Path, engine: EngineName | None, offload: Offload | None
) -> tuple[Engine, str | None]:
    """The engine, and why it is not exact where nobody asked for another."""
    from nczip.predictors.transformer.exact import ExactEngine
    from nczip.predictors.transformer.llama import LlamaEngine, is_available

    if engine == "llama":
        return LlamaEngine(path, offload), None
    try:
        return ExactEngine(path), None
    except UnsupportedModelError as error:
        if engine is None and is_available():
            return LlamaEngine(path, offload), str(error)
        how = "--engine llama" if is_available() else "pip install 'nczip[llama]'"
        raise ModelError(f"{error}. llama.cpp may ({how}), but such {_TRAVELS_BADLY}") from error


def session_bytes(header: Header, model: LoadedModel | None) -> int:
    """Bytes that a worker's session of the model takes in memory."""
    if header.model is None or model is None:
        return 0
    return model.engine.session_bytes(header.model.lanes, header.model.window, header.model.sinks)


def open_model(
    header: Header,
    search: str | ModelSearch | None,
    memory_limit: int,
    workers: int,
    offload: Offload,
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
    path = find_by_fingerprint(wanted.fingerprint, wanted.name, search, wanted.source)
    engine = _NAMES[wanted.engine]
    # Exact has no use for a GPU, and one engine serves, whatever is asked for.
    model = load_model(path, engine, offload if engine == "llama" else None)
    sizes = header.table_bits, header.block_size, header.primer != 0
    check_memory(decoding_memory(*sizes, session_bytes(header, model)), memory_limit)
    threads = engine_threads(engine, workers)
    probe = model.engine.probe(wanted.lanes, wanted.window, threads, wanted.sinks)
    if probe != wanted.probe:
        raise EngineError(
            f"this machine's llama.cpp computes other logits (probe {probe:016x}) than the one "
            f"that made the file (probe {wanted.probe:016x}): decompress with the same "
            "llama-cpp-python build on the same kind of CPU or GPU, with as many layers on it "
            f"(here the model was on {model.engine.places}), or compress with --engine exact"
        )
    return model


def tell(model: LoadedModel | None, announce: Announce | None, detail: Announce | None) -> None:
    """Say what a user should know of the model that a stream is coded with."""
    if model is None:
        return
    if model.warning is not None and announce is not None:
        announce(model.warning)
    if detail is not None:
        detail(model.description)
