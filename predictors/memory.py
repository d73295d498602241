"""What each lane remembers of its past.

A lane is a contiguous piece of the block's bytes. Its memory is one row of int64, so that all
lanes share one array; positions are indices into the block's bytes.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nczip.coder.jit import kernel

# Columns of a lane's row.
POSITION = 0  #: next position, an index into the block's bytes
START = 1  #: the lane's first position
STOP = 2  #: its end
MATCH_POINTER = 3  #: where the match model points
MATCH_LENGTH = 4  #: how long its match is, in bytes; 0 for none
WORD = 5  #: hash of the word so far, 0 between words
WORD_1 = 6  #: hash of the word before
WORD_2 = 7  #: and of the one before that
PROSE = 8  #: the last eight bytes as if lines of prose were not broken
LINE_START = 9  #: where the current line starts
LINE_ABOVE = 10  #: where the one before it starts
CLASSES = 11  #: the classes of the last eight bytes, four bits each
STRIDE = 12  #: the distance at which bytes tend to return
LINE_HEAD = 13  #: the line's first three bytes
BRACKETS = 14  #: the closing brackets that are awaited, innermost in the low byte
FIELD = 15  #: hash of the current field, or the separator before it
FIELD_NUMBER = 16  #: its number in the line
SHAPE = 17  #: the classes of the last eight runs of bytes of one class
TOKEN_1 = 18  #: leaf of the last token, + 1
TOKEN_2 = 19  #: and of the one before
MISSES = 20  #: which of the last eight bytes the match got wrong, a bit each
MASKED = 21  #: the last eight bytes, every run of digits one 0
MASKED_LINE = 22  #: hash of the line so far, every run of digits one 0
LINE_SHAPE = 23  #: hash of the line's runs
FIRST_WORD = 24  #: hash of the line's first word
TAG = 25  #: hash of the last tag's name, odd while it is read
FIELD_ABOVE = 26  #: where the field above goes on
ABOVE_AGREES = 27  #: whether it has begun like the one below it
WORD_POINTER = 28  #: where the last word's last occurrence went on
WORD_MISSES = 29  #: how many bytes of that were otherwise
PUNCTUATION = 30  #: the last eight bytes that are no letters, digits or spaces
INITIALS = 31  #: the initials of the last eight words
WORD_LENGTHS = 32  #: their lengths, four bits each
INDENT = 33  #: how many blanks begin the line
COLUMNS = 34

MIN_STRIDE, MAX_STRIDE = 2, 1024

_VOTE = 16
_VOTE_LIMIT = 1 << 14
_TAB, _NEWLINE, _SPACE_BYTE, _SLASH, _ZERO, _TAG_START = 9, 10, 32, 47, 48, 60
_WORD_MISS_LIMIT = 4
WORD_K = np.uint64(0x2F0B4C47E5A9D1B3)

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


def _run_symbols() -> npt.NDArray[np.int64]:
    """What a run adds to the shape of a line: its class if of letters, digits or spaces."""
    symbols = np.arange(256, dtype=np.int64)
    kept = (BYTE_CLASS <= _DIGIT) | (BYTE_CLASS == _SPACE)
    symbols[kept] = BYTE_CLASS[kept]
    return symbols


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
_RUN_SYMBOL = _run_symbols()
_SEPARATORS = _separators()
_WORD_LETTER = _word_letters()


class Followers(NamedTuple):
    """The bytes that followed each context's last occurrences, newest in the low byte."""

    of_byte: npt.NDArray[np.uint32]  #: uint32[256]
    of_pair: npt.NDArray[np.uint32]  #: uint32[65536]
    of_three: npt.NDArray[np.uint32]  #: uint32[2^18], hashed
    of_four: npt.NDArray[np.uint32]  #: uint32[2^18], hashed; of four bytes of unbroken lines
    of_word: npt.NDArray[np.uint32]  #: uint32[65536], hashed; of the word so far or the one before
    of_shape: npt.NDArray[np.uint32]  #: uint32[65536], hashed; of the last runs
    words: npt.NDArray[np.int64]  #: int64[65536], hashed; the position behind each word's last one


class Strides(NamedTuple):
    """Where records repeat: how often each distance brought a byte pair back lately."""

    last_seen: npt.NDArray[np.int64]  #: int64[65536], position behind each byte pair's last one
    votes: npt.NDArray[np.int64]  #: int64[MAX_STRIDE], decaying counts of distances


def new_strides() -> Strides:
    """Nothing seen yet."""
    return Strides(np.zeros(1 << 16, np.int64), np.zeros(MAX_STRIDE, np.int64))


def new_followers() -> Followers:
    """Nothing seen yet."""
    return Followers(
        of_byte=np.zeros(1 << 8, np.uint32),
        of_pair=np.zeros(1 << 16, np.uint32),
        of_three=np.zeros(1 << 18, np.uint32),
        of_four=np.zeros(1 << 18, np.uint32),
        of_word=np.zeros(1 << 16, np.uint32),
        of_shape=np.zeros(1 << 16, np.uint32),
        words=np.zeros(1 << 16, np.int64),
    )


