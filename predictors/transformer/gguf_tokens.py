"""The vocabulary of a GGUF and its canonical tokeniser, without llama.cpp."""

import functools

from nczip.coder.errors import ModelError
from nczip.predictors.transformer.bpe import BytePairs
from nczip.predictors.transformer.gguf_file import GgufFile

_NORMAL, _UNKNOWN, _CONTROL, _USER, _UNUSED, _BYTE = range(1, 7)


def _byte_letters() -> dict[str, int]:
    """GPT-2's printable letter for each byte, inverted."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {chr(byte): byte for byte in printable}
    others = (byte for byte in range(256) if byte not in printable)
    letters.update({chr(256 + i): byte for i, byte in enumerate(others)})
    return letters


class GgufVocabulary:
    """Spellings, start token and tokeniser from a GGUF's metadata.

    Raises:
        ModelError: a token is not spelled as its type says.
    """

    def __init__(self, gguf: GgufFile) -> None:
        values = gguf.values
        self._path = gguf.path
        self.pieces: list[str] = values["tokenizer.ggml.tokens"]
        kinds = values.get("tokenizer.ggml.token_type")
        self._is_bpe = values.get("tokenizer.ggml.model") == "gpt2"
        parts = (merge.partition(" ") for merge in values.get("tokenizer.ggml.merges", []))
        self.merges = [(left, right) for left, _, right in parts]
        letters = _byte_letters()
        types = [_NORMAL] * len(self.pieces) if kinds is None else kinds.tolist()
        self.spellings = [
            self._spelling(piece, kind, letters)
            for piece, kind in zip(self.pieces, types, strict=True)
        ]
        bos = values.get("tokenizer.ggml.bos_token_id")
        eos = values.get("tokenizer.ggml.eos_token_id")
        self.start_token = int(bos if bos is not None else eos if eos is not None else 0)

    def _spelling(self, piece: str, kind: int, letters: dict[str, int]) -> bytes:
        """The bytes of one token; empty for tokens that stand for none."""
        if kind in (_UNKNOWN, _CONTROL, _UNUSED):
            return b""
        try:
            if kind == _BYTE:
                return bytes([int(piece[3:5], 16)])
            if self._is_bpe and kind == _NORMAL:
                return bytes(letters[letter] for letter in piece)
        except (KeyError, ValueError):
            raise ModelError(
                f"{self._path}: the token {piece!r:.60} does not spell bytes"
            ) from None
        return piece.replace("\u2581", " ").encode()

    def tokenise(self, text: bytes) -> list[int]:
        """Canonical tokens of a byte-level BPE; none for other vocabularies or invalid UTF-8."""
        if not self._is_bpe:
            return []
        try:
            decoded = text.decode()
        except UnicodeDecodeError:
            return []
        return self._byte_pairs.tokenise(decoded)

    @functools.cached_property
    def _byte_pairs(self) -> BytePairs:
        """With GPT-2's splitting; other models' differs from it in details that cost few bits."""
        letters = sorted(_byte_letters(), key=_byte_letters().__getitem__)
        return BytePairs(self.pieces, self.merges, letters)
