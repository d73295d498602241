"""``python stream_hash.py``: a hash over streams that use every predictor.

The same on every machine; run by the tests under the instruction sets of other processors, and by
tests/aarch64.sh under an emulated one.
"""

import hashlib

from tests_support import AWKWARD, english

import nczip

TEXT = english(6000, 7)


def stream_hash() -> str:
    """Of transformer and ensemble, text and bytes, with the primer and without."""
    streams = [
        nczip.compress(AWKWARD["text, binary, random, text"], engine="exact"),
        nczip.compress(TEXT * 3, engine="exact"),
        nczip.compress(TEXT, "fast"),
        nczip.compress(TEXT, "fast", primer=False),
    ]
    assert nczip.decompress(streams[1]) == TEXT * 3
    return hashlib.sha256(b"".join(streams)).hexdigest()


if __name__ == "__main__":
    print(stream_hash())
