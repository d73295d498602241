"""``python -m nczip.assets FOLDER``: take newly made assets over, and name them in the manifest."""

import bz2
import hashlib
import os
import re
import shutil
from pathlib import Path

import click
import xxhash
import zstandard

from nczip.assets.manifest import FOLDER, MANIFEST, layout_of, manifest
from nczip.predictors.learnt import unpack_learnt
from nczip.predictors.primer import prime_table


def take_over(source: Path, assets: Path) -> list[str]:
    """Copy every file of ``source`` that the manifest in ``assets`` names, and rewrite its entry.

    A learnt state for text under a model is taken for one that was learnt under the built-in
    model as it is then.

    Returns:
        The ids of what was taken over.
    """
    text = (assets / MANIFEST).read_text()
    taken = []
    for name, asset in manifest(assets).items():
        if asset.file is None or not (source / asset.file).is_file():
            continue
        taken.append(name)
        shutil.copyfile(source / asset.file, assets / asset.file)
        data = (assets / asset.file).read_bytes()
        text = _set(text, name, "xxh3", xxhash.xxh3_64_hexdigest(data))
        if asset.sha256 is not None:
            text = _set(text, name, "sha256", hashlib.sha256(data).hexdigest())
        if asset.layout is not None:
            text = _set(text, name, "layout", layout_of(unpack_learnt(zstandard.decompress(data))))
        if asset.learnt_under:
            text = _set(text, name, "learnt_under", _get(text, "built-in-model", "sha256"))
        if name == "primer-text":
            table = prime_table(bz2.decompress(data), os.cpu_count() or 1)
            text = _set(text, "primed-table", "xxh3", xxhash.xxh3_64_hexdigest(table.data))
    (assets / MANIFEST).write_text(text)
    manifest.cache_clear()
    return taken


def _place(name: str, key: str) -> re.Pattern[str]:
    """Where the manifest has an entry's value."""
    return re.compile(rf'(?<=^\[{name}\]\n)((?:[^\[]*\n)?{key} = ")([^"]*)', re.MULTILINE)


def _get(text: str, name: str, key: str) -> str:
    found = _place(name, key).search(text)
    assert found is not None
    return found[2]


def _set(text: str, name: str, key: str, value: str) -> str:
    changed, count = _place(name, key).subn(rf"\g<1>{value}", text)
    assert count == 1
    return changed


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(folder: Path) -> None:
    """Copy every file of FOLDER that the manifest names, and rewrite its checks."""
    for name in take_over(folder, FOLDER):
        click.echo(name)


if __name__ == "__main__":
    main()