def new_lanes(edges: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Rows for the lanes ``edges[i]:edges[i + 1]`` of a block; int64[lanes, columns]."""
    lanes = np.zeros((len(edges) - 1, COLUMNS), np.int64)
    for column in (POSITION, START, LINE_START, LINE_ABOVE, FIELD_ABOVE):
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
def is_coded(lanes, position):
    """Whether the byte at ``position`` has been coded: false at every lane's own front."""
    for lane in range(lanes.shape[0]):
        if position == lanes[lane, POSITION]:
            return False
    return True


@kernel(inline=True)
def byte_above(data, lanes, lane):
    """The byte in the same column of the line above, uint64; 0 where there is none."""
    position = lanes[lane, LINE_ABOVE] + lanes[lane, POSITION] - lanes[lane, LINE_START]
    if position < lanes[lane, LINE_START]:
        return np.uint64(data[position])
    return np.uint64(0)


@kernel(inline=True)
def last_eight(data, lanes, lane):
    """The last eight bytes, the newest in the low byte, uint64."""
    last8 = np.uint64(0)
    for distance in range(1, 9):
        shift = np.uint64(8 * (distance - 1))
        last8 |= byte_back(data, lanes, lane, distance) << shift
    return last8


@kernel(inline=True)
def _extended(h, symbol):
    """The hash of a word, field or line (int64, not negative) with one more symbol (int64)."""
    return np.int64((np.uint64(h) + np.uint64(symbol)) * WORD_K >> np.uint64(1))


@kernel(inline=True)
def three_row(last8):
    """Which row of ``Followers.of_three`` belongs to the last three bytes."""
    return (last8 & np.uint64(0xFFFFFF)) * WORD_K >> np.uint64(46)


@kernel(inline=True)
def four_row(lanes, lane):
    """Which row of ``Followers.of_four`` belongs to the last four bytes of unbroken lines."""
    four = np.uint64(lanes[lane, PROSE]) & np.uint64(0xFFFFFFFF)
    return (four + np.uint64(1)) * WORD_K >> np.uint64(46)


@kernel(inline=True)
def word_row(lanes, lane):
    """Which row of ``Followers.of_word`` belongs to the word so far, else to the one before."""
    word = lanes[lane, WORD] if lanes[lane, WORD] != 0 else lanes[lane, WORD_1]
    return np.uint64(word) * WORD_K >> np.uint64(48)


@kernel(inline=True)
def shape_row(lanes, lane):
    """Which row of ``Followers.of_shape`` belongs to the last runs."""
    return np.uint64(lanes[lane, SHAPE] + 1) * WORD_K >> np.uint64(48)


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
    letter = _WORD_LETTER[byte]
    if letter != 0:
        lanes[lane, WORD] = _extended(lanes[lane, WORD], letter)
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
        lanes[lane, FIELD] = _extended(lanes[lane, FIELD], byte + 1)
    if BYTE_CLASS[byte] != lanes[lane, SHAPE] & 15:
        lanes[lane, SHAPE] = (lanes[lane, SHAPE] << 4 | BYTE_CLASS[byte]) & 0xFFFFFFFF
        lanes[lane, LINE_SHAPE] = _extended(lanes[lane, LINE_SHAPE], _RUN_SYMBOL[byte])
    if byte == _NEWLINE:
        lanes[lane, LINE_SHAPE] = 0


@kernel(inline=True)
def _advance_masked(lanes, lane, byte):
    """Take a byte (int64) into the lane's bytes and line in which runs of digits are one 0."""
    digit = BYTE_CLASS[byte] == _DIGIT
    masked = lanes[lane, MASKED]
    if digit and masked & 255 == _ZERO:
        return
    symbol = _ZERO if digit else byte
    lanes[lane, MASKED] = masked << 8 | symbol
    line = _extended(lanes[lane, MASKED_LINE], symbol + 1)
    lanes[lane, MASKED_LINE] = 0 if byte == _NEWLINE else line


@kernel(inline=True)
def _advance_tag(lanes, lane, byte):
    """Take a byte (int64) into the name of the lane's last tag."""
    tag = lanes[lane, TAG]
    if byte == _TAG_START:
        lanes[lane, TAG] = 1
    elif tag & 1 == 1:
        if _WORD_LETTER[byte] != 0 or byte == _SLASH:
            lanes[lane, TAG] = _extended(tag, byte) | 1
        else:
            lanes[lane, TAG] = tag ^ 1


@kernel(inline=True)
def _advance_field_above(data, lanes, lane, byte):
    """Keep beside the line's field the one of the same number in the line above."""
    above, end = lanes[lane, FIELD_ABOVE], lanes[lane, LINE_START]
    if byte == _NEWLINE:
        above = lanes[lane, LINE_ABOVE]
        lanes[lane, ABOVE_AGREES] = 1
    elif _SEPARATORS[byte]:
        while above < end and not _SEPARATORS[data[above]]:
            above += 1
        above = min(above + 1, end)
        lanes[lane, ABOVE_AGREES] = 1
    elif above < end:
        if data[above] != byte:
            lanes[lane, ABOVE_AGREES] = 0
        if not _SEPARATORS[data[above]]:
            above += 1
    lanes[lane, FIELD_ABOVE] = above


@kernel(inline=True)
def _advance_words(lanes, lane, byte, old_word):
    """Take a byte (int64), already in the word, into initials, lengths and punctuation."""
    if lanes[lane, WORD] != 0:
        if old_word == 0:
            lanes[lane, INITIALS] = lanes[lane, INITIALS] << 8 | _WORD_LETTER[byte]
            lanes[lane, WORD_LENGTHS] <<= 4
        if lanes[lane, WORD_LENGTHS] & 15 < 15:
            lanes[lane, WORD_LENGTHS] += 1
    if BYTE_CLASS[byte] >= _LINE_END:
        lanes[lane, PUNCTUATION] = lanes[lane, PUNCTUATION] << 8 | byte


@kernel(inline=True)
def _follow_word(data, lanes, lane, byte, old_word, followers):
    """Go on behind the last word's last occurrence, or find that of a word that has just ended."""
    pointer = lanes[lane, WORD_POINTER]
    if old_word != 0 and lanes[lane, WORD] == 0:
        row = np.uint64(old_word) * WORD_K >> np.uint64(48)
        pointer = followers.words[row]
        followers.words[row] = lanes[lane, POSITION]
        lanes[lane, WORD_MISSES] = 0
    elif pointer > 0:
        lanes[lane, WORD_MISSES] += data[pointer] != byte
        pointer += 1
    lost = lanes[lane, WORD_MISSES] == _WORD_MISS_LIMIT
    if pointer > 0 and (lost or not is_coded(lanes, pointer)):
        pointer = 0
    lanes[lane, WORD_POINTER] = pointer


@kernel(inline=True)
def _push(rows, row, byte):
    rows[row] = (rows[row] << np.uint32(8)) | np.uint32(byte)


@kernel(inline=True)
def _advance_followers(lanes, lane, last8, followers, byte):
    """Note that a byte (int64) followed the last bytes, the word and the runs of the lane."""
    _push(followers.of_byte, last8 & np.uint64(0xFF), byte)
    _push(followers.of_pair, last8 & np.uint64(0xFFFF), byte)
    _push(followers.of_three, three_row(last8), byte)
    _push(followers.of_four, four_row(lanes, lane), byte)
    _push(followers.of_word, word_row(lanes, lane), byte)
    _push(followers.of_shape, shape_row(lanes, lane), byte)


@kernel(internal=True)
def advance(data, lanes, lane, followers, strides):
    """Take the byte at the lane's position into its memory (all but the match) and step on."""
    position = lanes[lane, POSITION]
    byte = np.int64(data[position])
    last8 = last_eight(data, lanes, lane)
    _advance_followers(lanes, lane, last8, followers, byte)
    _vote_stride(lanes, lane, strides, byte, np.int64(last8 & np.uint64(0xFF)))
    old_word = lanes[lane, WORD]
    advance_prose(lanes, lane, byte)
    if byte == _NEWLINE:
        lanes[lane, LINE_ABOVE] = lanes[lane, LINE_START]
        lanes[lane, LINE_START] = position + 1
        lanes[lane, FIRST_WORD] = 0
        lanes[lane, INDENT] = 0
    elif old_word != 0 and lanes[lane, WORD] == 0 and lanes[lane, FIRST_WORD] == 0:
        lanes[lane, FIRST_WORD] = old_word
    elif byte in (_TAB, _SPACE_BYTE) and position - lanes[lane, LINE_START] == lanes[lane, INDENT]:
        lanes[lane, INDENT] += 1
    lanes[lane, CLASSES] = ((lanes[lane, CLASSES] << 4) | BYTE_CLASS[byte]) & 0xFFFFFFFF
    lanes[lane, POSITION] = position + 1
    if position - lanes[lane, LINE_START] < 3 and byte != _NEWLINE:
        lanes[lane, LINE_HEAD] = ((lanes[lane, LINE_HEAD] << 8) | byte) & 0xFFFFFF
    _advance_syntax(lanes, lane, byte)
    _advance_masked(lanes, lane, byte)
    _advance_tag(lanes, lane, byte)
    _advance_field_above(data, lanes, lane, byte)
    _advance_words(lanes, lane, byte, old_word)
    _follow_word(data, lanes, lane, byte, old_word, followers)


@kernel(inline=True)
def advance_little(data, lanes, lane, followers, strides):
    """The same for layouts that look at words, lines, records and classes of bytes alone."""
    position = lanes[lane, POSITION]
    byte = np.int64(data[position])
    previous = np.int64(byte_back(data, lanes, lane, 1))
    _vote_stride(lanes, lane, strides, byte, previous)
    advance_prose(lanes, lane, byte)
    if byte == _NEWLINE:
        lanes[lane, LINE_ABOVE] = lanes[lane, LINE_START]
        lanes[lane, LINE_START] = position + 1
    lanes[lane, CLASSES] = ((lanes[lane, CLASSES] << 4) | BYTE_CLASS[byte]) & 0xFFFFFFFF
    lanes[lane, POSITION] = position + 1
