"""Where training text comes from: collections of documents, installed files, generated text."""

import gzip
import random
from collections.abc import Iterator
from pathlib import Path

import zstandard

#: Kinds of installed files, by suffix.
INSTALLED = {
    "c": (".c", ".h", ".cc", ".cpp", ".hpp"),
    "python": (".py",),
    "web": (".js", ".ts", ".css"),
    "scripts": (".pl", ".pm", ".sh", ".sql", ".tcl", ".el", ".cmake"),
    "html": (".html", ".htm"),
    "xml": (".xml", ".svg", ".xsl"),
    "data": (".json", ".yaml", ".yml", ".toml", ".conf", ".ini", ".csv"),
    "markdown": (".md", ".rst"),
    "manual": (".gz",),
}
_INSTALLED_PIECE = 12_000
_BROKEN_SHARE = 0.2
_LEAST = 400  # bytes of a document worth having


def documents(path: Path) -> list[bytes]:
    """The documents of a collection: a zstd file in which NUL bytes separate them."""
    with path.open("rb") as file:
        reader = zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(file)
        return reader.read().split(b"\0")


def excerpts(texts: list[bytes], longest: int, rng: random.Random) -> Iterator[bytes]:
    """An excerpt of each document in random order, then another of each that is long enough..."""
    rest = [text for text in texts if len(text) >= _LEAST]
    rng.shuffle(rest)
    while rest:
        for text in rest:
            start = rng.randrange(max(len(text) - longest, 1))
            start = text.find(b"\n", start) + 1 if start else 0
            yield text[start : start + longest]
        rest = [text for text in rest if len(text) > 3 * longest]


def pieces(texts: list[bytes], longest: int, rng: random.Random) -> Iterator[bytes]:
    """All of the documents, each once, cut after lines, in random order."""
    cuts = []
    for number, text in enumerate(texts):
        start = 0
        while len(text) - start >= _LEAST:
            stop = start + longest
            if stop < len(text):
                stop = text.rfind(b"\n", start + longest // 2, stop) + 1 or stop
            cuts.append((number, start, stop))
            start = stop
    rng.shuffle(cuts)
    for number, start, stop in cuts:
        yield texts[number][start:stop]


def typeset(piece: bytes, rng: random.Random) -> bytes:
    """The piece as files hold it: often with its lines broken.

    Collections mostly keep a paragraph on one line. All line ends are LF: so are those that the
    model codes (``formats.transforms.newlines``).
    """
    if rng.random() < _BROKEN_SHARE:
        return _with_broken_lines(piece, rng.randint(58, 80), rng.choice((0, 0, 0, 1, 2, 4, 5)))
    return piece


def _with_broken_lines(piece: bytes, width: int, indent: int) -> bytes:
    """Lines of at most ``width`` bytes, broken at spaces; the first of a paragraph is indented."""
    out = []
    for paragraph in piece.split(b"\n"):
        line = b" " * indent if len(paragraph) > width else b""
        for word in paragraph.split(b" "):
            if len(line) + len(word) > width and line.strip():
                out.append(line.rstrip(b" "))
                line = b""
            line += word + b" "
        out.append(line[:-1])
    return b"\n".join(out)


def installed(root: Path, suffixes: tuple[str, ...], rng: random.Random) -> Iterator[bytes]:
    """A piece of each installed file with one of the suffixes, in random order."""
    paths = [path for path in sorted(root.rglob("*")) if path.suffix in suffixes]
    rng.shuffle(paths)
    for path in paths:
        if not path.is_file() or path.is_symlink():
            continue
        try:
            data = path.read_bytes()
            data = gzip.decompress(data) if path.suffix == ".gz" else data
            data.decode()
        except (OSError, UnicodeDecodeError, EOFError, ValueError):
            continue
        if len(data) >= _LEAST and b"\0" not in data:
            yield data[:_INSTALLED_PIECE]
