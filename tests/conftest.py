"""Fixtures: the evaluation corpora and the engines."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


def _corpora() -> Path:
    named = os.environ.get("NCZIP_CORPORA")
    return Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "corpora"


@pytest.fixture(scope="session")
def corpora() -> Path:
    folder = _corpora()
    if not folder.is_dir():
        pytest.skip(f"no evaluation corpora at {folder} (NCZIP_CORPORA names another place)")
    return folder


@pytest.fixture(scope="session")
def llama():
    """The built-in model under llama.cpp."""
    pytest.importorskip("llama_cpp", reason="the llama extra is not installed")
    return _built_in("llama")


@pytest.fixture(scope="session")
def exact():
    """The built-in model under the exact engine."""
    return _built_in("exact")


def _built_in(engine):
    from nczip.assets.models import find_model
    from nczip.engines import load_model
    from nczip.presets import BUILT_IN

    return load_model(find_model(BUILT_IN), engine).engine
