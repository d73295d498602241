"""Elements of a GGUF's tensors: the kinds that training writes here, the others by gguf.

The library brings packages of its own, and the built-in model needs none of them.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from nczip.coder.errors import ModelError

_F32, _F16, _Q8_0, _BF16 = 0, 1, 8, 30
_Q8_ELEMENTS, _Q8_BYTES = 32, 34
#: Elements and bytes of a block, as ggml has them.
_BLOCKS = {_F32: (1, 4), _F16: (1, 2), _Q8_0: (_Q8_ELEMENTS, _Q8_BYTES), _BF16: (1, 2)}


def _library() -> Any:
    try:
        import gguf
    except ImportError:
        raise ModelError(
            "models of other kinds than F32, F16, BF16 and Q8_0 need the extra [models]: "
            "pip install 'nczip[models]'"
        ) from None
    return gguf


def block_of(kind: int) -> tuple[int, int]:
    """Elements and bytes of a block of a kind of tensor.

    Raises:
        KeyError: the kind is unknown.
        ModelError: it takes a library that is not installed.
    """
    if kind in _BLOCKS:
        return _BLOCKS[kind]
    gguf = _library()
    try:
        elements, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(kind)]
    except ValueError:
        raise KeyError(kind) from None
    return elements, size


def dequantise(data: npt.NDArray[np.uint8], kind: int) -> npt.NDArray[np.float32]:
    """Elements of whole blocks, float32[..., columns].

    Args:
        data: uint8[..., bytes of a row].
        kind: as a GGUF numbers it.

    Raises:
        NotImplementedError: the library cannot unpack the kind.
        ModelError: it takes a library that is not installed.
    """
    data = np.ascontiguousarray(data)
    if kind == _F32:
        return data.view(np.float32)
    if kind == _F16:
        return data.view(np.float16).astype(np.float32)
    if kind == _BF16:
        return (data.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    if kind == _Q8_0:
        blocks = data.reshape(*data.shape[:-1], -1, _Q8_BYTES)
        scales = np.ascontiguousarray(blocks[..., :2]).view(np.float16).astype(np.float32)
        values = blocks[..., 2:].view(np.int8).astype(np.float32) * scales
        return values.reshape(*data.shape[:-1], -1)
    gguf = _library()
    return np.asarray(gguf.dequantize(data, gguf.GGMLQuantizationType(kind)), np.float32)
