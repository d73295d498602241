"""Fixtures: the evaluation corpora and the engines."""

import os
import sys
from pathlib import Path

import pytest

_TESTS = Path(__file__).resolve().parent
sys.path.insert(0, str(_TESTS))
# What tests run in other processes, and in other folders, is this checkout, too.
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, [str(_TESTS.parent), os.environ.get("PYTHONPATH")])
)


def corpora_folder() -> Path:
    """Where the evaluation corpora are, if they are."""
    named = os.environ.get("NCZIP_CORPORA")
    return Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "corpora"


@pytest.fixture(scope="session")
def corpora() -> Path:
    folder = corpora_folder()
    if not folder.is_dir():
        pytest.skip(f"no evaluation corpora at {folder} (NCZIP_CORPORA names another place)")
    return folder


@pytest.fixture
def server():
    """A local HTTP server."""
    from http_server import Server

    server = Server()
    yield server
    server.close()


@pytest.fixture(scope="session")
def llama():
    """The built-in model under llama.cpp."""
    pytest.importorskip("llama_cpp", reason="the llama extra is not installed")
    return built_in("llama")


@pytest.fixture(scope="session")
def exact():
    """The built-in model under the exact engine."""
    return built_in("exact")


def built_in(engine):
    """The built-in model under an engine, by name."""
    from nczip.assets.models import find_model
    from nczip.engines import load_model
    from nczip.presets import BUILT_IN

    return load_model(find_model(BUILT_IN), engine).engine
