"""Makes the primer: chooses its text, and learns under it how far to trust it."""

import bz2
import random
from collections.abc import Iterable, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

import click
import numpy as np
import zstandard

from nczip.coder import rangecoder
from nczip.predictors import primer
from nczip.predictors.codec import CodecSettings, TransformerSettings, code, engine_trie
from nczip.predictors.ensemble import learnt_state
from nczip.predictors.layout import FULL, LAYOUTS, Layout
from nczip.predictors.learnt import layout_names, pack_learnt
from nczip.predictors.primer import Primer
from nczip.predictors.recurrent import Weights, unpack_weights
from nczip.predictors.table import Table, view_table
from nczip.predictors.train import generate, sources
from nczip.predictors.train.decontaminate import Decontaminator
from nczip.predictors.transformer.exact import ExactEngine

_SEED = 20261121
_MB = 1_000_000

#: MB of the primer from each collection of the training text, and the longest piece of a document.
_COLLECTIONS = {"books": (40.0, 40_000), "articles": (6.0, 20_000), "docs": (5.0, 8_000)}
#: MB of the primer from each kind of installed file.
_INSTALLED_MB = {
    "c": 2.6,
    "python": 1.6,
    "web": 0.8,
    "scripts": 0.7,
    "html": 1.2,
    "xml": 0.7,
    "data": 0.8,
    "markdown": 0.8,
    "manual": 0.8,
}
_LOGS_MB, _WIKI_MB = 1.0, 1.6

#: MB that are coded to learn from, for each kind; other pieces than the primer's.
_LEARN_MB = {"books": 2.0, "articles": 0.7, "docs": 0.7, "installed": 1.6, "generated": 0.4}
_LEARN_GROUP = 200_000  # bytes of a block
_LEARN_TABLE_BITS = 22


def _take(pieces: Iterable[bytes], size: float, check: Decontaminator) -> tuple[list[bytes], int]:
    """Clean pieces of ``size`` bytes together, and how many were dropped."""
    taken: list[bytes] = []
    seen: set[int] = set()
    total = dropped = 0
    for piece in pieces:
        if total >= size:
            break
        key = hash(piece[:200])
        if key in seen:
            continue
        seen.add(key)
        if check.is_clean(piece):
            taken.append(piece)
            total += len(piece)
        else:
            dropped += 1
    return taken, dropped


def collect(
    train: Path, corpora: Path, roots: dict[str, Path], scale: float
) -> tuple[list[bytes], list[bytes]]:
    """The pieces of the primer, and those to learn from, both shuffled and free of ``corpora``."""
    rng, lines_rng = random.Random(_SEED), random.Random(_SEED)
    check = Decontaminator.of_folder(corpora)
    text: list[bytes] = []
    learn: list[bytes] = []

    def add(label: str, pieces: Iterable[bytes], primer_mb: float, learn_mb: float) -> None:
        taken, dropped = _take(pieces, (scale * primer_mb + learn_mb) * _MB, check)
        rng.shuffle(taken)
        size = 0
        for piece in taken:
            size += len(piece)
            if size > learn_mb * _MB:
                text.append(piece)
            else:
                learn.append(sources.typeset(piece, lines_rng) if label in _COLLECTIONS else piece)
        total = sum(map(len, taken))
        click.echo(f"{label}: {len(taken)} pieces, {total / _MB:.1f} MB, {dropped} dropped")

    for name, (size, longest) in _COLLECTIONS.items():
        documents = sources.documents(train / f"{name}.txt.zst")
        add(name, sources.excerpts(documents, longest, rng), size, _LEARN_MB[name])
    total = sum(_INSTALLED_MB.values())
    for name, size in _INSTALLED_MB.items():
        share = _LEARN_MB["installed"] * size / total
        found = sources.installed(roots.get(name, roots[""]), sources.INSTALLED[name], rng)
        add(name, found, size, share)
    share = _LEARN_MB["generated"] / 2
    add("logs", generate.logs(int((_LOGS_MB + share) * 2 * _MB), _SEED), _LOGS_MB, share)
    # Every dump has the same tags: what must be clean of the corpora is the text between them.
    articles = [
        d for d in sources.documents(train / "articles.txt.zst") if check.is_clean(d[:20_000])
    ]
    rng.shuffle(articles)
    check = Decontaminator([])
    add("wiki", generate.wiki(articles, int((_WIKI_MB + share) * 2 * _MB), _SEED), _WIKI_MB, share)
    rng.shuffle(text)
    rng.shuffle(learn)
    return text, learn


