"""Zarr 3: the codec ``nczip`` of bytes to bytes, found by the entry point ``zarr.codecs``.

It is registered on import, too, for checkouts that are not installed.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

from zarr.abc.codec import BytesBytesCodec
from zarr.registry import register_codec

from nczip.file import compress, decompress
from nczip.presets import PRESETS, PresetName


@dataclass(frozen=True)
class NczipCodec(BytesBytesCodec):
    """A chunk's bytes as one nczip member.

    Raises:
        ValueError: there is no such preset.
    """

    is_fixed_size = False

    preset: PresetName = "fast"  #: the transformer serves text only
    primer: bool = True  #: whether text is coded with what the primer knows

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ValueError(f"unknown preset '{self.preset}': choose from {', '.join(PRESETS)}")

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "NczipCodec":
        """From an array's metadata."""
        return cls(**data.get("configuration", {}))

    def to_dict(self) -> dict[str, Any]:
        """As an array's metadata name it."""
        return {"name": "nczip", "configuration": {"preset": self.preset, "primer": self.primer}}

    async def _encode_single(self, chunk_bytes: Any, chunk_spec: Any) -> Any:
        packed = await asyncio.to_thread(
            compress, chunk_bytes.to_bytes(), self.preset, primer=self.primer
        )
        return chunk_spec.prototype.buffer.from_bytes(packed)

    async def _decode_single(self, chunk_bytes: Any, chunk_spec: Any) -> Any:
        raw = await asyncio.to_thread(decompress, chunk_bytes.to_bytes())
        return chunk_spec.prototype.buffer.from_bytes(raw)

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: Any) -> int:
        """Not known before."""
        raise NotImplementedError


register_codec("nczip", NczipCodec)
