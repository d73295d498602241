"""What is done to streams: fields take values that matter, bytes flip, parts move."""

import copy
from collections.abc import Callable
from dataclasses import replace
from random import Random

import xxhash

from nczip.formats import container as ct

from .structure import Block, Member, Pieces, Skippable, Stream

_SPECIAL = [
    *(0, 1, 2, 3, 4, 7, 8, 63, 64, 127, 128, 255, 256, 1023, 1024, 1025, 4095, 4096, 65535, 65536),
    *(1 << 20, 1 << 24, 1 << 28, 1 << 30, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 61, (1 << 63) - 1),
]
_MOST = (1 << 63) - 1  # of a varint


def other_number(rng: Random, value: int, most: int = _MOST) -> int:
    """A number near a value, or one that matters, within 0 and ``most``."""
    choice = rng.random()
    if choice < 0.45:
        changed = value + rng.choice([-3, -2, -1, 1, 2, 3, 4, 8, -8])
    elif choice < 0.55:
        changed = value ^ 1 << rng.randrange(max(most.bit_length(), 1))
    elif choice < 0.65:
        changed = value * 2
    elif choice < 0.9:
        changed = rng.choice(_SPECIAL)
    else:
        changed = rng.getrandbits(rng.randint(1, 63))
    return min(max(changed, 0), most)


def other_bytes(rng: Random, data: bytes) -> bytes:
    """Bytes with something flipped, overwritten, cut out, put in, repeated or appended."""
    out = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        at = rng.randrange(len(out) + 1)
        size = rng.choice([1, 1, 1, 2, 3, 8, 40])
        match rng.randrange(7 if out else 1):
            case 0:
                out[at:at] = rng.randbytes(size)
            case 1 | 2:
                if at < len(out):
                    out[at] ^= 1 << rng.randrange(8)
            case 3:
                out[at : at + size] = rng.randbytes(len(out[at : at + size]))
            case 4:
                del out[at : at + size]
            case 5:
                out[at:at] = out[at : at + size]
            case 6:
                del out[at:]
    return bytes(out)


def _member(rng: Random, stream: Stream) -> Member:
    return rng.choice([part for part in stream if isinstance(part, Member)])


def _block(rng: Random, stream: Stream) -> Block | None:
    blocks = [b for part in stream if isinstance(part, Member) for b in part.blocks]
    return rng.choice(blocks) if blocks else None


def mutate_header(rng: Random, stream: Stream) -> None:
    """Another value in one field of a header, or other bytes in it."""
    member = _member(rng, stream)
    header, model = member.header, member.header.model
    match rng.randrange(8):
        case 0:
            member.header = replace(header, block_size=other_number(rng, header.block_size))
        case 1:
            bits = other_number(rng, header.table_bits, 255)
            member.header = replace(header, table_bits=bits)
        case 2:
            member.header = replace(header, byte_lanes=other_number(rng, header.byte_lanes))
        case 3:
            member.header = replace(header, primer=other_number(rng, header.primer))
        case 4:
            member.header = replace(header, extensions=_extensions(rng))
        case 5 | 6 if model is not None:
            member.header = replace(header, model=_other_model(rng, model))
        case _:
            member.header_edits = _edits(rng)


def _extensions(rng: Random) -> tuple[ct.Extension, ...]:
    return tuple(
        ct.Extension(
            other_number(rng, 0, _MOST >> 1),
            rng.randbytes(rng.choice([0, 1, 7, 200])),
            rng.random() < 0.2,
        )
        for _ in range(rng.randint(1, 5))
    )


def _other_model(rng: Random, model: ct.ModelId) -> ct.ModelId:
    match rng.randrange(6):
        case 0:
            return replace(model, engine=other_number(rng, model.engine, 255))
        case 1:
            return replace(model, name="".join(rng.choices("a/\0\x1b[é", k=rng.randint(0, 99))))
        case 2:
            return replace(model, lanes=other_number(rng, model.lanes))
        case 3:
            return replace(model, window=other_number(rng, model.window))
        case 4:
            return replace(model, sinks=other_number(rng, model.sinks))
    return replace(model, fingerprint=rng.randbytes(len(model.fingerprint)))


