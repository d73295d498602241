"""Which tokens the encoder chooses for a text.

Any segmentation decodes, because the decoder only concatenates the bytes of tokens. The model was
trained on its own (canonical) tokens, so they are preferred; where they do not reproduce the text
(invalid UTF-8, normalising tokenisers), the longest match in the vocabulary takes their place.
"""

import numpy as np
import numpy.typing as npt

from nczip.predictors.transformer.engine import Engine
from nczip.predictors.transformer.trie import Trie, find_leaves, longest_match

I64Array = npt.NDArray[np.int64]

# Texts are tokenised in pieces: one stray byte then spoils little, and tokenisers whose time
# grows faster than the text stay fast.
_PIECE_BYTES = 1 << 15


def token_lengths(engine: Engine, trie: Trie, text: bytes) -> I64Array:
    """The bytes of each token of ``text``, int64[tokens]; they sum to ``len(text)``."""
    lengths: list[int] = []
    start = 0
    while start < len(text):
        stop = _piece_end(text, start)
        piece = text[start:stop]
        lengths += _canonical(engine, trie, piece) or _longest(trie, piece)
        start = stop
    return np.array(lengths, np.int64)


def fed_tokens(trie: Trie, text: bytes, lengths: I64Array) -> I64Array:
    """The token that the transformer is fed for each of a text's tokens, int64[tokens]."""
    leaves = np.zeros(len(lengths), np.int64)
    find_leaves(trie, np.frombuffer(text, np.uint8).copy(), lengths, leaves)
    return trie.token[leaves].astype(np.int64)


def _piece_end(text: bytes, start: int) -> int:
    """Where to cut: before the last space of the piece, so that no word is torn."""
    stop = start + _PIECE_BYTES
    if stop >= len(text):
        return len(text)
    cut = text.rfind(b" ", start + _PIECE_BYTES // 2, stop)
    return cut if cut > 0 else stop


def _canonical(engine: Engine, trie: Trie, piece: bytes) -> list[int] | None:
    """Lengths of the model's own tokens, or None where they do not spell the piece."""
    pieces = [engine.vocabulary[token] for token in engine.tokenise(piece)]
    spelled = b"".join(pieces)
    if spelled == piece:
        return [len(token) for token in pieces]
    if spelled == b" " + piece:  # SentencePiece puts a space before every text
        head = _longest(trie, pieces[0][1:])
        return head + [len(token) for token in pieces[1:]]
    return None


def _longest(trie: Trie, piece: bytes) -> list[int]:
    """Lengths of a greedy longest-match segmentation."""
    text = np.frombuffer(piece, np.uint8).copy()
    lengths = []
    start = 0
    while start < len(text):
        leaf = longest_match(trie, text, start, len(text))
        lengths.append(int(trie.offsets[leaf + 1] - trie.offsets[leaf]))
        start += lengths[-1]
    return lengths
