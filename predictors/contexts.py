"""The contexts: what is hashed from a lane's memory to look up what followed before.

A layout has two lists, of text and of binary data, each a table of families; a family is a kernel
that puts its contexts one after another. A context's number is its place in the full list, and its
salt. The first of a list are special: so many look into the primed table, have runs, are orders.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from nczip.coder.jit import kernel
from nczip.predictors.memory import (
    ABOVE_AGREES,
    BRACKETS,
    CLASSES,
    FIELD,
    FIELD_ABOVE,
    FIELD_NUMBER,
    FIRST_WORD,
    INDENT,
    INITIALS,
    LINE_HEAD,
    LINE_SHAPE,
    LINE_START,
    MASKED,
    MASKED_LINE,
    MATCH_LENGTH,
    POSITION,
    PROSE,
    PUNCTUATION,
    SHAPE,
    STRIDE,
    TAG,
    TOKEN_1,
    TOKEN_2,
    WORD,
    WORD_1,
    WORD_2,
    WORD_K,
    WORD_LENGTHS,
    WORD_MISSES,
    WORD_POINTER,
    byte_above,
    byte_back,
    four_row,
    last_eight,
    shape_row,
    three_row,
    word_row,
)
from nczip.predictors.table import hash_pair

PRIMED_CONTEXTS = 10  #: contexts of the primed table: orders 1 to 6 and 8, three of words

_MOST_LENGTH = 31
_K2 = np.uint64(0x9E3779B97F4A7C15)
_U8 = np.uint64(8)
_U16 = np.uint64(16)
_U20 = np.uint64(20)
_U24 = np.uint64(24)
_ZERO = np.uint64(0)
_ONE_BYTE = np.uint64(0xFF)
_TWO_BYTES = np.uint64(0xFFFF)
_THREE_BYTES = np.uint64(0xFFFFFF)
_FOUR_BYTES = np.uint64(0xFFFFFFFF)


class Reader(NamedTuple):
    """A lane whose words alone are remembered: what the primed contexts need."""

    data: Any  #: uint8[n]
    lanes: Any  #: int64[lanes, columns]
    lane: int


class Past(NamedTuple):
    """What more than one family is made of; uint64 but for the first five."""

    data: Any
    lanes: Any
    lane: int
    depth: int
    position: int
    last8: int  #: the last eight bytes, the newest in the low byte
    c1: int  #: the last byte
    last2: int  #: the last two
    match: int  #: the match model's byte + 256, or 0
    length: int  #: of the match, at most 31
    word: int
    classes: int
    shape: int
    column: int
    above: int  #: the byte above
    stride: int
    back: int  #: the byte one stride back
    beside: int  #: the one behind it
    before: int  #: the one before it
    twice: int  #: the byte two strides back
    after_byte: int  #: what followed the last byte, newest in the low byte
    after_pair: int  #: the last two
    after_three: int
    after_four: int
    after_word: int  #: the word so far, or the one before
    after_shape: int  #: the last runs
    word_again: int  #: see :func:`_word_again`


@kernel(inline=True)
def _gather(block, byte):
    """The :class:`Past` of the lane's next byte."""
    data, lanes, lane = block.data, block.lanes, byte.lane
    followers = block.followers
    last8 = last_eight(data, lanes, lane)
    position = lanes[lane, POSITION]
    stride = lanes[lane, STRIDE]
    return Past(
        data,
        lanes,
        lane,
        byte.depth,
        position,
        last8,
        last8 & _ONE_BYTE,
        last8 & _TWO_BYTES,
        np.uint64(byte.expected),
        np.uint64(min(lanes[lane, MATCH_LENGTH], _MOST_LENGTH)),
        np.uint64(lanes[lane, WORD]),
        np.uint64(lanes[lane, CLASSES]),
        np.uint64(lanes[lane, SHAPE]),
        np.uint64(position - lanes[lane, LINE_START]),
        byte_above(data, lanes, lane),
        np.uint64(stride),
        byte_back(data, lanes, lane, stride),
        byte_back(data, lanes, lane, stride - 1),
        byte_back(data, lanes, lane, stride + 1),
        byte_back(data, lanes, lane, 2 * stride),
        np.uint64(followers.of_byte[last8 & _ONE_BYTE]),
        np.uint64(followers.of_pair[last8 & _TWO_BYTES]),
        np.uint64(followers.of_three[three_row(last8)]),
        np.uint64(followers.of_four[four_row(lanes, lane)]),
        np.uint64(followers.of_word[word_row(lanes, lane)]),
        np.uint64(followers.of_shape[shape_row(lanes, lane)]),
        _word_again(data, lanes, lane),
    )


