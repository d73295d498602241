"""The ``llama`` engine: any causal GGUF through llama-cpp-python's low-level API.

Its logits depend on the CPU or the GPU, the build and the shape of the batch, so every file that it
makes carries a probe (formats/SPEC.md, "Header").
"""

import ctypes
import hashlib
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xxhash

from nczip.coder.errors import EngineError, ModelError
from nczip.predictors.transformer.engine import F32Array, check_sinks
from nczip.predictors.transformer.gguf_file import check_gguf
from nczip.predictors.transformer.offload import Offload
from nczip.predictors.transformer.trie import MAX_TOKENS

_PROBE_STEPS = 6
_ALL_LAYERS = 1 << 30  # more than any model has
_ATTRIBUTE_SKIPPED = 1 | 2 | 8  # LLAMA_TOKEN_ATTR_UNKNOWN | UNUSED | CONTROL
_PIECE_BYTES = 1024

#: A session drops this share of its window at once when it is full: dropping costs a pass over
#: the cache's cells, keeping fewer tokens costs compression.
_DROP_SHARE = 16

_load_lock = threading.Lock()


def _library() -> Any:
    """llama_cpp, its chatter silenced.

    Raises:
        EngineError: the extra is not installed.
    """
    with _load_lock:
        try:
            import llama_cpp
        except (ImportError, OSError, RuntimeError) as error:
            raise EngineError(
                "the llama engine needs llama-cpp-python: pip install 'nczip[llama]'"
            ) from error
        llama_cpp.llama_log_set(_silent, ctypes.c_void_p(0))
        return llama_cpp


def _ignore(level: int, text: bytes, user_data: int) -> None:
    """A log callback that says nothing."""


_silent = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(_ignore)


def is_available() -> bool:
    """Whether llama-cpp-python can be imported."""
    try:
        _library()
    except EngineError:
        return False
    return True


class _Copy:
    """The model in the memory of one GPU, or wherever llama.cpp puts it."""

    def __init__(self, llama: Any, path: Path, layers: int, device: int | None) -> None:
        self.device = device
        self.layers = layers
        self.sessions = 0  # open at the moment
        self.opened = 0  # since it was loaded
        parameters = llama.llama_model_default_params()
        parameters.use_extra_bufts = False  # AMX repacking crashes on batches above one token
        parameters.n_gpu_layers = layers
        if device is not None:
            parameters.split_mode = llama.LLAMA_SPLIT_MODE_NONE
            parameters.main_gpu = device
        self.model = llama.llama_model_load_from_file(str(path).encode(), parameters)
        if not self.model:
            where = "" if device is None else f" on GPU {device}: is there one, with memory left?"
            raise ModelError(f"llama.cpp cannot load {path}{where}")
        weakref.finalize(self, llama.llama_model_free, self.model)


