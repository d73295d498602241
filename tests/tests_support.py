"""Inputs of every awkward kind."""

import random


def english(size: int, seed: int = 1) -> bytes:
    """Text with words, sentences and lines, made from a fixed vocabulary."""
    words = (
        "the of and to in a is that it was for on are as with they at be this from have or by one "
        "had not but what all were when we there can an your which their said if do will each "
        "about how up out them then she many some so these would other into has more her two like"
    ).split()
    rng = random.Random(seed)
    out = bytearray()
    while len(out) < size:
        sentence = " ".join(rng.choices(words, k=rng.randint(4, 14)))
        out += sentence.capitalize().encode() + rng.choice([b". ", b".\n", b"? "])
    return bytes(out[:size])


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def records(size: int) -> bytes:
    """Binary records with a stride of 12 bytes."""
    rows = (
        i.to_bytes(4, "little") + b"\0\1" + (i * i % 997).to_bytes(6, "big") for i in range(size)
    )
    return b"".join(rows)[:size]


AWKWARD = {
    "empty": b"",
    "one byte": b"x",
    "two bytes": b"\xff\x00",
    "a run": b"a" * 30_000,
    "zeros": bytes(30_000),
    "random": noise(20_000),
    "english": english(12_000),
    "records": records(9_000),
    "invalid UTF-8": b"caf\xe9 \xff\xfe na\xc3" * 500,
    "UTF-8": "Grüße, 世界! Ελληνικά \N{SNOWMAN} ".encode() * 200,
    "text, binary, random, text": english(9_000)
    + records(9_000)
    + noise(40_000)
    + english(7_000, 2),
    "all bytes": bytes(range(256)) * 20,
    "CRLF and tabs": b"a\tb\r\nc\td\r\n" * 600,
}
