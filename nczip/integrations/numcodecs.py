"""numcodecs: the codec ``nczip``, found by the entry point ``numcodecs.codecs``.

It is registered on import, too, for checkouts that are not installed.
"""

from typing import Any

from numcodecs import register_codec
from numcodecs.abc import Codec
from numcodecs.compat import ensure_contiguous_ndarray, ndarray_copy

from nczip.file import compress, decompress
from nczip.presets import PresetName


class Nczip(Codec):
    """Arrays' bytes as one nczip member.

    Args:
        preset: ``fast``, ``default`` or ``max``; the transformer serves text only.
        primer: whether text is coded with what the primer knows.
    """

    codec_id = "nczip"

    def __init__(self, preset: PresetName = "fast", primer: bool = True) -> None:
        self.preset = preset
        self.primer = primer

    def encode(self, buf: Any) -> bytes:
        """Compress any contiguous buffer."""
        data = ensure_contiguous_ndarray(buf)
        return compress(data, self.preset, primer=self.primer)

    def decode(self, buf: Any, out: Any = None) -> Any:
        """The raw bytes, written into ``out`` where it is given."""
        return ndarray_copy(decompress(ensure_contiguous_ndarray(buf)), out)


register_codec(Nczip)
