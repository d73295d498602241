"""Whatever holds bytes, as bytes."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from typing_extensions import Buffer
else:
    Buffer = object  # collections.abc.Buffer came with Python 3.12

__all__ = ["Buffer", "byte_view"]


def byte_view(data: Buffer) -> memoryview:
    """The bytes of a buffer, one by one, without a copy.

    Raises:
        TypeError: it is none.
        BufferError: its bytes do not lie in order (C-contiguous).
    """
    view = memoryview(data)
    if not view.c_contiguous:
        raise BufferError("the buffer is not C-contiguous: pass a copy")
    # Not memoryview.cast, which knows neither all formats nor empty shapes.
    return np.frombuffer(view, np.uint8).data if view.nbytes else memoryview(b"")
