"""Text as tokens on disk: what is trained on, in the order in which it is trained on."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from nczip.predictors.train import generate, sources
from nczip.predictors.train.decontaminate import Decontaminator
from nczip.predictors.train.tokeniser import SEPARATOR_TOKEN, load_tokeniser

_SEED = 20261123
_PIECE = 32_000  # bytes of a document that stay together
_BATCH = 512  # pieces tokenised at once

_MIXTURE = "books=130,articles=24,docs=12,installed=16,logs=2,wiki=8"
#: What is generated (and clean as it comes); the rest are collections and "installed".
GENERATED = ("logs", "wiki")


def tokens_of(tokeniser: Any, texts: list[bytes]) -> list[npt.NDArray[np.uint16]]:
    """Tokens of each text, a separator before each."""
    decoded = [text.decode("utf-8", "ignore") for text in texts]
    encoded = tokeniser.encode_batch(decoded, add_special_tokens=False)
    return [np.array([SEPARATOR_TOKEN, *e.ids], np.uint16) for e in encoded]


def _clean(
    pieces: Iterator[bytes], size: float, check: Decontaminator, counts: dict[str, int]
) -> Iterator[bytes]:
    """Pieces of ``size`` bytes together that share nothing with the texts to keep out."""
    for piece in pieces:
        if counts["bytes"] >= size:
            return
        if check.is_clean(piece):
            counts["pieces"] += 1
            counts["bytes"] += len(piece)
            yield piece
        else:
            counts["dropped"] += 1


def _stream(
    name: str, train: Path, root: Path, size: float, rng: random.Random, check: Decontaminator
) -> Iterator[bytes]:
    """Pieces of one kind of text, in random order; of what is generated, clean ones."""
    if name == "logs":
        return generate.logs(int(size), _SEED)
    if name == "wiki":
        articles = sources.pieces(sources.documents(train / "articles.txt.zst"), _PIECE, rng)
        # Every dump has the same tags: what must be clean is the text between them.
        clean = (text for text in articles if check.is_clean(text))
        return generate.wiki(clean, int(size), _SEED)
    if name == "installed":
        suffixes = tuple(suffix for kind in sources.INSTALLED.values() for suffix in kind)
        return sources.installed(root, suffixes, rng)
    texts = sources.pieces(sources.documents(train / f"{name}.txt.zst"), _PIECE, rng)
    return (sources.typeset(text, rng) for text in texts)


def _parse_mixture(mixture: str) -> dict[str, float]:
    """``name=MB,...`` as a dictionary."""
    parts = [part.partition("=") for part in mixture.split(",")]
    return {name: float(megabytes) for name, _, megabytes in parts}


def encode(
    train: Path, out: Path, tokeniser_path: Path, keep_out: Path | None, root: Path, mixture: str
) -> None:
    """Write OUT/train.npy (shuffled), OUT/valid-NAME.npy, and OUT/data.json, which counts."""
    tokeniser = load_tokeniser(tokeniser_path)
    check = Decontaminator.of_folder(keep_out) if keep_out else Decontaminator([])
    rng = random.Random(_SEED)
    out.mkdir(parents=True, exist_ok=True)
    parts: list[npt.NDArray[np.uint16]] = []
    counts: dict[str, dict[str, int]] = {}
    for name, megabytes in _parse_mixture(mixture).items():
        count = counts[name] = {"pieces": 0, "bytes": 0, "dropped": 0, "tokens": 0}
        allowed = Decontaminator([]) if name in GENERATED else check
        size = megabytes * 1e6
        stream = _stream(name, train, root, size, rng, check)
        chosen = list(_clean(stream, size, allowed, count))
        for start in range(0, len(chosen), _BATCH):
            encoded = tokens_of(tokeniser, chosen[start : start + _BATCH])
            count["tokens"] += sum(map(len, encoded))
            parts += encoded
        click.echo(f"{name}: {count}")
    rng.shuffle(parts)
    np.save(out / "train.npy", np.concatenate(parts))
    for path in sorted(train.glob("valid-*.txt.zst")):
        texts = [text for text in sources.documents(path) if text]
        encoded = tokens_of(tokeniser, texts)
        np.save(out / path.name.replace(".txt.zst", ".npy"), np.concatenate(encoded))
        counts[path.name.removesuffix(".txt.zst")] = {
            "pieces": len(texts),
            "bytes": sum(map(len, texts)),
            "tokens": sum(map(len, encoded)),
        }
    (out / "data.json").write_text(json.dumps(counts, indent=1) + "\n")


_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.argument("train", type=_FOLDER)
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option("--tokeniser", "tokeniser_path", type=click.Path(exists=True, path_type=Path),
              required=True, help="A JSON, or a GGUF to go on from.")  # fmt: skip
@click.option("--keep-out", type=_FOLDER, help="Nothing that shares eight words with its files.")
@click.option("--installed", "root", type=_FOLDER, default="/usr", show_default=True)
@click.option("--mixture", default=_MIXTURE, show_default=True,
              help="MB of each: collections in TRAIN, installed, logs, wiki.")  # fmt: skip
def encode_command(
    train: Path, out: Path, tokeniser_path: Path, keep_out: Path | None, root: Path, mixture: str
) -> None:
    """Write OUT/train.npy (shuffled), OUT/valid-NAME.npy, and OUT/data.json, which counts."""
    encode(train, out, tokeniser_path, keep_out, root, mixture)
