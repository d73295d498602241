"""The contexts: what is hashed from a lane's memory to look up what followed before."""

import numpy as np

from nczip.coder.jit import kernel
from nczip.predictors.lanes import (
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
from nczip.predictors.ngram import hash_pair

CONTEXTS = 80
RUN_CONTEXTS = 12  #: so many of them, the first, also say how often a byte has followed in a row
PRIMED_CONTEXTS = 10  #: so many of them, the first, look into the primed table
ORDER_CONTEXTS = 7  #: so many of them, the first, are the orders

_K2 = np.uint64(0x9E3779B97F4A7C15)
_U8 = np.uint64(8)
_U16 = np.uint64(16)


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
    hashes[at + 9] = hash_pair(pair + word_2 * WORD_K, word_1)


@kernel()
def hash_contexts(data, lanes, lane, followers, expected, binary, hashes):
    """Fill ``hashes`` (uint64[CONTEXTS]) for the lane's next byte.

    ``expected`` is the match model's byte + 256, or 0 (int64); ``binary`` is 1 (int64) where words,
    lines and brackets mean nothing: other contexts stand in the places of 7 to 11, 18, 22 to 25, 30
    to 54 and 64 to 75.
    """
    hash_text_contexts(data, lanes, lane, hashes, 0)
    last8 = last_eight(data, lanes, lane)
    c1 = last8 & np.uint64(0xFF)
    last2 = last8 & np.uint64(0xFFFF)
    match = np.uint64(expected)
    after = _after(lanes, lane, last8, followers)
    stride = lanes[lane, STRIDE]
    back = byte_back(data, lanes, lane, stride)
    beside = byte_back(data, lanes, lane, stride - 1)
    before = byte_back(data, lanes, lane, stride + 1)
    twice = byte_back(data, lanes, lane, 2 * stride)

    # Sparse: without the last byte; bytes 2 and 4 back; 3 and 4; 1 and 3.
    hashes[12] = hash_pair(np.uint64(12), last8 & np.uint64(0xFFFF00))
    hashes[13] = hash_pair(np.uint64(13), last8 & np.uint64(0xFF00FF00))
    hashes[14] = hash_pair(np.uint64(14), last8 & np.uint64(0xFFFF0000))
    hashes[15] = hash_pair(np.uint64(15), last8 & np.uint64(0xFF00FF))
    # Layout: the byte above with the last byte, and with the column; the classes of the last eight.
    above = byte_above(data, lanes, lane) << _U8
    column = np.uint64(lanes[lane, POSITION] - lanes[lane, LINE_START])
    hashes[16] = hash_pair(np.uint64(16) + above, c1)
    hashes[17] = hash_pair(np.uint64(17) + above, column)
    hashes[19] = hash_pair(np.uint64(19), np.uint64(lanes[lane, CLASSES]))
    # The match model's byte, with the match length, and with the last byte.
    length = np.uint64(min(lanes[lane, MATCH_LENGTH], 31))
    hashes[26] = hash_pair(np.uint64(26) + (length << _U8), match)
    hashes[27] = hash_pair(np.uint64(27) + (c1 << _U8), match)
    # Records: the bytes one stride back and beside it, with the last byte or the column.
    hashes[28] = hash_pair(np.uint64(28) + (c1 << _U8), back | before << _U8 | beside << _U16)
    hashes[29] = hash_pair(
        np.uint64(29) + (back << _U8) + (twice << _U16),
        np.uint64(lanes[lane, POSITION] % stride) | np.uint64(stride << 16),
    )
    # The match model's byte with the last four classes, and with the last two bytes.
    classes = np.uint64(lanes[lane, CLASSES])
    hashes[59] = hash_pair(np.uint64(59) + match, classes & np.uint64(0xFFFF))
    hashes[60] = hash_pair(np.uint64(60) + (last2 << _U8), match)
    # Nothing at all; the byte before the last; the last byte with the classes of the last eight.
    hashes[61] = hash_pair(np.uint64(61), np.uint64(0))
    hashes[62] = hash_pair(np.uint64(62), last8 & np.uint64(0xFF00))
    hashes[63] = hash_pair(np.uint64(63) + (c1 << _U8), classes)
    _hash_indirect_contexts(lanes, lane, last8, match, after, hashes)
    if binary == 1:
        _hash_binary_contexts(
            data, lanes, lane, last8, match, after, back, beside, before, twice, hashes
        )
    else:
        _hash_word_contexts(data, lanes, lane, last8, match, after, hashes)
        _hash_line_contexts(data, lanes, lane, last8, above, column, match, hashes)
        _hash_shape_contexts(lanes, lane, last8, above, column, match, hashes)


@kernel(inline=True)
def _after(lanes, lane, last8, followers):
    """What followed the last byte, pair, three and four bytes, the word and the runs (uint64)."""
    return (
        np.uint64(followers.of_byte[last8 & np.uint64(0xFF)]),
        np.uint64(followers.of_pair[last8 & np.uint64(0xFFFF)]),
        np.uint64(followers.of_three[three_row(last8)]),
        np.uint64(followers.of_four[four_row(lanes, lane)]),
        np.uint64(followers.of_word[word_row(lanes, lane)]),
        np.uint64(followers.of_shape[shape_row(lanes, lane)]),
    )


@kernel(inline=True)
def _hash_indirect_contexts(lanes, lane, last8, match, after, hashes):
    """What followed the last occurrences of what came last; ``after`` is :func:`_after`'s."""
    after_byte, after_pair, after_three, after_four, after_word, after_shape = after
    c1 = last8 & np.uint64(0xFF)
    # What followed this byte, and this pair.
    hashes[20] = hash_pair(np.uint64(20) + (c1 << _U8), after_byte & np.uint64(0xFFFF))
    hashes[21] = hash_pair(np.uint64(21) + (c1 << _U8), after_pair & np.uint64(0xFFFFFF))
    # What followed three bytes; the newest that followed three bytes and a pair, with the match;
    # and that followed four, three, a pair and the word; what followed the last runs.
    pairs = (after_three & np.uint64(0xFF)) << _U16 | (after_pair & np.uint64(0xFF)) << _U8
    word_too = (after_word & np.uint64(0xFF)) << np.uint64(24)
    hashes[55] = hash_pair(np.uint64(55) + (c1 << _U8), after_three & np.uint64(0xFFFF))
    hashes[56] = hash_pair(np.uint64(56) + match, pairs)
    hashes[57] = hash_pair(np.uint64(57) + (after_four & np.uint64(0xFF)), pairs | word_too)
    hashes[58] = hash_pair(np.uint64(58) + (after_shape & np.uint64(0xFFFFFF)), c1)
    # What followed three bytes, four bytes and a pair, with the class of the last run; and four
    # bytes, with the match.
    run = np.uint64(lanes[lane, SHAPE]) & np.uint64(0xFF)
    hashes[76] = hash_pair(np.uint64(76) + (after_three & np.uint64(0xFFFFFF)), run)
    hashes[77] = hash_pair(np.uint64(77) + (after_four & np.uint64(0xFFFF)), run)
    hashes[78] = hash_pair(np.uint64(78) + (after_pair & np.uint64(0xFFFF)), run)
    hashes[79] = hash_pair(np.uint64(79) + match, after_four & np.uint64(0xFFFF))


@kernel(inline=True)
def _word_again(data, lanes, lane):
    """What came here behind the last word's last occurrence, and how often that was wrong."""
    pointer = lanes[lane, WORD_POINTER]
    if pointer == 0:
        return np.uint64(0)
    return (np.uint64(data[pointer]) + np.uint64(1)) << _U8 | np.uint64(lanes[lane, WORD_MISSES])


@kernel(inline=True)
def _hash_word_contexts(data, lanes, lane, last8, match, after, hashes):
    """Words beyond those that a primer teaches, and the brackets and tags around them."""
    c1_high = (last8 & np.uint64(0xFF)) << _U8
    last2 = last8 & np.uint64(0xFFFF)
    word = np.uint64(lanes[lane, WORD])
    _, after_pair, _, after_four, after_word, _ = after
    # The word so far with the word before the last, and with the last one and the last bytes.
    hashes[10] = hash_pair(hash_pair(np.uint64(10) + c1_high, word), np.uint64(lanes[lane, WORD_2]))
    hashes[11] = hash_pair(
        hash_pair(np.uint64(11) + c1_high, word) + (last8 & np.uint64(0xFFFFFFFF)),
        np.uint64(lanes[lane, WORD_1]),
    )
    # The brackets awaited with the word, the innermost with the last bytes; all of them with the
    # classes of the last bytes; the last tag with the word.
    awaited = np.uint64(lanes[lane, BRACKETS])
    brackets = awaited << _U8
    hashes[22] = hash_pair(np.uint64(22) + (brackets & np.uint64(0xFFFFFF00)), word)
    hashes[23] = hash_pair(np.uint64(23) + (brackets & np.uint64(0xFF00)), last2)
    hashes[37] = hash_pair(np.uint64(37), awaited * _K2 + np.uint64(lanes[lane, CLASSES]))
    hashes[38] = hash_pair(np.uint64(38) + c1_high + word * _K2, np.uint64(lanes[lane, TAG]))
    # What followed the word, the last four bytes, the pair; the match model's byte with the word;
    # the last six bytes, their numbers masked.
    masked = np.uint64(lanes[lane, MASKED])
    hashes[50] = hash_pair(np.uint64(50) + c1_high, after_word & np.uint64(0xFFFF))
    hashes[51] = hash_pair(np.uint64(51) + (after_four & np.uint64(0xFF)), last2)
    hashes[52] = hash_pair(np.uint64(52) + word * WORD_K, after_pair & np.uint64(0xFF))
    hashes[53] = hash_pair(np.uint64(53) + (word << _U8), match)
    hashes[54] = hash_pair(np.uint64(54), masked & np.uint64(0xFFFFFFFFFFFF))
    # What came behind the last word before, with the word, with what followed the word so far, with
    # the last runs; the initials of four words with the last byte; the lengths of four words.
    again = _word_again(data, lanes, lane) << _U8
    hashes[64] = hash_pair(np.uint64(64) + again, word)
    hashes[65] = hash_pair(np.uint64(65) + again, after_word & np.uint64(0xFF))
    hashes[66] = hash_pair(np.uint64(66) + again, np.uint64(lanes[lane, SHAPE]) & np.uint64(0xFF))
    initials = np.uint64(lanes[lane, INITIALS])
    hashes[67] = hash_pair(np.uint64(67) + c1_high, initials & np.uint64(0xFFFFFFFF))
    lengths = np.uint64(lanes[lane, WORD_LENGTHS])
    hashes[68] = hash_pair(np.uint64(68), lengths & np.uint64(0xFFFF))
    # The last two, three and six bytes of punctuation: with the tag, the bracket, alone; the word.
    points = np.uint64(lanes[lane, PUNCTUATION])
    tag = np.uint64(lanes[lane, TAG]) * _K2
    hashes[69] = hash_pair(np.uint64(69) + tag, points & np.uint64(0xFFFF))
    hashes[70] = hash_pair(
        np.uint64(70) + (brackets & np.uint64(0xFF00)), points & np.uint64(0xFFFFFF)
    )
    hashes[71] = hash_pair(np.uint64(71), points & np.uint64(0xFFFFFFFFFFFF))
    hashes[72] = hash_pair(np.uint64(72) + c1_high + word * _K2, points & np.uint64(0xFFFF))


@kernel(inline=True)
def _hash_line_contexts(data, lanes, lane, last8, above, column, match, hashes):
    """Where in a line the byte stands: fields, beginnings, the line above (a byte << 8)."""
    c1_high = (last8 & np.uint64(0xFF)) << _U8
    word = np.uint64(lanes[lane, WORD])
    first_word = np.uint64(lanes[lane, FIRST_WORD])
    masked_line = np.uint64(lanes[lane, MASKED_LINE])
    number = np.uint64(lanes[lane, FIELD_NUMBER]) << _U8
    # How the line begins, with the word; the field so far and its number in the line.
    hashes[18] = hash_pair(np.uint64(18) + np.uint64(lanes[lane, LINE_HEAD]) * WORD_K, word)
    hashes[25] = hash_pair(np.uint64(25) + number, np.uint64(lanes[lane, FIELD]))
    # The line so far, numbers masked, with the last byte, or with the word; the line's first word
    # with the word, or with the column; the byte above with the word, or with the match.
    hashes[30] = hash_pair(np.uint64(30) + c1_high, masked_line)
    hashes[31] = hash_pair(np.uint64(31) + word, masked_line)
    hashes[32] = hash_pair(np.uint64(32) + c1_high + word * _K2, first_word)
    hashes[33] = hash_pair(np.uint64(33) + (column << _U8), first_word)
    hashes[34] = hash_pair(np.uint64(34) + above, word)
    hashes[35] = hash_pair(np.uint64(35) + above, match | column << _U16)
    # What comes next in the field above, if so far that is the same, and the field's number.
    field_above = np.uint64(0)
    if lanes[lane, FIELD_ABOVE] < lanes[lane, LINE_START]:
        field_above = np.uint64(data[lanes[lane, FIELD_ABOVE]]) + np.uint64(1)
    agrees = np.uint64(lanes[lane, ABOVE_AGREES])
    run = np.uint64(lanes[lane, SHAPE]) & np.uint64(0xFF)
    field = np.uint64(lanes[lane, FIELD])
    hashes[36] = hash_pair(np.uint64(36) + (field_above << _U8) + (number << _U8), agrees)
    # The blanks that begin the line, with the word; the field above with the last runs, and with
    # the field so far.
    hashes[73] = hash_pair(np.uint64(73) + (np.uint64(lanes[lane, INDENT]) << _U8), word)
    hashes[74] = hash_pair(np.uint64(74) + (field_above << _U8), run | agrees << np.uint64(20))
    hashes[75] = hash_pair(np.uint64(75) + (field_above << _U8), field + agrees)


@kernel(inline=True)
def _hash_shape_contexts(lanes, lane, last8, above, column, match, hashes):
    """What kinds of bytes came last, one by one (classes) or in runs (shapes)."""
    c1_high = (last8 & np.uint64(0xFF)) << _U8
    word = np.uint64(lanes[lane, WORD])
    shape = np.uint64(lanes[lane, SHAPE])
    classes = np.uint64(lanes[lane, CLASSES])
    number = np.uint64(lanes[lane, FIELD_NUMBER]) << _U8
    line_shape = np.uint64(lanes[lane, LINE_SHAPE])
    # The runs with the last byte, with the word, alone, with the field's number; the line's so far
    # alone, and with the word; the runs with the byte above, the column, the match.
    hashes[24] = hash_pair(np.uint64(24) + c1_high, shape)
    hashes[39] = hash_pair(np.uint64(39) + word * _K2, shape & np.uint64(0xFFFFFF))
    hashes[40] = hash_pair(np.uint64(40), shape)
    hashes[41] = hash_pair(np.uint64(41) + number, shape & np.uint64(0xFFFFFF))
    hashes[42] = hash_pair(np.uint64(42), line_shape)
    hashes[43] = hash_pair(np.uint64(43) + word, line_shape)
    hashes[44] = hash_pair(np.uint64(44) + above, shape & np.uint64(0xFFFF))
    hashes[45] = hash_pair(np.uint64(45) + (column << _U8), shape & np.uint64(0xFFFF))
    hashes[46] = hash_pair(np.uint64(46) + match, shape & np.uint64(0xFFFF))
    # Classes with the last two bytes, with the word, with the byte above.
    last2 = last8 & np.uint64(0xFFFF)
    hashes[47] = hash_pair(np.uint64(47) + last2, classes & np.uint64(0xFFFFFF))
    hashes[48] = hash_pair(np.uint64(48) + word, classes & np.uint64(0xFFFF))
    hashes[49] = hash_pair(np.uint64(49) + above, classes & np.uint64(0xFFFFFF))


@kernel(inline=True)
def _hash_binary_contexts(
    data, lanes, lane, last8, match, after, back, beside, before, twice, hashes
):
    """Put contexts of records and of scattered bytes in the places of words, lines and fields.

    ``after`` is :func:`_after`'s; ``back`` and ``twice`` are the bytes one and two strides back,
    ``beside`` and ``before`` the ones behind and before back.
    """
    after_byte, after_pair, after_three, after_four, after_word, _ = after
    c1 = last8 & np.uint64(0xFF)
    c2 = last8 >> _U8 & np.uint64(0xFF)
    last2 = last8 & np.uint64(0xFFFF)
    last4 = last8 & np.uint64(0xFFFFFFFF)
    position = lanes[lane, POSITION]
    row = np.uint64(position % lanes[lane, STRIDE]) << _U8
    # What the byte would be if rows and columns of records rose evenly, or if records or bytes did.
    level = (back + c1 - before) & np.uint64(0xFF)
    line = (back + back - twice) & np.uint64(0xFF)
    slope = (c1 + c1 - c2) & np.uint64(0xFF)
    hashes[7] = hash_pair(np.uint64(7), last8 & np.uint64(0xFF0000FF))
    hashes[8] = hash_pair(np.uint64(8) + row, c1)
    hashes[9] = hash_pair(np.uint64(9), level)
    hashes[10] = hash_pair(np.uint64(10) + (level << _U8), back)
    hashes[11] = hash_pair(np.uint64(11) + (np.uint64(position & 3) << _U8), last2)
    hashes[18] = hash_pair(np.uint64(18), last8 & np.uint64(0xF0F0F0F0))
    hashes[22] = hash_pair(np.uint64(22) + (back << _U8), c1)
    hashes[23] = hash_pair(np.uint64(23) + (back << _U8), last2)
    hashes[24] = hash_pair(np.uint64(24) + (line << _U8), c1)
    hashes[25] = hash_pair(np.uint64(25), last8 & np.uint64(0xFFFFFFFF00))
    # Records.
    hashes[30] = hash_pair(np.uint64(30) + (back << _U8), twice)
    hashes[31] = hash_pair(np.uint64(31) + row, np.uint64(0))
    hashes[32] = hash_pair(np.uint64(32) + (beside << _U8), back | c1 << _U8 | c2 << _U16)
    around = beside << _U8 | before << _U16 | c1 << np.uint64(24)
    hashes[33] = hash_pair(np.uint64(33) + (back << _U8), twice | around)
    hashes[34] = hash_pair(np.uint64(34) + (line << _U8), back)
    hashes[35] = hash_pair(np.uint64(35) + row, back)
    hashes[36] = hash_pair(np.uint64(36) + (level << _U8), back | c1 << _U8)
    hashes[37] = hash_pair(np.uint64(37), slope)
    # Scattered bytes, whole and their upper bits; words of two and four.
    hashes[38] = hash_pair(np.uint64(38), last8 & np.uint64(0xFF0000))
    hashes[39] = hash_pair(np.uint64(39), last8 & np.uint64(0xFF000000))
    hashes[40] = hash_pair(np.uint64(40), last8 & np.uint64(0xFF000000FF))
    hashes[41] = hash_pair(np.uint64(41), last8 & np.uint64(0xFF00000000FF))
    hashes[42] = hash_pair(np.uint64(42), last8 & np.uint64(0xFFFF00FF))
    hashes[43] = hash_pair(np.uint64(43), last8 & np.uint64(0xFFFFFF0000))
    hashes[44] = hash_pair(np.uint64(44), last8 & np.uint64(0xFF00FFFFFF))
    hashes[45] = hash_pair(np.uint64(45), last8 & np.uint64(0xF8F8F8F8F8))
    hashes[46] = hash_pair(np.uint64(46), last8 & np.uint64(0xF0F0F0F0F0F0))
    third = last8 >> np.uint64(24) & np.uint64(0xFFFF)
    hashes[47] = hash_pair(np.uint64(47) + (np.uint64(position & 1) << _U8), last2)
    hashes[48] = hash_pair(np.uint64(48), third | np.uint64(position & 3) << np.uint64(20))
    # The column, for there are lines in some; the last runs; what followed; the match.
    column = np.uint64(position - lanes[lane, LINE_START]) << _U8
    length = np.uint64(min(lanes[lane, MATCH_LENGTH], 31))
    hashes[49] = hash_pair(np.uint64(49) + column, c1)
    hashes[50] = hash_pair(
        np.uint64(50) + (c1 << _U8), np.uint64(lanes[lane, SHAPE]) & np.uint64(0xFFFFFF)
    )
    hashes[51] = hash_pair(np.uint64(51) + (c1 << _U8), after_four & np.uint64(0xFFFF))
    three = (after_three & np.uint64(0xFF)) << _U16
    four = (after_four & np.uint64(0xFF)) << _U8
    word = (after_word & np.uint64(0xFF)) << np.uint64(24)
    hashes[52] = hash_pair(np.uint64(52) + match, three | four | word)
    pair = (after_pair & np.uint64(0xFF)) << _U8
    hashes[53] = hash_pair(np.uint64(53), three | pair | after_byte & np.uint64(0xFF))
    hashes[54] = hash_pair(np.uint64(54) + last4, match + length)
    # What followed a pair and a byte, with the parity of the position or alone.
    even, quarter = np.uint64(position & 1), np.uint64(position & 3)
    hashes[64] = hash_pair(np.uint64(64) + (even << _U16), after_pair & np.uint64(0xFFFF))
    hashes[65] = hash_pair(np.uint64(65), after_pair)
    hashes[66] = hash_pair(np.uint64(66) + (after_byte & np.uint64(0xFFFFFF)), even)
    # Parity with classes and scattered bytes; more of these; the match with position and records.
    classes = np.uint64(lanes[lane, CLASSES])
    hashes[67] = hash_pair(np.uint64(67) + (even << _U8), classes & np.uint64(0xFFFF))
    hashes[68] = hash_pair(np.uint64(68) + even, last8 & np.uint64(0xF0F0F0F0))
    hashes[69] = hash_pair(np.uint64(69) + even, last8 & np.uint64(0xFF00FF00))
    hashes[70] = hash_pair(np.uint64(70), last8 & np.uint64(0xFF000000FF00))
    hashes[71] = hash_pair(np.uint64(71), last8 & np.uint64(0xE0E0E0E0E0E0E0E0))
    hashes[72] = hash_pair(np.uint64(72) + match, quarter)
    hashes[73] = hash_pair(np.uint64(73) + match, last8 & np.uint64(0xFF00))
    hashes[74] = hash_pair(np.uint64(74) + (match << _U8), back | beside << _U16)
    hashes[75] = hash_pair(np.uint64(75) + (_word_again(data, lanes, lane) << _U8), match)


@kernel()
def hash_token_contexts(data, lanes, lane, depth, hashes):
    """Put n-grams of tokens in the places of records: the token so far with one and two before.

    They know what those of bytes do not: where the token began, ``depth`` bytes ago.
    """
    kept = np.uint64(8 * (8 - min(depth, 8)))
    token = last_eight(data, lanes, lane) << kept if depth > 0 else np.uint64(0)
    number = np.uint64(min(depth, 15)) << _U8
    token_1 = np.uint64(lanes[lane, TOKEN_1])
    token_2 = np.uint64(lanes[lane, TOKEN_2])
    hashes[28] = hash_pair(hash_pair(np.uint64(28) + number, token), token_1)
    hashes[29] = hash_pair(hash_pair(np.uint64(29) + number, token) + token_2 * WORD_K, token_1)
