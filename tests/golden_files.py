"""What is pinned: streams and sizes that only a decision may change.

Tests compare with tests/golden/*.json; ``python tests/golden/update.py`` writes these anew.
"""

import hashlib
import json
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from stream_hash import TEXT, stream_hash
from tests_support import AWKWARD, english, records

import nczip

FOLDER = Path(__file__).parent / "golden"
_MIXED = AWKWARD["text, binary, random, text"]
_CRLF = "\r\n".join(textwrap.wrap(english(9000).decode(), 70)).encode()

#: Streams whose bytes are pinned, by name.
STREAMS: dict[str, Callable[[], bytes]] = {
    "fast, blocks of all kinds": lambda: nczip.compress(_MIXED, "fast", block_size=32_768),
    "fast, text": lambda: nczip.compress(_MIXED[:9000], "fast"),
    "fast, CRLF and line breaks apart": lambda: nczip.compress(_CRLF, "fast"),
    "fast, three lanes of bytes": lambda: nczip.compress(
        english(20_000) + records(9000), "fast", lanes=3
    ),
    "quick, blocks of all kinds": lambda: nczip.compress(_MIXED, "quick", block_size=32_768),
    "swift, text": lambda: nczip.compress(_MIXED[:9000], "swift"),
    "max, two blocks": lambda: nczip.compress(
        english(9000), "max", engine="exact", block_size=8192, memory_limit=600 << 20
    ),
}


def pinned(name: str) -> dict[str, Any]:
    """The content of tests/golden/NAME.json."""
    content: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return content


def pin(name: str, content: dict[str, Any]) -> None:
    """Write tests/golden/NAME.json."""
    (FOLDER / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")


def describe_stream(name: str) -> dict[str, Any]:
    """Size and hash of a stream of STREAMS."""
    stream = STREAMS[name]()
    return {"bytes": len(stream), "sha256": hashlib.sha256(stream).hexdigest()}


def portable_hash() -> str:
    """That of stream_hash.py, which every processor must make."""
    return stream_hash()


def logits_of_lanes(
    engine: Any, tokens: list[tuple[int, int]], window: int, threads: int = 1
) -> list[np.ndarray]:
    """Logits after each token of two lanes, a token of each at a time."""
    session = engine.open_session(2, window, threads)
    steps = [session.evaluate([0, 1], [[a], [b]]).copy() for a, b in tokens]
    session.close()
    return steps


def token_pairs(engine: Any) -> list[tuple[int, int]]:
    """Tokens for two lanes."""
    text = engine.tokenise(TEXT)
    return [(text[i], text[i + 300]) for i in range(150)]


def logits_hash(engine: Any) -> str:
    """Of the built-in model's logits under an engine."""
    digest = hashlib.sha256()
    for logits in logits_of_lanes(engine, token_pairs(engine), 64):
        digest.update(logits.astype("<f4").tobytes())
    return digest.hexdigest()


def sizes_of(data: bytes) -> dict[str, int]:
    """The compressed sizes that sizes.json pins for a head of a corpus file."""
    return {
        "fast": len(nczip.compress(data, "fast")),
        "no primer": len(nczip.compress(data, "fast", primer=False)),
    }