def _edits(rng: Random) -> list[tuple[int, int]]:
    return [(rng.getrandbits(16), rng.getrandbits(8)) for _ in range(rng.choice([1, 1, 2, 3]))]


def mutate_frames(rng: Random, stream: Stream) -> None:
    """Another size or check in a block's frame, another place, or another order of blocks."""
    block = _block(rng, stream)
    if block is None:
        return mutate_index(rng, stream)
    match rng.randrange(7):
        case 0 | 1:
            block.raw_size = other_number(rng, block.raw_size)
        case 2:
            block.raw_check ^= 1 << rng.randrange(64)
        case 3:
            block.moved = rng.choice([-2, -1, 1, 2, 1 << 16, 1 << 32])
        case 4:
            block.cut = rng.randint(1, len(block.payload) + 1)
        case 5:
            # Whole blocks may be told in another order, for all checks are made anew.
            blocks = _member(rng, stream).blocks
            chosen = rng.choices([*blocks, block], k=rng.randint(1, 4))
            blocks[:] = [copy.deepcopy(one) for one in chosen]
        case 6:
            member, sizes = _member(rng, stream), (block.raw_size, len(block.payload) + 20)
            member.index = ct.Index([sizes], 0, ct.pack_coding(member.header))
    return None


def mutate_payload(rng: Random, stream: Stream) -> None:
    """Any piece of a payload: a number, some bytes, or the pieces' order."""
    block = _block(rng, stream)
    if block is None or not block.pieces:
        return
    pieces = block.pieces
    at = rng.randrange(len(pieces))
    match rng.randrange(8):
        case 0:
            pieces[0] = bytes([other_number(rng, (block.payload or b"\0")[0], 255)])
        case 1:
            del pieces[at]
        case 2:
            pieces.insert(at, pieces[at])
        case 3:
            pieces.insert(at, rng.choice(_SPECIAL))
        case _:
            piece = pieces[at]
            if isinstance(piece, int):
                pieces[at] = other_number(rng, piece)
            else:
                pieces[at] = other_bytes(rng, piece)


def mutate_coded(rng: Random, stream: Stream) -> None:
    """The last piece: a coded string, a zstd frame, or stored bytes."""
    block = _block(rng, stream)
    if block is not None and block.pieces and isinstance(block.pieces[-1], bytes):
        block.pieces[-1] = other_bytes(rng, block.pieces[-1])


def mutate_runs(rng: Random, stream: Stream) -> None:
    """A run table that mostly still adds up: kinds change, runs are split, joined, moved."""
    block = _block(rng, stream)
    table = _run_table(block.pieces) if block is not None else None
    if block is None or table is None:
        return mutate_payload(rng, stream)
    first, runs = table
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(runs)) if runs else 0
        size, kind = runs[at] if runs else (0, 0)
        match rng.randrange(6):
            case 0:
                runs[at : at + 1] = [(size, rng.randrange(4))]
            case 1:
                part = rng.randint(0, size)
                runs[at : at + 1] = [(part, kind), (size - part, rng.randrange(3))]
            case 2:
                other = rng.randrange(len(runs)) if runs else 0
                part = min(rng.randint(0, size), size)
                if runs and other != at:
                    runs[at] = size - part, kind
                    runs[other] = runs[other][0] + part, runs[other][1]
            case 3:
                rng.shuffle(runs)
            case 4:
                runs[at : at + 1] = [(other_number(rng, size, 1 << 61), kind)]
                block.raw_size = sum(size for size, _ in runs)
            case 5:
                runs += [(0, rng.randrange(3))] * rng.choice([1, 5, 300])
    count = len(runs) if rng.random() < 0.9 else other_number(rng, len(runs))
    last = len(block.pieces) - 2
    block.pieces[first:last] = [count, *(size << 2 | kind for size, kind in runs)]
    return None