def learn_state(
    table: Table,
    pieces: list[bytes],
    transformer: TransformerSettings | None,
    network: Weights | None,
    layout: Layout = FULL,
) -> bytes:
    """Code the pieces in groups, each as a block of its own; what is learnt, packed.

    The network guesses where there is no transformer.
    """
    state: Mapping[str, Any] | None = None
    groups = max(1, sum(map(len, pieces)) // _LEARN_GROUP)
    raw = coded = 0
    for group in range(groups):
        data = np.frombuffer(b"\n".join(pieces[group::groups]), np.uint8).copy()
        coder = rangecoder.new_encoder()
        buffer = rangecoder.attach(coder, len(data))
        known = Primer(table, learnt=state, learnt_tokens=state)
        settings = CodecSettings(
            _LEARN_TABLE_BITS, 1, transformer, known, layout=layout, network=network
        )
        ensemble = code(data, len(data) if transformer else 0, coder, buffer, settings)
        raw += len(data)
        coded += len(rangecoder.finish(coder, buffer) or data)
        state = learnt_state(ensemble, layout) | layout_names(layout)
        click.echo(f"group {group + 1} of {groups}: {8 * coded / raw:.4f} bits per byte so far")
    assert state is not None
    return pack_learnt(state, layout)


_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.argument("train", type=_FOLDER)
@click.argument("corpora", type=_FOLDER)
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option("--installed", type=_FOLDER, default="/usr", show_default=True)
@click.option("--manuals", type=_FOLDER, default="/usr/share/man", show_default=True)
@click.option("--scale", type=float, default=1.0, show_default=True, help="Times the usual size.")
def text_command(
    train: Path, corpora: Path, out: Path, installed: Path, manuals: Path, scale: float
) -> None:
    """Choose the primer's text from TRAIN and installed files, nothing of CORPORA; write to OUT."""
    text, learn = collect(train, corpora, {"": installed, "manual": manuals}, scale)
    out.mkdir(parents=True, exist_ok=True)
    (out / "primer.txt.bz2").write_bytes(bz2.compress(b"\n".join(text), 9))
    (out / "learn.txt.bz2").write_bytes(bz2.compress(b"\0".join(learn), 9))


@click.command()
@click.argument("folder", type=_FOLDER)
@click.option("--tokens", "model", type=click.Path(exists=True, path_type=Path),
              help="Learn under this GGUF transformer: the state for text under it.")  # fmt: skip
@click.option("--network", type=click.Path(exists=True, path_type=Path),
              help="Learn beside this recurrent network, or beside none.")  # fmt: skip
@click.option("--layout", "layout_name", type=click.Choice(list(LAYOUTS)), default="full",
              show_default=True, help="Of the predictors.")  # fmt: skip
@click.option("--size", type=float, default=1000.0, help="MB to learn from, at most.")
@click.option("--threads", type=int, default=2, show_default=True)
def learn_command(
    folder: Path,
    model: Path | None,
    network: Path | None,
    layout_name: str,
    size: float,
    threads: int,
) -> None:
    """Learn the state that goes with FOLDER/primer.txt.bz2 from FOLDER/learn.txt.bz2."""
    transformer = None
    if model is not None:
        engine = ExactEngine(model)
        transformer = TransformerSettings(engine, engine_trie(engine), 8, 512, threads)
    weights = None
    if network is not None:
        weights = unpack_weights(zstandard.decompress(network.read_bytes()))
    text = bz2.decompress((folder / "primer.txt.bz2").read_bytes())
    table = view_table(primer.prime_table(text, threads))
    pieces = bz2.decompress((folder / "learn.txt.bz2").read_bytes()).split(b"\0")
    ends = accumulate(map(len, pieces))
    used = [piece for piece, end in zip(pieces, ends, strict=True) if end <= size * _MB]
    layout = LAYOUTS[layout_name]
    packed = zstandard.compress(learn_state(table, used, transformer, weights, layout), 22)
    kind = "-tokens" if model else "" if layout is FULL else f"-{layout_name}"
    (folder / f"learnt{kind}.npz.zst").write_bytes(packed)