@kernel(inline=True)
def _word_again(data, lanes, lane):
    """What came here behind the last word's last occurrence, and how often that was wrong."""
    pointer = lanes[lane, WORD_POINTER]
    if pointer == 0:
        return np.uint64(0)
    return (np.uint64(data[pointer]) + np.uint64(1)) << _U8 | np.uint64(lanes[lane, WORD_MISSES])


@kernel(inline=True)
def _put(hashes, n, a, b):
    """Context ``n`` is the pair (a, b) of uint64, the upper byte of a lost; returns n + 1.

    The number in a's low byte keeps contexts with the same contents apart.
    """
    hashes[n] = hash_pair(a << _U8 | np.uint64(n), b)
    return n + 1


@kernel(inline=True)
def _put_as(hashes, n, salt, a, b):
    """The same for the context that has another number in the full list."""
    hashes[n] = hash_pair(a << _U8 | np.uint64(salt), b)
    return n + 1


@kernel(inline=True)
def _put_orders_of(hashes, n, c1, last8):
    """Orders 1 to 6 and 8 of a last byte and of the last eight."""
    n = _put(hashes, n, _ZERO, c1)
    n = _put(hashes, n, _ZERO, last8 & _TWO_BYTES)
    n = _put(hashes, n, _ZERO, last8 & _THREE_BYTES)
    n = _put(hashes, n, _ZERO, last8 & _FOUR_BYTES)
    n = _put(hashes, n, _ZERO, last8 & np.uint64(0xFFFFFFFFFF))
    n = _put(hashes, n, _ZERO, last8 & np.uint64(0xFFFFFFFFFFFF))
    return _put(hashes, n, _ZERO, last8)


@kernel(inline=True)
def _put_followers_with_run(hashes, n, past):
    """What followed three bytes, four bytes and a pair, with the class of the last run."""
    run = past.shape & _ONE_BYTE
    n = _put(hashes, n, past.after_three & _THREE_BYTES, run)
    n = _put(hashes, n, past.after_four & _TWO_BYTES, run)
    return _put(hashes, n, past.after_pair & _TWO_BYTES, run)


# Families of text.


@kernel(inline=True)
def _put_orders(hashes, n, past):
    """Orders 1 to 6 and 8; all but order 1 see a space where a line of prose is broken: files are
    broken at some column, what is known of the language does not depend on it."""
    c1 = byte_back(past.data, past.lanes, past.lane, 1)
    return _put_orders_of(hashes, n, c1, np.uint64(past.lanes[past.lane, PROSE]))


@kernel(inline=True)
def _put_primed_words(hashes, n, past):
    """The word so far: alone, with the word before, and with the two before."""
    lanes, lane = past.lanes, past.lane
    c1 = np.uint64(lanes[lane, PROSE]) & _ONE_BYTE
    word = np.uint64(lanes[lane, WORD])
    word_1 = np.uint64(lanes[lane, WORD_1])
    word_2 = np.uint64(lanes[lane, WORD_2])
    n = _put(hashes, n, c1, word)
    n = _put(hashes, n, hash_pair(c1, word), word_1)
    return _put(hashes, n, hash_pair(c1, word) + word_2 * WORD_K, word_1)


@kernel(inline=True)
def _put_words(hashes, n, past):
    """Words beyond those that a primer teaches."""
    lanes, lane = past.lanes, past.lane
    c1, word, again = past.c1, past.word, past.word_again
    # The word so far with the word before the last, and with the last one and the last bytes.
    n = _put(hashes, n, hash_pair(c1, word), np.uint64(lanes[lane, WORD_2]))
    last_word = np.uint64(lanes[lane, WORD_1])
    n = _put(hashes, n, hash_pair(c1, word) + (past.last8 & _FOUR_BYTES), last_word)
    # What came behind the last word before: with the word, what followed the word, the last run.
    n = _put(hashes, n, again, word)
    n = _put(hashes, n, again, past.after_word & _ONE_BYTE)
    n = _put(hashes, n, again, past.shape & _ONE_BYTE)
    # The initials of four words with the last byte; the lengths of four words.
    n = _put(hashes, n, c1, np.uint64(lanes[lane, INITIALS]) & _FOUR_BYTES)
    return _put(hashes, n, _ZERO, np.uint64(lanes[lane, WORD_LENGTHS]) & _TWO_BYTES)