def _run_table(pieces: Pieces) -> tuple[int, list[tuple[int, int]]] | None:
    """Where the run table starts, and its runs (size, kind); None where there is none."""
    last = len(pieces) - 2
    first = last
    while first > 0 and isinstance(pieces[first - 1], int):
        first -= 1
    if first >= last:
        return None
    numbers = [piece for piece in pieces[first:last] if isinstance(piece, int)]
    if _flags(pieces) == 0x80:  # the number of line ends is next to it
        first, numbers = first + 1, numbers[1:]
    return first, [(number >> 2, number & 3) for number in numbers[1:]]


def mutate_breaks(rng: Random, stream: Stream) -> None:
    """Line ends, width and breaks kept apart, the size of the breaks mostly true."""
    flagged = [
        block
        for part in stream
        if isinstance(part, Member)
        for block in part.blocks
        if _flags(block.pieces) == 0xC0 and _has_breaks(block.pieces)
    ]
    if not flagged:
        return mutate_payload(rng, stream)
    pieces = rng.choice(flagged).pieces
    line_ends, _, size, breaks = pieces[1:5]
    match rng.randrange(5):
        case 0:
            pieces[1] = other_number(rng, int(line_ends))
        case 1:
            pieces[2] = bytes([rng.randrange(256)])
        case 2:
            pieces[3] = other_number(rng, int(size))
        case _:
            pieces[4] = other_bytes(rng, breaks if isinstance(breaks, bytes) else b"")
            pieces[3] = len(pieces[4])
    return None


def _has_breaks(pieces: Pieces) -> bool:
    """Whether the numbers of the line breaks still stand where they should."""
    return len(pieces) > 5 and isinstance(pieces[1], int) and isinstance(pieces[3], int)


def _flags(pieces: Pieces) -> int:
    """The flags in a payload's first byte, if that is still there."""
    first = pieces[0] if pieces else b""
    return first[0] & 0xC0 if isinstance(first, bytes) and first else 0


def mutate_index(rng: Random, stream: Stream) -> None:
    """Sizes and check of an index, its number of blocks, or any byte of it."""
    member = _member(rng, stream)
    sizes = [(block.raw_size, len(block.payload) + 19) for block in member.blocks]
    coding, check = ct.pack_coding(member.header), xxhash.xxh3_64_intdigest(member.raw)
    match rng.randrange(6):
        case 0:
            sizes = [(other_number(rng, raw), frame) for raw, frame in sizes]
        case 1:
            sizes = [(raw, other_number(rng, frame)) for raw, frame in sizes]
        case 2:
            sizes = sizes * rng.choice([0, 2, 50]) + [(1, 1)] * rng.choice([0, 1, 400])
        case 3:
            rng.shuffle(sizes)
        case 4:
            member.index_edits = _edits(rng)
            return
        case 5:
            coding = other_bytes(rng, coding)
    check = check if rng.random() < 0.5 else rng.getrandbits(64)
    member.index = ct.Index(sizes, check, coding)


def mutate_skippable(rng: Random, stream: Stream) -> None:
    """More skippable frames, of true and of other sizes."""
    for _ in range(rng.randint(1, 3)):
        data = rng.randbytes(rng.choice([0, 1, 3, 30]))
        size = None if rng.random() < 0.6 else other_number(rng, len(data), (1 << 32) - 1)
        stream.insert(rng.randint(0, len(stream)), Skippable(data, size))


#: What a stream's content may be after each: that of its blocks in their order, or an error.
MUTATIONS: dict[str, Callable[[Random, Stream], None]] = {
    "header": mutate_header,
    "frames": mutate_frames,
    "payload": mutate_payload,
    "coded": mutate_coded,
    "runs": mutate_runs,
    "breaks": mutate_breaks,
    "index": mutate_index,
    "skippable": mutate_skippable,
}
