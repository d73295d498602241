"""The byte-level BPE tokeniser (Sennrich et al., 2016; GPT-2's letters for bytes and splitting)."""

import random
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import click

from nczip.predictors.train import sources
from nczip.predictors.transformer.gguf_file import check_gguf
from nczip.predictors.transformer.gguf_tokens import GgufVocabulary
from nczip.predictors.transformer.trie import MAX_TOKENS

#: Separates documents; the first token of every vocabulary, fed before a lane's first token.
SEPARATOR = "<|endoftext|>"
SEPARATOR_TOKEN = 0


def train_tokeniser(texts: Iterator[str], size: int) -> Any:
    """A ``tokenizers.Tokenizer`` of at most ``size`` tokens, the separator being token 0."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokeniser = Tokenizer(models.BPE())
    tokeniser.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokeniser.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[SEPARATOR],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
        max_token_length=24,
    )
    tokeniser.train_from_iterator(texts, trainer)
    return tokeniser


def load_tokeniser(path: Path) -> Any:
    """A tokeniser from the JSON that ``tokeniser`` writes, or from a GGUF's metadata."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    if path.suffix == ".gguf":
        known = GgufVocabulary(check_gguf(path, MAX_TOKENS))
        numbers = {piece: number for number, piece in enumerate(known.pieces)}
        tokeniser = Tokenizer(models.BPE(numbers, known.merges))
        tokeniser.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        return tokeniser
    return Tokenizer.from_file(str(path))


def sample(folder: Path, size: int, seed: int = 1) -> Iterator[str]:
    """``size`` bytes of excerpts, taken in turn from each collection of a folder."""
    rng = random.Random(seed)
    names = sorted(path for path in folder.glob("*.txt.zst") if not path.name.startswith("valid-"))
    streams = {path: sources.excerpts(sources.documents(path), 8000, rng) for path in names}
    for path in cycle(names):
        text = next(streams[path], b"") if path in streams else b""
        if not text:
            streams.pop(path, None)
        if size <= 0 or not streams:
            return
        size -= len(text)
        yield text.decode("utf-8", "ignore")


@click.command()
@click.argument("train", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--tokens", default=8192, show_default=True, help="Size of the vocabulary.")
@click.option("--megabytes", default=60.0, show_default=True, help="Text to count pairs in.")
def tokeniser_command(train: Path, out: Path, tokens: int, megabytes: float) -> None:
    """Build a vocabulary from the collections (*.txt.zst) in TRAIN; write OUT (JSON)."""
    tokeniser = train_tokeniser(sample(train, int(megabytes * 1e6)), tokens)
    out.parent.mkdir(parents=True, exist_ok=True)
    tokeniser.save(str(out))
    click.echo(f"{tokeniser.get_vocab_size()} tokens")