@kernel(inline=True)
def _put_sparse(hashes, n, past):
    """Some of the last bytes: without the last; 2 and 4 back; 3 and 4; 1 and 3; the one before the
    last; the last six with their numbers masked; none at all."""
    last8 = past.last8
    n = _put(hashes, n, _ZERO, last8 & np.uint64(0xFFFF00))
    n = _put(hashes, n, _ZERO, last8 & np.uint64(0xFF00FF00))
    n = _put(hashes, n, _ZERO, last8 & np.uint64(0xFFFF0000))
    n = _put(hashes, n, _ZERO, last8 & np.uint64(0xFF00FF))
    n = _put(hashes, n, _ZERO, last8 & np.uint64(0xFF00))
    masked = np.uint64(past.lanes[past.lane, MASKED])
    n = _put(hashes, n, _ZERO, masked & np.uint64(0xFFFFFFFFFFFF))
    return _put(hashes, n, _ZERO, _ZERO)


@kernel(inline=True)
def _field_above(past):
    """What comes next in the field above, + 1; 0 at its end."""
    above = past.lanes[past.lane, FIELD_ABOVE]
    if above < past.lanes[past.lane, LINE_START]:
        return np.uint64(past.data[above]) + np.uint64(1)
    return np.uint64(0)


@kernel(inline=True)
def _put_layout(hashes, n, past):
    """Where in a line the byte stands: beginnings, the line above, the field above."""
    lanes, lane = past.lanes, past.lane
    c1, word, column, above = past.c1, past.word, past.column, past.above
    # The byte above with the last byte, the column, the word, the match.
    n = _put(hashes, n, above, c1)
    n = _put(hashes, n, above, column)
    n = _put(hashes, n, above, word)
    n = _put(hashes, n, above, past.match | column << _U16)
    # How the line begins, with the word; the blanks that begin it, with the word.
    n = _put(hashes, n, np.uint64(lanes[lane, LINE_HEAD]) * WORD_K, word)
    n = _put(hashes, n, np.uint64(lanes[lane, INDENT]), word)
    # The line so far, numbers masked, with the last byte, or with the word.
    masked_line = np.uint64(lanes[lane, MASKED_LINE])
    n = _put(hashes, n, c1, masked_line)
    n = _put(hashes, n, word, masked_line)
    # The line's first word with the word, or with the column.
    first_word = np.uint64(lanes[lane, FIRST_WORD])
    n = _put(hashes, n, c1 + word * _K2, first_word)
    n = _put(hashes, n, column, first_word)
    # The field above, if so far it is the same: with the field's number, the last run, the field.
    number = np.uint64(lanes[lane, FIELD_NUMBER])
    agrees = np.uint64(lanes[lane, ABOVE_AGREES])
    field_above = _field_above(past)
    n = _put(hashes, n, field_above | number << _U16, agrees)
    n = _put(hashes, n, field_above, past.shape & _ONE_BYTE | agrees << _U20)
    return _put(hashes, n, field_above, np.uint64(lanes[lane, FIELD]) + agrees)


@kernel(inline=True)
def _put_syntax(hashes, n, past):
    """Brackets, fields, tags and punctuation."""
    lanes, lane = past.lanes, past.lane
    c1, word = past.c1, past.word
    # The brackets awaited with the word, the innermost with the last bytes; all of them with the
    # classes of the last bytes.
    awaited = np.uint64(lanes[lane, BRACKETS])
    n = _put(hashes, n, awaited & _THREE_BYTES, word)
    n = _put(hashes, n, awaited & _ONE_BYTE, past.last2)
    n = _put(hashes, n, _ZERO, awaited * _K2 + past.classes)
    # The field so far and its number in the line; the last tag with the word.
    tag = np.uint64(lanes[lane, TAG])
    n = _put(hashes, n, np.uint64(lanes[lane, FIELD_NUMBER]), np.uint64(lanes[lane, FIELD]))
    n = _put(hashes, n, c1 + word * _K2, tag)
    # The last two, three and six bytes of punctuation: with the tag, the bracket, alone; the word.
    points = np.uint64(lanes[lane, PUNCTUATION])
    n = _put(hashes, n, tag * _K2, points & _TWO_BYTES)
    n = _put(hashes, n, awaited & _ONE_BYTE, points & _THREE_BYTES)
    n = _put(hashes, n, _ZERO, points & np.uint64(0xFFFFFFFFFFFF))
    return _put(hashes, n, c1 + word * _K2, points & _TWO_BYTES)


