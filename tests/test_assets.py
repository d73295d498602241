"""What ships: every file is the one that the manifest names, and states go with their models."""

import hashlib
import shutil

import numpy as np
import pytest
import xxhash
import zstandard

from nczip.assets import learnt, manifest
from nczip.assets.__main__ import take_over
from nczip.assets.models import find_model
from nczip.assets.primer import identify
from nczip.errors import PrimerError
from nczip.predictors.ensemble import learnt_state, new_ensemble
from nczip.predictors.layout import LAYOUTS
from nczip.predictors.learnt import layout_names, unpack_learnt
from nczip.predictors.protocol import Setup
from nczip.predictors.recurrent import no_weights
from nczip.predictors.table import new_table
from nczip.predictors.transformer.trie import no_trie
from nczip.presets import BUILT_IN

ASSETS = manifest.manifest(manifest.FOLDER)


@pytest.mark.parametrize("name", [name for name, asset in ASSETS.items() if asset.file])
def test_every_asset_is_the_one_that_the_manifest_names(name):
    data = manifest.read(name, PrimerError)
    if ASSETS[name].sha256:
        assert hashlib.sha256(data).hexdigest() == ASSETS[name].sha256
    if ASSETS[name].layout:
        state = unpack_learnt(zstandard.decompress(data))
        assert manifest.layout_of(state) == ASSETS[name].layout


def test_every_shipped_file_is_in_the_manifest():
    named = {asset.file for asset in ASSETS.values()}
    shipped = {p.name for p in manifest.FOLDER.iterdir() if p.suffix in (".gguf", ".bz2", ".zst")}
    assert shipped <= named


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_the_learnt_state_fits_its_layout(layout):
    setup = Setup(10, 1, new_table(0), no_trie(), no_weights())
    edges = np.array([0, 1])
    fresh = new_ensemble(np.zeros(1, np.uint8), edges, setup, binary=False, layout=layout)
    state = learnt_state(fresh, layout) | layout_names(layout)
    assert manifest.layout_of(state) == ASSETS[learnt.name_for(None, layout.name)].layout


def test_headers_name_the_primer_by_its_table_and_what_is_learnt():
    parts = ASSETS["primed-table"].xxh3.encode()
    for name in ("learnt", "learnt-tokens"):
        parts += (manifest.FOLDER / ASSETS[name].file).read_bytes()
    assert identify() == xxhash.xxh3_64_intdigest(parts) & 0xFFFFFFFF
    assert len({identify(layout) for layout in LAYOUTS}) == len(LAYOUTS)


def test_the_built_in_model_has_a_learnt_state_of_its_own():
    built_in = hashlib.sha256(find_model(BUILT_IN).read_bytes()).digest()
    assert learnt.name_for(built_in) == learnt.name_for(built_in[:8]) == "learnt-tokens"
    assert ASSETS["learnt-tokens"].learnt_under == built_in.hex()
    assert learnt.name_for(None) == "learnt"
    assert learnt.name_for(bytes(8)) == learnt.GENERIC


def test_a_new_file_is_taken_over_with_its_entry(tmp_path):
    home, made = tmp_path / "home", tmp_path / "made"
    shutil.copytree(manifest.FOLDER, home)
    made.mkdir()
    (made / "recurrent.npz.zst").write_bytes(b"another network")
    (made / "unknown").write_bytes(b"")
    assert take_over(made, home) == ["network"]
    changed = manifest.manifest(home)
    assert changed["network"].xxh3 == xxhash.xxh3_64_hexdigest(b"another network")
    assert {k: v for k, v in changed.items() if k != "network"} == {
        k: v for k, v in ASSETS.items() if k != "network"
    }
    (made / "recurrent.npz.zst").unlink()
    (made / f"{BUILT_IN}.gguf").write_bytes(b"another model")
    take_over(made, home)
    changed = manifest.manifest(home)
    assert changed["built-in-model"].sha256 == hashlib.sha256(b"another model").hexdigest()
    # Whatever was learnt was not learnt under it.
    assert changed["learnt-tokens"] == ASSETS["learnt-tokens"]
