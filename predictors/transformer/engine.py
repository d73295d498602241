"""What nczip asks of a transformer, whoever evaluates it."""

from collections.abc import Sequence
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from nczip.coder.errors import EngineError, ModelError

F32Array = npt.NDArray[np.float32]

MAX_SINKS = 64


def check_sinks(sinks: int, window: int) -> None:
    """Raise EngineError where a window cannot keep that many sinks."""
    if not 0 <= sinks <= min(MAX_SINKS, window // 2):
        raise EngineError(
            f"a window of {window} tokens cannot keep {sinks} sinks: "
            f"at most half of it, and at most {MAX_SINKS}"
        )


class UnsupportedModelError(ModelError):
    """A model that one engine cannot evaluate, while another may."""


class Session(Protocol):
    """One evaluation in progress: the context (KV cache) of each lane. Used by one thread."""

    def evaluate(self, lanes: Sequence[int], tokens: Sequence[Sequence[int]]) -> F32Array:
        """Feed tokens to lanes in one batch.

        Args:
            lanes: numbers of the lanes, rising.
            tokens: for each of them the tokens that follow what it has seen, at least one.

        Returns:
            float32[len(lanes), V]: logits (nats) of what follows each lane's last token, valid
            until the next call.

        Raises:
            EngineError: the engine failed, or a logit is not finite.
        """
        ...

    def close(self) -> None:
        """Free the session's memory."""
        ...


@runtime_checkable
class AheadSession(Session, Protocol):
    """One in which a token's logits are the same however many are evaluated at once."""

    ahead_tokens: int  #: of all lanes together, best evaluated at once where they are known
    in_halves: bool  #: whether half of the lanes are best evaluated while the others are coded

    def evaluate_all(self, lanes: Sequence[int], tokens: Sequence[Sequence[int]]) -> F32Array:
        """Feed tokens as in ``evaluate``.

        Returns:
            float32[sum of all tokens, V]: logits after every token, lane by lane; an array of its
            own for each call.
        """
        ...


class Engine(Protocol):
    """A model ready for evaluation. Several threads may each open a session of their own."""

    @property
    def name(self) -> Literal["exact", "llama"]:
        """Which engine this is."""
        ...

    @property
    def places(self) -> str:
        """On what it evaluates the model, in words: the CPU, some GPUs."""
        ...

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 of the model file, 32 bytes."""
        ...

    @property
    def vocabulary(self) -> Sequence[bytes]:
        """The bytes of each token; empty for tokens that stand for no bytes."""
        ...

    @property
    def start_token(self) -> int:
        """Fed to a lane before its first token."""
        ...

    def tokenise(self, text: bytes) -> list[int]:
        """The model's canonical tokens of a text; they need not reproduce it (see tokens.py)."""
        ...

    def open_session(self, lanes: int, window: int, threads: int, sinks: int = 0) -> Session:
        """A fresh session in which each lane remembers at most ``window`` tokens.

        Among them are always its first ``sinks`` tokens, for models break that were trained on
        whole texts when those go (Xiao et al., 2023).

        Raises:
            EngineError: the engine cannot keep so many.
        """
        ...

    def session_bytes(self, lanes: int, window: int, sinks: int) -> int:
        """Bytes of memory that a session takes, but for what is small."""
        ...

    def probe(self, lanes: int, window: int, threads: int, sinks: int = 0) -> int:
        """A 64-bit hash over the logits of fixed tokens, evaluated in this very shape.

        Equal probes mean that files made with one engine decode with the other; 0 for an engine
        whose results are exact on every machine.
        """
        ...