@kernel(inline=True)
def _put_shapes(hashes, n, past):
    """What kinds of bytes came last, one by one (classes) or in runs (shapes)."""
    lanes, lane = past.lanes, past.lane
    c1, word, shape, classes = past.c1, past.word, past.shape, past.classes
    # The last eight classes alone, and with the last byte; fewer with two bytes, the word, the byte
    # above.
    n = _put(hashes, n, _ZERO, classes)
    n = _put(hashes, n, c1, classes)
    n = _put(hashes, n, past.last2, classes & _THREE_BYTES)
    n = _put(hashes, n, word, classes & _TWO_BYTES)
    n = _put(hashes, n, past.above, classes & _THREE_BYTES)
    # The runs with the last byte, with the word, alone, with the field's number; the line's so far
    # alone, and with the word; the runs with the byte above, the column, the match.
    line_shape = np.uint64(lanes[lane, LINE_SHAPE])
    n = _put(hashes, n, c1, shape)
    n = _put(hashes, n, word * _K2, shape & _THREE_BYTES)
    n = _put(hashes, n, _ZERO, shape)
    n = _put(hashes, n, np.uint64(lanes[lane, FIELD_NUMBER]), shape & _THREE_BYTES)
    n = _put(hashes, n, _ZERO, line_shape)
    n = _put(hashes, n, word, line_shape)
    n = _put(hashes, n, past.above, shape & _TWO_BYTES)
    n = _put(hashes, n, past.column, shape & _TWO_BYTES)
    return _put(hashes, n, past.match, shape & _TWO_BYTES)


@kernel(inline=True)
def _put_indirect(hashes, n, past):
    """What followed the last occurrences of what came last."""
    c1, last2, match = past.c1, past.last2, past.match
    after_pair, after_three, after_four = past.after_pair, past.after_three, past.after_four
    after_word = past.after_word
    # What followed this byte, this pair, three bytes, the word, four bytes.
    n = _put(hashes, n, c1, past.after_byte & _TWO_BYTES)
    n = _put(hashes, n, c1, after_pair & _THREE_BYTES)
    n = _put(hashes, n, c1, after_three & _TWO_BYTES)
    n = _put(hashes, n, c1, after_word & _TWO_BYTES)
    n = _put(hashes, n, after_four & _ONE_BYTE, last2)
    n = _put(hashes, n, past.word * WORD_K, after_pair & _ONE_BYTE)
    # The newest that followed three bytes and a pair, with the match; and that followed four,
    # three, a pair and the word; what followed the last runs.
    pairs = (after_three & _ONE_BYTE) << _U16 | (after_pair & _ONE_BYTE) << _U8
    word_too = (after_word & _ONE_BYTE) << _U24
    n = _put(hashes, n, match, pairs)
    n = _put(hashes, n, after_four & _ONE_BYTE, pairs | word_too)
    n = _put(hashes, n, past.after_shape & _THREE_BYTES, c1)
    return _put_followers_with_run(hashes, n, past)


@kernel(inline=True)
def _put_match(hashes, n, past):
    """The match model's byte with its length, the last byte, the last two, the word, the last four
    classes, what followed four bytes."""
    match = past.match
    n = _put(hashes, n, past.length, match)
    n = _put(hashes, n, past.c1, match)
    n = _put(hashes, n, past.last2, match)
    n = _put(hashes, n, past.word, match)
    n = _put(hashes, n, match, past.classes & _TWO_BYTES)
    return _put(hashes, n, match, past.after_four & _TWO_BYTES)


@kernel(inline=True)
def _put_records_or_tokens(hashes, n, past):
    """The bytes one stride back and beside it, with the last byte or the column; in tokens instead
    the token so far, with one token before and with two.

    N-grams of tokens know what those of bytes do not: where the token began, ``depth`` bytes ago.
    """
    if past.depth < 0:
        around = past.back | past.before << _U8 | past.beside << _U16
        n = _put(hashes, n, past.c1, around)
        row = np.uint64(past.position % np.int64(past.stride))
        return _put(hashes, n, past.back | past.twice << _U8, row | past.stride << _U16)
    kept = np.uint64(8 * (8 - min(past.depth, 8)))
    token = past.last8 << kept if past.depth > 0 else np.uint64(0)
    number = np.uint64(min(past.depth, 15))
    token_1 = np.uint64(past.lanes[past.lane, TOKEN_1])
    token_2 = np.uint64(past.lanes[past.lane, TOKEN_2])
    n = _put(hashes, n, hash_pair(number, token), token_1)
    return _put(hashes, n, hash_pair(number, token) + token_2 * WORD_K, token_1)


