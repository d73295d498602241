"""What a member has carried so far, told from its frames as they go by."""

from nczip.coder.errors import TruncatedError
from nczip.formats.container import INDEX_FRAME, Header, parse_header, read_block_header


class FrameCounter:
    """Counts the raw bytes of the whole blocks in what a Compressor makes, up to the index."""

    def __init__(self) -> None:
        self.raw_size = 0
        self.is_over = False  # whether the index has begun
        self._header: Header | None = None
        self._buffer = b""  # the start of a frame that is not complete
        self._payload = 0  # bytes of the current block's payload that are to come
        self._raw = 0  # of the current block

    def feed(self, data: bytes) -> None:
        """Follow the next bytes of the stream."""
        self._buffer += data
        while self._buffer and not self.is_over:
            if self._payload:
                passed = min(self._payload, len(self._buffer))
                self._payload -= passed
                self._buffer = self._buffer[passed:]
                if not self._payload:
                    self.raw_size += self._raw
            elif not self._read_head():
                return

    def _read_head(self) -> bool:
        """Step over a header of a member or of a block; False where more bytes are needed."""
        try:
            if self._header is None:
                self._header, size = parse_header(self._buffer)
            elif self._buffer[:1] == INDEX_FRAME:
                self.is_over, size = True, 0
            else:
                block, size, _ = read_block_header(self._buffer, self._header)
                self._raw, self._payload = block.raw_size, block.payload_size
        except TruncatedError:
            return False
        self._buffer = self._buffer[size:]
        return True
