"""What each lane remembers of its past, and the contexts hashed from it.

A lane is a contiguous piece of the block's bytes. Its memory is one row of int64, so that all
lanes share one array; positions are indices into the block's bytes.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from nczip.coder.jit import kernel
from nczip.predictors.ngram import hash_pair

#: Columns of a lane's row: next position, first position, end of the lane; where the match model
#: points and how long the match is; hashes of the current word and of the two before it; the last
#: eight bytes as if lines of prose were not broken; where the current line and the one before it
#: start; the classes of the last bytes, four bits each; the distance at which bytes tend to return;
#: the line's first three bytes; the closing brackets that are awaited, innermost in the low byte;
#: the hash of the current field, or the separator before it; its number in the line; the classes of
#: the last runs of bytes of one class; the leaves of the last two tokens, + 1.
(
    POSITION,
    START,
    STOP,
    MATCH_POINTER,
    MATCH_LENGTH,
    WORD,
    WORD_1,
    WORD_2,
    PROSE,
    LINE_START,
    LINE_ABOVE,
    CLASSES,
    STRIDE,
    LINE_HEAD,
    BRACKETS,
    FIELD,
    FIELD_NUMBER,
    SHAPE,
    TOKEN_1,
    TOKEN_2,
    LANE_COLUMNS,
) = range(21)

CONTEXTS = 30
PRIMED_CONTEXTS = 10  #: so many of them, the first, look into the primed table
ORDER_CONTEXTS = 7  #: so many of them, the first, are the orders
MIN_STRIDE, MAX_STRIDE = 2, 1024

_VOTE = 16
_VOTE_LIMIT = 1 << 14
_NEWLINE, _SPACE_BYTE = 10, 32
_WORD_K = np.uint64(0x2F0B4C47E5A9D1B3)
_U8 = np.uint64(8)

_LOWER, _UPPER, _DIGIT, _SPACE, _LINE_END, _STOPPER, _OTHER, _HIGH = range(1, 9)


def _byte_classes() -> npt.NDArray[np.int64]:
    classes = np.full(256, _OTHER, np.int64)
    classes[ord("a") : ord("z") + 1] = _LOWER
    classes[ord("A") : ord("Z") + 1] = _UPPER
    classes[ord("0") : ord("9") + 1] = _DIGIT
    classes[ord(" ")] = _SPACE
    classes[_NEWLINE] = _LINE_END
    classes[[ord(c) for c in ".,;:!?"]] = _STOPPER
    classes[128:] = _HIGH
    return classes


def _word_letters() -> npt.NDArray[np.int64]:
    """What a byte adds to a word's hash: its lower case; 0 where it ends a word."""
    letters = np.zeros(256, np.int64)
    lower = np.arange(ord("a"), ord("z") + 1)
    letters[lower] = lower
    letters[lower - 32] = lower
    letters[128:] = np.arange(128, 256)
    return letters


def _prose_ends() -> npt.NDArray[np.bool_]:
    """Which bytes may end a line of broken prose; code and markup mostly end in others."""
    ends = _word_letters() > 0
    ends[[ord(c) for c in ",.?!\"'-"]] = True
    return ends


def _brackets() -> npt.NDArray[np.int64]:
    """For each byte: the bracket that closes it; -1 for one that closes; else 0."""
    brackets = np.zeros(256, np.int64)
    for opener, closer in ("()", "[]", "{}", "<>"):
        brackets[ord(opener)] = ord(closer)
        brackets[ord(closer)] = -1
    return brackets


def _separators() -> npt.NDArray[np.bool_]:
    """Which bytes lie between fields."""
    separators = np.zeros(256, np.bool_)
    separators[[ord(c) for c in " \t\n,;:/|&?="]] = True
    return separators


BYTE_CLASS = _byte_classes()
_BRACKETS = _brackets()
_PROSE_END = _prose_ends()
_SEPARATORS = _separators()
_WORD_LETTER = _word_letters()