# Families of binary data.


@kernel(inline=True)
def _put_byte_orders(hashes, n, past):
    """Orders 1 to 6 and 8."""
    return _put_orders_of(hashes, n, past.c1, past.last8)


@kernel(inline=True)
def _rising(past):
    """What the byte would be if rows and columns of records rose evenly, if records did, or bytes.

    Three uint64 below 256.
    """
    c2 = past.last8 >> _U8 & _ONE_BYTE
    level = (past.back + past.c1 - past.before) & _ONE_BYTE
    line = (past.back + past.back - past.twice) & _ONE_BYTE
    slope = (past.c1 + past.c1 - c2) & _ONE_BYTE
    return level, line, slope


@kernel(inline=True)
def _put_running_records(hashes, n, past):
    """The contexts of records that have runs, and the one by which weights are chosen."""
    level, _, _ = _rising(past)
    row = np.uint64(past.position % np.int64(past.stride))
    n = _put(hashes, n, _ZERO, past.last8 & np.uint64(0xFF0000FF))
    n = _put(hashes, n, row, past.c1)
    n = _put(hashes, n, _ZERO, level)
    n = _put(hashes, n, level, past.back)
    n = _put(hashes, n, np.uint64(past.position & 3), past.last2)
    return _put(hashes, n, past.beside, past.back | past.last2 << _U8)


@kernel(inline=True)
def _put_records(hashes, n, past):
    """The bytes around those one and two records back, the place in the record, even rises."""
    level, line, slope = _rising(past)
    c1, back, twice = past.c1, past.back, past.twice
    row = np.uint64(past.position % np.int64(past.stride))
    n = _put(hashes, n, back, c1)
    n = _put(hashes, n, back, past.last2)
    n = _put(hashes, n, line, c1)
    n = _put(hashes, n, back, twice)
    n = _put(hashes, n, row, _ZERO)
    around = past.beside << _U8 | past.before << _U16 | c1 << _U24
    n = _put(hashes, n, back, twice | around)
    n = _put(hashes, n, line, back)
    n = _put(hashes, n, row, back)
    n = _put(hashes, n, level, back | c1 << _U8)
    return _put(hashes, n, _ZERO, slope)


@kernel(inline=True)
def _put_scattered(hashes, n, past):
    """Some of the last bytes, whole and their upper bits; none at all."""
    last8 = past.last8
    n = _put(hashes, n, _ZERO, last8 & np.uint64(0xFFFF00))
    n = _put(hashes, n, _ZERO, last8 & np.uint64(0xFF00FF00))
    n = _put(hashes, n, _ZERO, last8 & np.uint64(0xFFFF0000))
    n = _put(hashes, n, _ZERO, last8 & np.uint64(0xFF00FF))
    n = _put(hashes, n, _ZERO, last8 & np.uint64(0xFF00))
    n = _put(hashes, n, _ZERO, last8 & np.uint64(0xFF0000))
    n = _put(hashes, n, _ZERO, last8 & np.uint64(0xFF000000))
    n = _put(hashes, n, _ZERO, last8 & np.uint64(0xFF000000FF))
    n = _put(hashes, n, _ZERO, last8 & np.uint64(0xFF00000000FF))
    n = _put(hashes, n, _ZERO, last8 & np.uint64(0xFFFF00FF))
    n = _put(hashes, n, _ZERO, last8 & np.uint64(0xFFFFFF0000))
    n = _put(hashes, n, _ZERO, last8 & np.uint64(0xFF00FFFFFF))
    n = _put(hashes, n, _ZERO, last8 & np.uint64(0xFFFFFFFF00))
    n = _put(hashes, n, _ZERO, last8 & np.uint64(0xFF000000FF00))
    n = _put(hashes, n, _ZERO, last8 & np.uint64(0xF0F0F0F0))
    n = _put(hashes, n, _ZERO, last8 & np.uint64(0xF8F8F8F8F8))
    n = _put(hashes, n, _ZERO, last8 & np.uint64(0xF0F0F0F0F0F0))
    n = _put(hashes, n, _ZERO, last8 & np.uint64(0xE0E0E0E0E0E0E0E0))
    return _put(hashes, n, _ZERO, _ZERO)


