"""One library call, alone: ``python -m nczip.bench.worker METHOD c|d IN OUT``.

Prints the seconds that the call took, without imports, compilation and loading of models: those
are done by a small round trip before. METHOD is a name, or ``nczip:option=value,...``.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Codec = tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]

_WARM_UP = b"A sentence or two to warm up with, so that what is compiled or loaded is. " * 90


def _nczip(options: str) -> Codec:
    import nczip

    values: dict[str, Any] = dict(part.split("=", 1) for part in options.split(",") if part)
    if "primer" in values:
        values["primer"] = values["primer"] != "no"
    if "lanes" in values:
        values["lanes"] = int(values["lanes"])
    hint = {"model": values["model"]} if "model" in values else {}
    return lambda data: nczip.compress(data, **values), lambda data: nczip.decompress(data, **hint)


def _codec(method: str) -> Codec:
    name, _, options = method.partition(":")
    if name == "nczip":
        return _nczip(options)
    if name == "gzip":
        import gzip

        return lambda data: gzip.compress(data, 9), gzip.decompress
    if name == "bz2":
        import bz2

        return lambda data: bz2.compress(data, 9), bz2.decompress
    if name == "lzma":
        import lzma

        return lambda data: lzma.compress(data, preset=9 | lzma.PRESET_EXTREME), lzma.decompress
    if name == "zstandard":
        import zstandard

        squeezer = zstandard.ZstdCompressor(level=22)
        return squeezer.compress, zstandard.ZstdDecompressor().decompress
    if name == "brotli":
        import brotli

        return lambda data: bytes(brotli.compress(data, quality=11, lgwin=24)), brotli.decompress
    raise ValueError(f"no method '{method}'")


def main(method: str, direction: str, source: str, target: str) -> None:
    """One call; prints its seconds."""
    compress, decompress = _codec(method)
    decompress(compress(_WARM_UP))
    data = Path(source).read_bytes()
    start = time.perf_counter()
    result = (compress if direction == "c" else decompress)(data)
    seconds = time.perf_counter() - start
    Path(target).write_bytes(result)
    print(seconds)


if __name__ == "__main__":
    main(*sys.argv[1:])
