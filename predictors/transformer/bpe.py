"""Byte-level BPE (Sennrich et al., 2016) with GPT-2's splitting: text to a model's own tokens.

Token for token what the ``tokenizers`` library makes of the same vocabulary and merges, but for
letters that one of the two knows from a later Unicode; tests hold it against that library.
"""

import heapq
import re
import unicodedata
from collections.abc import Sequence
from itertools import pairwise

_SPACE, _OTHER_SPACE, _LETTER, _NUMBER, _OTHER = " ", "\t", "x", "0", "."
# Letters of the endings that English splits off ('s, 't, 're, 've, 'm, 'll, 'd) stay themselves.
_THEMSELVES = "'strevmld"
# Unicode's White_Space: str.isspace takes four control characters more.
_SPACES = "\t\n\v\f\r\x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(
    map(chr, range(0x2000, 0x200B))
)

# GPT-2's pattern, over classes of characters in place of the characters.
_WORDS = re.compile(
    r"'(?:[stmd]|re|ve|ll)| ?[xstrevmld]+| ?0+| ?[.']+|[ \t]+(?![^ \t])|[ \t]+"
)  # fmt: skip

_MOST_KNOWN = 1 << 16  # words whose tokens are remembered


class _Classes(dict[int, str]):
    """For str.translate: each character's class, found when it is first met."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        kind = unicodedata.category(character)[0]
        found = _LETTER if kind == "L" else _NUMBER if kind == "N" else _OTHER
        if character in _THEMSELVES or character == _SPACE:
            found = character
        elif character in _SPACES:
            found = _OTHER_SPACE
        self[code] = found
        return found


_CLASSES = _Classes()


def split_words(text: str) -> list[str]:
    """The pieces that tokens do not reach across, as GPT-2's pattern cuts them."""
    return [text[slice(*found.span())] for found in _WORDS.finditer(text.translate(_CLASSES))]


class BytePairs:
    """A vocabulary and its merges, ready to tokenise.

    Args:
        pieces: each token in GPT-2's letters for bytes.
        merges: pairs of tokens, the first to be merged first; what each makes is a token, too.
        letters: the letter of each of the 256 bytes.
    """

    def __init__(
        self, pieces: Sequence[str], merges: Sequence[tuple[str, str]], letters: Sequence[str]
    ) -> None:
        numbers = {piece: number for number, piece in enumerate(pieces)}
        self._bytes = [numbers.get(letter) for letter in letters]
        self._merges = {
            (numbers[left], numbers[right]): (rank, numbers[left + right])
            for rank, (left, right) in enumerate(merges)
        }
        self._known: dict[str, tuple[int, ...]] = {}

    def tokenise(self, text: str) -> list[int]:
        """The tokens of a text; bytes that the vocabulary lacks are left out."""
        known = self._known
        tokens: list[int] = []
        for word in split_words(text):
            found = known.get(word)
            if found is None:
                found = self._tokens_of(word)
                if len(known) >= _MOST_KNOWN:
                    known.clear()
                known[word] = found
            tokens += found
        return tokens

    def _tokens_of(self, word: str) -> tuple[int, ...]:
        """Merge a word's pairs, always the one of lowest rank, the leftmost of several."""
        tokens = [n for byte in word.encode() if (n := self._bytes[byte]) is not None]
        size = len(tokens)
        following = list(range(1, size + 1))
        before = list(range(-1, size - 1))
        merges = self._merges
        queue = []
        for at, pair in enumerate(pairwise(tokens)):
            if pair in merges:
                queue.append((merges[pair][0], at, pair))
        heapq.heapify(queue)
        while queue:
            _, at, pair = heapq.heappop(queue)
            right = following[at]
            if right >= size or (tokens[at], tokens[right]) != pair:
                continue  # a part of it went into another merge
            tokens[at], tokens[right] = merges[pair][1], -1
            following[at] = right = following[right]
            left = before[at]
            if right < size:
                before[right] = at
                self._consider(queue, at, (tokens[at], tokens[right]))
            if left >= 0:
                self._consider(queue, left, (tokens[left], tokens[at]))
        return tuple(token for token in tokens if token >= 0)

    def _consider(
        self, queue: list[tuple[int, int, tuple[int, int]]], at: int, pair: tuple[int, int]
    ) -> None:
        """Queue a pair at ``at`` if it can be merged."""
        if pair in self._merges:
            heapq.heappush(queue, (self._merges[pair][0], at, pair))