@kernel(inline=True)
def _put_parities(hashes, n, past):
    """Words of two and four bytes: some of the last bytes with the position's lowest bits."""
    last8 = past.last8
    even, quarter = np.uint64(past.position & 1), np.uint64(past.position & 3)
    n = _put(hashes, n, even, past.last2)
    n = _put(hashes, n, quarter, last8 >> _U24 & _TWO_BYTES)
    n = _put(hashes, n, even, last8 & np.uint64(0xF0F0F0F0))
    n = _put(hashes, n, even, last8 & np.uint64(0xFF00FF00))
    return _put(hashes, n, even, past.classes & _TWO_BYTES)


@kernel(inline=True)
def _put_byte_layout(hashes, n, past):
    """Lines, for there are some in many binary files, and classes and runs of bytes."""
    c1, classes, shape = past.c1, past.classes, past.shape
    n = _put(hashes, n, past.above, c1)
    n = _put(hashes, n, past.above, past.column)
    n = _put(hashes, n, past.column, c1)
    n = _put(hashes, n, _ZERO, classes)
    n = _put(hashes, n, c1, classes)
    return _put(hashes, n, c1, shape & _THREE_BYTES)


@kernel(inline=True)
def _put_byte_indirect(hashes, n, past):
    """What followed the last occurrences of what came last."""
    c1, match = past.c1, past.match
    after_byte, after_pair, after_three = past.after_byte, past.after_pair, past.after_three
    after_four, after_word = past.after_four, past.after_word
    even = np.uint64(past.position & 1)
    # What followed this byte, this pair, three bytes, four bytes, the last runs.
    n = _put(hashes, n, c1, after_byte & _TWO_BYTES)
    n = _put(hashes, n, c1, after_pair & _THREE_BYTES)
    n = _put(hashes, n, c1, after_three & _TWO_BYTES)
    n = _put(hashes, n, c1, after_four & _TWO_BYTES)
    n = _put(hashes, n, past.after_shape & _THREE_BYTES, c1)
    # A pair and a byte, with the parity of the position or alone.
    n = _put(hashes, n, even, after_pair & _TWO_BYTES)
    n = _put(hashes, n, _ZERO, after_pair)
    n = _put(hashes, n, after_byte & _THREE_BYTES, even)
    # The newest of several.
    three, pair = (after_three & _ONE_BYTE) << _U16, (after_pair & _ONE_BYTE) << _U8
    four, word = after_four & _ONE_BYTE, (after_word & _ONE_BYTE) << _U24
    n = _put(hashes, n, match, three | pair)
    n = _put(hashes, n, four, three | pair | word)
    n = _put(hashes, n, match, three | four << _U8 | word)
    n = _put(hashes, n, _ZERO, three | pair | after_byte & _ONE_BYTE)
    return _put_followers_with_run(hashes, n, past)


@kernel(inline=True)
def _put_byte_match(hashes, n, past):
    """The match model's byte with its length, the last bytes, the position, the records."""
    match, last8 = past.match, past.last8
    n = _put(hashes, n, past.length, match)
    n = _put(hashes, n, past.c1, match)
    n = _put(hashes, n, past.last2, match)
    n = _put(hashes, n, match, past.classes & _TWO_BYTES)
    n = _put(hashes, n, match, past.after_four & _TWO_BYTES)
    n = _put(hashes, n, last8 & _FOUR_BYTES, match + past.length)
    n = _put(hashes, n, match, np.uint64(past.position & 3))
    n = _put(hashes, n, match, last8 & np.uint64(0xFF00))
    n = _put(hashes, n, match, past.back | past.beside << _U16)
    return _put(hashes, n, past.word_again, match)


# Families of lighter layouts. Contexts keep their numbers in the full lists: the primed ones must.


@kernel(inline=True)
def _put_orders_6_4_3_2_of(hashes, n, last8):
    n = _put_as(hashes, n, 5, _ZERO, last8 & np.uint64(0xFFFFFFFFFFFF))
    n = _put_as(hashes, n, 3, _ZERO, last8 & _FOUR_BYTES)
    n = _put_as(hashes, n, 2, _ZERO, last8 & _THREE_BYTES)
    return _put_as(hashes, n, 1, _ZERO, last8 & _TWO_BYTES)


@kernel(inline=True)
def _put_orders_6_4_3_2(hashes, n, past):
    """Orders 6, 4, 3 and 2 of unbroken lines."""
    return _put_orders_6_4_3_2_of(hashes, n, np.uint64(past.lanes[past.lane, PROSE]))