class Followers(NamedTuple):
    """The bytes that followed each context's last occurrences, newest in the low byte."""

    of_byte: npt.NDArray[np.uint32]  #: uint32[256]
    of_pair: npt.NDArray[np.uint32]  #: uint32[65536]


class Strides(NamedTuple):
    """Where records repeat: how often each distance brought a byte pair back lately."""

    last_seen: npt.NDArray[np.int64]  #: int64[65536], position behind each byte pair's last one
    votes: npt.NDArray[np.int64]  #: int64[MAX_STRIDE], decaying counts of distances


def new_strides() -> Strides:
    """Nothing seen yet."""
    return Strides(np.zeros(1 << 16, np.int64), np.zeros(MAX_STRIDE, np.int64))


def new_lanes(edges: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Rows for the lanes ``edges[i]:edges[i + 1]`` of a block; int64[lanes, columns]."""
    lanes = np.zeros((len(edges) - 1, LANE_COLUMNS), np.int64)
    for column in (POSITION, START, LINE_START, LINE_ABOVE):
        lanes[:, column] = edges[:-1]
    lanes[:, STOP] = edges[1:]
    lanes[:, STRIDE] = MIN_STRIDE
    return lanes


@kernel(inline=True)
def byte_back(data, lanes, lane, distance):
    """The byte ``distance`` positions back in the lane, uint64; 0 before its start."""
    position = lanes[lane, POSITION] - distance
    if position < lanes[lane, START]:
        return np.uint64(0)
    return np.uint64(data[position])


@kernel(inline=True)
def byte_above(data, lanes, lane):
    """The byte in the same column of the line above, uint64; 0 where there is none."""
    position = lanes[lane, LINE_ABOVE] + lanes[lane, POSITION] - lanes[lane, LINE_START]
    if position < lanes[lane, LINE_START]:
        return np.uint64(data[position])
    return np.uint64(0)


@kernel(inline=True)
def _last_eight(data, lanes, lane):
    """The last eight bytes, the newest in the low byte, uint64."""
    last8 = np.uint64(0)
    for distance in range(1, 9):
        shift = np.uint64(8 * (distance - 1))
        last8 |= byte_back(data, lanes, lane, distance) << shift
    return last8


@kernel()
def hash_text_contexts(data, lanes, lane, hashes, at):
    """Fill ``hashes[at : at + PRIMED_CONTEXTS]``: the contexts that a primer teaches.

    All but order 1 see a space where a line of prose is broken: files are broken at some column,
    what is known of the language does not depend on it.
    """
    prose = np.uint64(lanes[lane, PROSE])
    c1_high = (prose & np.uint64(0xFF)) << _U8
    word = np.uint64(lanes[lane, WORD])
    word_1 = np.uint64(lanes[lane, WORD_1])
    word_2 = np.uint64(lanes[lane, WORD_2])
    # Orders 1 to 6 and 8.
    hashes[at] = hash_pair(np.uint64(0), byte_back(data, lanes, lane, 1))
    hashes[at + 1] = hash_pair(np.uint64(1), prose & np.uint64(0xFFFF))
    hashes[at + 2] = hash_pair(np.uint64(2), prose & np.uint64(0xFFFFFF))
    hashes[at + 3] = hash_pair(np.uint64(3), prose & np.uint64(0xFFFFFFFF))
    hashes[at + 4] = hash_pair(np.uint64(4), prose & np.uint64(0xFFFFFFFFFF))
    hashes[at + 5] = hash_pair(np.uint64(5), prose & np.uint64(0xFFFFFFFFFFFF))
    hashes[at + 6] = hash_pair(np.uint64(6), prose)
    # The word so far: alone, with the word before, and with the two before.
    pair = hash_pair(np.uint64(8) + c1_high, word)
    hashes[at + 7] = hash_pair(np.uint64(7) + c1_high, word)
    hashes[at + 8] = hash_pair(pair, word_1)
    hashes[at + 9] = hash_pair(pair + word_2 * _WORD_K, word_1)


@kernel()
def hash_contexts(data, lanes, lane, followers, expected, binary, hashes):
    """Fill ``hashes`` (uint64[CONTEXTS]) for the lane's next byte.

    ``expected`` is the match model's byte + 256, or 0 (int64); ``binary`` is 1 (int64) where words,
    lines and brackets mean nothing: other contexts stand in their places.
    """
    hash_text_contexts(data, lanes, lane, hashes, 0)
    last8 = _last_eight(data, lanes, lane)
    c1 = last8 & np.uint64(0xFF)
    last2 = last8 & np.uint64(0xFFFF)
    last4 = last8 & np.uint64(0xFFFFFFFF)
    c1_high = c1 << _U8
    word = np.uint64(lanes[lane, WORD])
    column = np.uint64(lanes[lane, POSITION] - lanes[lane, LINE_START])
    above = byte_above(data, lanes, lane) << _U8
    match = np.uint64(expected)
    length = np.uint64(min(lanes[lane, MATCH_LENGTH], 31))
    after_byte = np.uint64(followers.of_byte[np.int64(c1)])
    after_pair = np.uint64(followers.of_pair[np.int64(last2)])

    # The word so far with the word before the last, and with the last one and the last bytes.
    hashes[10] = hash_pair(hash_pair(np.uint64(10) + c1_high, word), np.uint64(lanes[lane, WORD_2]))
    hashes[11] = hash_pair(
        hash_pair(np.uint64(11) + c1_high, word) + last4, np.uint64(lanes[lane, WORD_1])
    )
    # Sparse: without the last byte; bytes 2 and 4 back; 3 and 4; 1 and 3.
    hashes[12] = hash_pair(np.uint64(12), last8 & np.uint64(0xFFFF00))
    hashes[13] = hash_pair(np.uint64(13), last8 & np.uint64(0xFF00FF00))
    hashes[14] = hash_pair(np.uint64(14), last8 & np.uint64(0xFFFF0000))
    hashes[15] = hash_pair(np.uint64(15), last8 & np.uint64(0xFF00FF))
    # Layout: the byte above with the last byte, and with the column; how the line begins, with
    # the word; the classes of the last eight bytes.
    hashes[16] = hash_pair(np.uint64(16) + above, c1)
    hashes[17] = hash_pair(np.uint64(17) + above, column)
    hashes[18] = hash_pair(np.uint64(18) + np.uint64(lanes[lane, LINE_HEAD]) * _WORD_K, word)
    hashes[19] = hash_pair(np.uint64(19), np.uint64(lanes[lane, CLASSES]))
    # Indirect: what followed the last occurrences of this byte, and of this pair.
    hashes[20] = hash_pair(np.uint64(20) + c1_high, after_byte & np.uint64(0xFFFF))
    hashes[21] = hash_pair(np.uint64(21) + c1_high, after_pair & np.uint64(0xFFFFFF))
    # Syntax: the brackets awaited with the word, the innermost with the last bytes; the classes
    # of the last runs; the field so far and its number in the line.
    brackets = np.uint64(lanes[lane, BRACKETS]) << _U8
    hashes[22] = hash_pair(np.uint64(22) + (brackets & np.uint64(0xFFFFFF00)), word)
    hashes[23] = hash_pair(np.uint64(23) + (brackets & np.uint64(0xFF00)), last2)
    hashes[24] = hash_pair(np.uint64(24) + c1_high, np.uint64(lanes[lane, SHAPE]))
    hashes[25] = hash_pair(
        np.uint64(25) + (np.uint64(lanes[lane, FIELD_NUMBER]) << _U8),
        np.uint64(lanes[lane, FIELD]),
    )
    # The match model's byte, with the match length, and with the last byte.
    hashes[26] = hash_pair(np.uint64(26) + (length << _U8), match)
    hashes[27] = hash_pair(np.uint64(27) + c1_high, match)
    # Records: the bytes one stride back and beside it, with the last byte or the column.
    stride = lanes[lane, STRIDE]
    back = byte_back(data, lanes, lane, stride)
    beside = byte_back(data, lanes, lane, stride - 1)
    before = byte_back(data, lanes, lane, stride + 1)
    twice = byte_back(data, lanes, lane, 2 * stride)
    hashes[28] = hash_pair(np.uint64(28) + c1_high, back | before << _U8 | beside << np.uint64(16))
    hashes[29] = hash_pair(
        np.uint64(29) + (back << _U8) + (twice << np.uint64(16)),
        np.uint64(lanes[lane, POSITION] % stride) | np.uint64(stride << 16),
    )
    if binary == 1:
        _hash_binary_contexts(last8, back, before, twice, lanes[lane, POSITION], stride, hashes)


@kernel(inline=True)
def _hash_binary_contexts(last8, back, before, twice, position, stride, hashes):
    """Put contexts of records and of scattered bytes in the places of words, lines and fields.

    ``back`` and ``twice`` are the bytes one and two strides back, ``before`` the one before back.
    """
    c1 = last8 & np.uint64(0xFF)
    last2 = last8 & np.uint64(0xFFFF)
    column = np.uint64(position % stride)
    # What the byte would be if rows and columns of records rose evenly, or if records did.
    level = (back + c1 - before) & np.uint64(0xFF)
    line = (back + back - twice) & np.uint64(0xFF)
    hashes[7] = hash_pair(np.uint64(7), last8 & np.uint64(0xFF0000FF))
    hashes[8] = hash_pair(np.uint64(8) + (column << _U8), c1)
    hashes[9] = hash_pair(np.uint64(9), level)
    hashes[10] = hash_pair(np.uint64(10) + (level << _U8), back)
    hashes[11] = hash_pair(np.uint64(11) + (np.uint64(position & 3) << _U8), last2)
    hashes[18] = hash_pair(np.uint64(18), last8 & np.uint64(0xF0F0F0F0))
    hashes[22] = hash_pair(np.uint64(22) + (back << _U8), c1)
    hashes[23] = hash_pair(np.uint64(23) + (back << _U8), last2)
    hashes[24] = hash_pair(np.uint64(24) + (line << _U8), c1)
    hashes[25] = hash_pair(np.uint64(25), last8 & np.uint64(0xFFFFFFFF00))


@kernel()
def hash_token_contexts(data, lanes, lane, depth, hashes):
    """Put n-grams of tokens in the places of records: the token so far with one and two before.

    They know what those of bytes do not: where the token began, ``depth`` bytes ago.
    """
    kept = np.uint64(8 * (8 - min(depth, 8)))
    token = _last_eight(data, lanes, lane) << kept if depth > 0 else np.uint64(0)
    number = np.uint64(min(depth, 15)) << _U8
    token_1 = np.uint64(lanes[lane, TOKEN_1])
    token_2 = np.uint64(lanes[lane, TOKEN_2])
    hashes[28] = hash_pair(hash_pair(np.uint64(28) + number, token), token_1)
    hashes[29] = hash_pair(hash_pair(np.uint64(29) + number, token) + token_2 * _WORD_K, token_1)


@kernel(inline=True)
def advance_token(lanes, lane, leaf):
    """Take the leaf of a token that is complete into the memory of the lane."""
    lanes[lane, TOKEN_2] = lanes[lane, TOKEN_1]
    lanes[lane, TOKEN_1] = leaf + 1


@kernel(inline=True)
def _vote_stride(lanes, lane, strides, byte, previous):
    """Count the distance to the byte's last occurrence; the lane follows the front-runner."""
    position = lanes[lane, POSITION]
    pair = byte | previous << 8
    distance = position + 1 - strides.last_seen[pair]
    strides.last_seen[pair] = position + 1
    if byte == previous or distance < MIN_STRIDE or distance >= MAX_STRIDE:
        return
    votes = strides.votes
    votes[distance] += _VOTE
    if votes[distance] > votes[lanes[lane, STRIDE]]:
        lanes[lane, STRIDE] = distance
    if votes[distance] > _VOTE_LIMIT:
        for i in range(MAX_STRIDE):
            votes[i] >>= 1


@kernel(inline=True)
def advance_prose(lanes, lane, byte):
    """Take a byte (int64) into the words of the lane, and into its bytes with lines unbroken."""
    last8 = lanes[lane, PROSE]
    unbroken = _SPACE_BYTE if byte == _NEWLINE and _PROSE_END[last8 & 255] else byte
    lanes[lane, PROSE] = last8 << 8 | unbroken
    letter = np.uint64(_WORD_LETTER[byte])
    if letter != np.uint64(0):
        word = (np.uint64(lanes[lane, WORD]) + letter) * _WORD_K
        lanes[lane, WORD] = np.int64(word >> np.uint64(1))
    elif lanes[lane, WORD] != 0:
        lanes[lane, WORD_2] = lanes[lane, WORD_1]
        lanes[lane, WORD_1] = lanes[lane, WORD]
        lanes[lane, WORD] = 0


@kernel(inline=True)
def _advance_syntax(lanes, lane, byte):
    """Take a byte (int64) into the brackets, the field and the shape of the lane."""
    closer = _BRACKETS[byte]
    awaited = lanes[lane, BRACKETS]
    if closer > 0:
        lanes[lane, BRACKETS] = (awaited << 8 | closer) & 0xFFFFFFFFFFFFFF
    elif closer < 0 and awaited & 255 == byte:
        lanes[lane, BRACKETS] = awaited >> 8
    if _SEPARATORS[byte]:
        lanes[lane, FIELD] = byte
        number = min(lanes[lane, FIELD_NUMBER] + 1, 255)
        lanes[lane, FIELD_NUMBER] = 0 if byte == _NEWLINE else number
    else:
        field = (np.uint64(lanes[lane, FIELD]) + np.uint64(byte + 1)) * _WORD_K
        lanes[lane, FIELD] = np.int64(field >> np.uint64(1))
    if BYTE_CLASS[byte] != lanes[lane, SHAPE] & 15:
        lanes[lane, SHAPE] = (lanes[lane, SHAPE] << 4 | BYTE_CLASS[byte]) & 0xFFFFFFFF


@kernel()
def advance(data, lanes, lane, followers, strides):
    """Take the byte at the lane's position into its memory (all but the match) and step on."""
    position = lanes[lane, POSITION]
    byte = np.int64(data[position])
    c1 = np.int64(byte_back(data, lanes, lane, 1))
    pair = c1 | np.int64(byte_back(data, lanes, lane, 2)) << 8
    followers.of_byte[c1] = (followers.of_byte[c1] << np.uint32(8)) | np.uint32(byte)
    followers.of_pair[pair] = (followers.of_pair[pair] << np.uint32(8)) | np.uint32(byte)
    _vote_stride(lanes, lane, strides, byte, c1)
    advance_prose(lanes, lane, byte)
    if byte == _NEWLINE:
        lanes[lane, LINE_ABOVE] = lanes[lane, LINE_START]
        lanes[lane, LINE_START] = position + 1
    lanes[lane, CLASSES] = ((lanes[lane, CLASSES] << 4) | BYTE_CLASS[byte]) & 0xFFFFFFFF
    lanes[lane, POSITION] = position + 1
    if position - lanes[lane, LINE_START] < 3 and byte != _NEWLINE:
        lanes[lane, LINE_HEAD] = ((lanes[lane, LINE_HEAD] << 8) | byte) & 0xFFFFFF
    _advance_syntax(lanes, lane, byte)