class LlamaEngine:
    """A GGUF model loaded by llama.cpp.

    Args:
        path: the model.
        offload: what GPUs do.

    Raises:
        EngineError: llama-cpp-python is not installed, or cannot use the GPUs that are asked for.
        ModelError: the file is missing, damaged, or not a causal GGUF model.
    """

    name: Literal["llama"] = "llama"

    def __init__(self, path: Path, offload: Offload | None = None) -> None:
        offload = offload or Offload()
        llama = self.library = _library()
        check_gguf(path, MAX_TOKENS)  # llama.cpp crashes on what is damaged
        with path.open("rb") as file:
            self.fingerprint = hashlib.file_digest(file, "sha256").digest()
        has_gpu = bool(llama.llama_supports_gpu_offload())
        if offload.is_asked_for and not has_gpu:
            raise EngineError(
                "llama.cpp finds no GPU: build llama-cpp-python for it (as with "
                "CMAKE_ARGS=-DGGML_CUDA=on), or leave --gpu-layers and --devices away"
            )
        layers = 0 if not has_gpu else _ALL_LAYERS if offload.layers is None else offload.layers
        devices: Sequence[int | None] = offload.devices or (None,)
        self._copies = [_Copy(llama, path, layers, device) for device in devices]
        self.lock = threading.Lock()  # over the counts of sessions
        self.model = self._copies[0].model
        if llama.llama_model_has_encoder(self.model):
            raise ModelError(f"{path} is not a causal language model")
        self._vocab = llama.llama_model_get_vocab(self.model)
        self.vocabulary = self._read_vocabulary()
        self.start_token = self._find_start_token()

    @property
    def places(self) -> str:
        """On what it evaluates the model, in words."""
        asked = self._copies[0].layers
        if not asked:
            return "the CPU"
        total = self.library.llama_model_n_layer(self.model) + 1  # and the head
        layers = f"{min(asked, total)} of {total} layers"
        named = ", ".join(str(copy.device) for copy in self._copies if copy.device is not None)
        if len(self._copies) > 1:
            return f"the GPUs {named} ({layers} on each)"
        return f"GPU {named} ({layers})" if named else f"all GPUs ({layers})"

    def _read_vocabulary(self) -> list[bytes]:
        """The bytes of each token; empty for control, unknown and unused tokens."""
        llama, vocab = self.library, self._vocab
        buffer = ctypes.create_string_buffer(_PIECE_BYTES)
        pieces = []
        for token in range(llama.llama_vocab_n_tokens(vocab)):
            if llama.llama_vocab_get_attr(vocab, token) & _ATTRIBUTE_SKIPPED:
                pieces.append(b"")
                continue
            size = llama.llama_token_to_piece(vocab, token, buffer, _PIECE_BYTES, 0, True)
            pieces.append(buffer.raw[:size] if size > 0 else b"")
        return pieces

    def _find_start_token(self) -> int:
        for find in (self.library.llama_vocab_bos, self.library.llama_vocab_eos):
            token = find(self._vocab)
            if token >= 0:
                return int(token)
        return 0

    def tokenise(self, text: bytes) -> list[int]:
        """Canonical tokens of ``text``, without a start token."""
        if not text:
            return []
        tokens = (ctypes.c_int32 * (len(text) + 16))()
        count = self.library.llama_tokenize(
            self._vocab, text, len(text), tokens, len(tokens), False, False
        )
        return list(tokens[:count]) if count > 0 else []

    def open_session(self, lanes: int, window: int, threads: int, sinks: int = 0) -> "LlamaSession":
        """A session on the GPU that has the fewest open, and of these on the one that had so."""
        with self.lock:
            copy = min(self._copies, key=lambda copy: (copy.sessions, copy.opened))
            return LlamaSession(self, copy, lanes, window, threads, sinks)

    def session_bytes(self, lanes: int, window: int, sinks: int) -> int:
        """Keys and values in half precision, and the logits of a step."""
        del sinks  # cells as others
        llama, model = self.library, self.model
        heads, key_heads = llama.llama_model_n_head(model), llama.llama_model_n_head_kv(model)
        width = llama.llama_model_n_embd(model) * key_heads // max(heads, 1)
        cells = lanes * window * llama.llama_model_n_layer(model)
        return int(cells * width * 4 + lanes * len(self.vocabulary) * 4)

    def probe(self, lanes: int, window: int, threads: int, sinks: int = 0) -> int:
        shape = lanes, window, threads, sinks
        first, *others = (self._probe_copy(copy, *shape) for copy in self._copies)
        for copy, other in zip(self._copies[1:], others, strict=True):
            if other != first:
                raise EngineError(
                    f"GPU {copy.device} computes other logits than GPU {self._copies[0].device}: "
                    "name only GPUs of one kind with --devices"
                )
        return first

    def _probe_copy(self, copy: _Copy, lanes: int, window: int, threads: int, sinks: int) -> int:
        digest = xxhash.xxh3_64()
        with self.lock:
            session = LlamaSession(self, copy, lanes, window, threads, sinks)
        try:
            for step in range(_PROBE_STEPS):
                # Fixed tokens, different in every lane and step; fewer lanes towards the end.
                active = list(range(max(1, lanes - step)))
                tokens = [[(7919 * step + 104729 * lane) % len(self.vocabulary)] for lane in active]
                digest.update(np.ascontiguousarray(session.evaluate(active, tokens)).tobytes())
        finally:
            session.close()
        return digest.intdigest()