@kernel(inline=True)
def _put_byte_orders_6_4_3_2(hashes, n, past):
    """Orders 6, 4, 3 and 2."""
    return _put_orders_6_4_3_2_of(hashes, n, past.last8)


@kernel(inline=True)
def _put_word(hashes, n, past):
    """The word so far."""
    c1 = np.uint64(past.lanes[past.lane, PROSE]) & _ONE_BYTE
    return _put_as(hashes, n, 7, c1, past.word)


@kernel(inline=True)
def _put_more_words(hashes, n, past):
    """The word so far with the word before, and with the two before."""
    lanes, lane = past.lanes, past.lane
    c1 = np.uint64(lanes[lane, PROSE]) & _ONE_BYTE
    word_1 = np.uint64(lanes[lane, WORD_1])
    word_2 = np.uint64(lanes[lane, WORD_2])
    n = _put_as(hashes, n, 8, hash_pair(c1, past.word), word_1)
    return _put_as(hashes, n, 9, hash_pair(c1, past.word) + word_2 * WORD_K, word_1)


@kernel(inline=True)
def _put_orders_1_8(hashes, n, past):
    """Orders 1, and 8 of unbroken lines."""
    n = _put_as(hashes, n, 0, _ZERO, past.c1)
    return _put_as(hashes, n, 6, _ZERO, np.uint64(past.lanes[past.lane, PROSE]))


@kernel(inline=True)
def _put_byte_orders_1_8(hashes, n, past):
    """Orders 1 and 8."""
    n = _put_as(hashes, n, 0, _ZERO, past.c1)
    return _put_as(hashes, n, 6, _ZERO, past.last8)


@kernel(inline=True)
def _put_gap_above_classes(hashes, n, past):
    """The two bytes before the last; the byte above with the last, the column, the word; the
    classes of the last eight with the last."""
    n = _put_as(hashes, n, 17, _ZERO, past.last8 & np.uint64(0xFFFF00))
    n = _put_as(hashes, n, 24, past.above, past.c1)
    n = _put_as(hashes, n, 25, past.above, past.column)
    n = _put_as(hashes, n, 26, past.above, past.word)
    return _put_as(hashes, n, 47, past.c1, past.classes)


@kernel(inline=True)
def _put_record(hashes, n, past):
    """The byte one record back with the last."""
    return _put_as(hashes, n, 13, past.back, past.c1)


@kernel(inline=True)
def _put_more_records(hashes, n, past):
    """The bytes one record back, two back, and behind the one; the one with the last two."""
    n = _put_as(hashes, n, 16, past.back, past.twice | past.beside << _U8)
    return _put_as(hashes, n, 14, past.back, past.last2)


@kernel(inline=True)
def _put_gap_row_rise(hashes, n, past):
    """The two bytes before the last; the byte one record back with its place in the record, and
    with what the byte would be if rows and columns rose evenly; it, the one behind it and the last
    two; the byte two records back with the last."""
    level, _, _ = _rising(past)
    row = np.uint64(past.position % np.int64(past.stride))
    n = _put_as(hashes, n, 23, _ZERO, past.last8 & np.uint64(0xFFFF00))
    n = _put_as(hashes, n, 20, row, past.back)
    n = _put_as(hashes, n, 10, level, past.back)
    n = _put_as(hashes, n, 12, past.beside, past.back | past.last2 << _U8)
    return _put_as(hashes, n, 18, past.twice, past.c1)


class Family(NamedTuple):
    """Contexts of one kind."""

    name: str
    size: int
    put: Callable[..., Any]  #: ``put(hashes, n, past)`` fills so many places from n on


#: All contexts of text, and all of binary data, in their order.
TEXT = (
    Family("orders", 7, _put_orders),
    Family("words", 3, _put_primed_words),
    Family("words", 7, _put_words),
    Family("sparse", 7, _put_sparse),
    Family("layout", 13, _put_layout),
    Family("syntax", 9, _put_syntax),
    Family("shapes", 14, _put_shapes),
    Family("indirect", 12, _put_indirect),
    Family("match contexts", 6, _put_match),
    Family("records or tokens", 2, _put_records_or_tokens),
)
BINARY = (
    Family("orders", 7, _put_byte_orders),
    Family("records", 6, _put_running_records),
    Family("records", 10, _put_records),
    Family("sparse", 19, _put_scattered),
    Family("parities", 5, _put_parities),
    Family("layout", 6, _put_byte_layout),
    Family("indirect", 15, _put_byte_indirect),
    Family("match contexts", 10, _put_byte_match),
    Family("records or tokens", 2, _put_records_or_tokens),
)


