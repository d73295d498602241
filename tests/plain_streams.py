"""``python plain_streams.py``: short streams in hexadecimal, one a line.

The same whether kernels are compiled or, under ``NUMBA_DISABLE_JIT=1``, plain Python; run both ways
by tests/test_plain.py.
"""

import textwrap

from tests_support import english, records

import nczip
from nczip.assets.models import find_model
from nczip.engines import load_model
from nczip.predictors.codec import CodecSettings, TransformerSettings, decode, encode
from nczip.presets import BUILT_IN

INPUTS = {
    "text": english(100),
    "text with CRLF": b"\r\n".join(
        line.encode() for line in textwrap.wrap("a word or two " * 8, 30)
    ),
    "records": records(90),
}


def _streams() -> dict[str, bytes]:
    streams = {}
    for name, data in INPUTS.items():
        streams[name] = nczip.compress(data, "fast", primer=False)
        assert nczip.decompress(streams[name]) == data
    return streams


def _under_the_transformer(text: bytes) -> bytes:
    """A few tokens; without a container, for a model is left out of a stream so short."""
    model = load_model(find_model(BUILT_IN), "exact")
    transformer = TransformerSettings(model.engine, model.trie, lanes=1, window=64, threads=1)
    settings = CodecSettings(table_bits=12, byte_lanes=1, transformer=transformer)
    coded = encode(text, b"", settings)
    assert coded is not None and decode(coded, len(text), 0, settings) == (text, b"")
    return coded


if __name__ == "__main__":
    for _name, _stream in _streams().items():
        print(_name, _stream.hex())
    print("tokens", _under_the_transformer(b"It was the").hex())