class LlamaSession:
    """One llama.cpp context: every lane is a sequence of its own.

    Who opens one holds the engine's lock.
    """

    def __init__(
        self,
        engine: LlamaEngine,
        copy: _Copy,
        lanes: int,
        window: int,
        threads: int,
        sinks: int,
    ) -> None:
        check_sinks(sinks, window)
        self._engine = engine
        self._copy = copy  # llama.cpp's model lives as long as this
        llama = self._llama = engine.library
        self._vocabulary_size = len(engine.vocabulary)
        self._window = window
        self._sinks = sinks
        self._position = [0] * lanes
        self._oldest = [0] * lanes
        self._batch_limit = max(lanes, window)
        parameters = llama.llama_context_default_params()
        parameters.n_ctx = window * lanes
        parameters.n_batch = parameters.n_ubatch = self._batch_limit
        parameters.n_seq_max = lanes
        parameters.n_outputs_max = lanes
        parameters.n_threads = parameters.n_threads_batch = threads
        parameters.flash_attn_type = llama.LLAMA_FLASH_ATTN_TYPE_DISABLED
        parameters.kv_unified = False
        parameters.no_perf = True
        # Without layers there, a GPU has no part in anything.
        parameters.offload_kqv = parameters.op_offload = copy.layers > 0
        self._context = llama.llama_init_from_model(copy.model, parameters)
        if not self._context:
            raise EngineError(f"llama.cpp cannot open {lanes} lanes with a window of {window}")
        self._memory = llama.llama_get_memory(self._context)
        if sinks and not llama.llama_memory_can_shift(self._memory):
            llama.llama_free(self._context)
            self._context = None
            raise EngineError("llama.cpp cannot keep sinks for this model: choose none")
        self._batch = llama.llama_batch_init(self._batch_limit, 0, 1)
        copy.sessions += 1
        copy.opened += 1

    def evaluate(self, lanes: Sequence[int], tokens: Sequence[Sequence[int]]) -> F32Array:
        batch = self._batch
        count = 0
        for lane, new in zip(lanes, tokens, strict=True):
            self._make_room(lane, len(new))
            for i, token in enumerate(new):
                batch.token[count] = token
                batch.pos[count] = self._position[lane] + i
                batch.n_seq_id[count] = 1
                batch.seq_id[count][0] = lane
                batch.logits[count] = i == len(new) - 1
                count += 1
            self._position[lane] += len(new)
        batch.n_tokens = count
        status = self._llama.llama_decode(self._context, batch)
        if status != 0:
            raise EngineError(f"llama.cpp failed to evaluate a batch (status {status})")
        address = self._llama.llama_get_logits(self._context)
        shape = (len(lanes), self._vocabulary_size)
        logits: F32Array = np.ctypeslib.as_array(address, shape)
        if not np.isfinite(logits).all():
            raise EngineError("the model's logits are not finite")
        return logits

    def _make_room(self, lane: int, new: int) -> None:
        """Drop the oldest cells of a full window.

        Without sinks positions count on, and nothing is recomputed. With them, llama.cpp moves
        the cells behind back to the sinks (it rotates their keys), so that positions stay small.
        """
        if self._position[lane] + new - self._oldest[lane] <= self._window:
            return
        keep = self._window - self._sinks - max(new, self._window // _DROP_SHARE)
        kept_from = self._position[lane] - keep
        self._llama.llama_memory_seq_rm(self._memory, lane, self._sinks, kept_from)
        if self._sinks:
            move = self._sinks - kept_from
            self._llama.llama_memory_seq_add(self._memory, lane, kept_from, -1, move)
            self._position[lane] += move
        else:
            self._oldest[lane] = kept_from

    def close(self) -> None:
        if self._context:
            self._llama.llama_batch_free(self._batch)
            self._llama.llama_free(self._context)
            self._context = None
            with self._engine.lock:
                self._copy.sessions -= 1