def family_labels(families: tuple[Family, ...]) -> list[str]:
    """The family of each context."""
    return [family.name for family in families for _ in range(family.size)]


@dataclass(frozen=True)
class ContextLists:
    """The contexts of a layout, as many of text as of binary data."""

    text: tuple[Family, ...]
    binary: tuple[Family, ...]
    primed: int  #: so many of text, the first, look into the primed table
    runs: int  #: so many, the first, also say how often a byte has followed in a row
    orders: int  #: so many, the first, are the orders
    need_match: bool = False  #: whether what the match model expects is in some of them
    #: Weights are chosen by how much is known in these.
    text_confidence: tuple[int, ...] = ()
    binary_confidence: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        assert self.size == len(family_labels(self.binary)) < 256  # a number is a byte of salt
        assert self.orders <= self.runs <= self.size
        assert self.primed <= PRIMED_CONTEXTS
        assert len(self.text_confidence) == len(self.binary_confidence)

    @property
    def size(self) -> int:
        return len(family_labels(self.text))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the contexts as inputs: those of text, numbered within their family."""
        names: list[str] = []
        counts: dict[str, int] = {}
        for label in family_labels(self.text):
            counts[label] = counts.get(label, 0) + 1
            names.append(f"{label} {counts[label]}")
        return tuple(names)


#: Weights by orders 3, 5, 8 and the word, alone and with the one before; of binary data by orders
#: 2, 3, 5, 8 and the bytes around the one a record back.
FULL = ContextLists(
    TEXT,
    BINARY,
    primed=PRIMED_CONTEXTS,
    runs=12,
    orders=7,
    need_match=True,
    text_confidence=(2, 4, 6, 7, 8),
    binary_confidence=(1, 2, 4, 6, 12),
)


LIGHT = ContextLists(
    (Family("orders", 4, _put_orders_6_4_3_2), Family("words", 1, _put_word)),
    (Family("orders", 4, _put_byte_orders_6_4_3_2), Family("records", 1, _put_record)),
    primed=5,
    runs=3,
    orders=3,
)

#: Weights by orders 4 and 2 and the word, or the byte one record back with the last.
MEDIUM = ContextLists(
    (
        Family("orders", 4, _put_orders_6_4_3_2),
        Family("words", 1, _put_word),
        Family("words", 2, _put_more_words),
        Family("orders", 2, _put_orders_1_8),
        Family("surroundings", 5, _put_gap_above_classes),
    ),
    (
        Family("orders", 4, _put_byte_orders_6_4_3_2),
        Family("records", 1, _put_record),
        Family("records", 2, _put_more_records),
        Family("orders", 2, _put_byte_orders_1_8),
        Family("surroundings", 5, _put_gap_row_rise),
    ),
    primed=9,
    runs=5,
    orders=4,
    text_confidence=(1, 3, 4),
    binary_confidence=(1, 3, 4),
)


def _in_turn(families: tuple[Family, ...]) -> Callable[..., Any]:
    """One kernel ``put(hashes, past)`` that puts the contexts of all families."""
    calls: dict[str, Any] = {}
    lines = ["def put_all(hashes, past):", "    n = 0"]
    for place, family in enumerate(families):
        lines.append(f"    n = put_{place}(hashes, n, past)")
        calls[f"put_{place}"] = family.put
    exec("\n".join(lines), calls)
    put_all: Callable[..., Any] = kernel(spliced=True)(calls["put_all"])
    return put_all


@kernel(spliced=True)
def hash_primed_contexts(reader, hashes):
    """Fill the first PRIMED_CONTEXTS of ``hashes`` (uint64) for the Reader's next byte."""
    _put_primed_words(hashes, _put_orders(hashes, 0, reader), reader)


def hasher(lists: ContextLists) -> Any:
    """The kernel that fills ``hashes`` (uint64[lists.size]) for the lane's next byte."""
    put_text, put_binary = _in_turn(lists.text), _in_turn(lists.binary)

    @kernel(spliced=True)
    def hash_contexts(block, byte, hashes):
        past = _gather(block, byte)
        if block.binary == 1:
            put_binary(hashes, past)
        else:
            put_text(hashes, past)

    return hash_contexts
