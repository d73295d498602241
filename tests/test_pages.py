"""What the pages show runs as it stands there."""

import doctest
import importlib
from pathlib import Path

import pytest

_CHECKOUT = Path(__file__).resolve().parent.parent
_PAGES = [_CHECKOUT / "README.md", *sorted((_CHECKOUT / "docs").rglob("*.md"))]
_OTHERS = {"python.md", "integrations.md"}  # which test_docs.py runs
_WITH_EXAMPLES = [p for p in _PAGES if ">>> " in p.read_text() and p.name not in _OTHERS]
_FLAGS = doctest.IGNORE_EXCEPTION_DETAIL | doctest.ELLIPSIS


@pytest.mark.parametrize("page", _WITH_EXAMPLES, ids=lambda page: page.stem)
def test_examples_of_a_page(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    failed, tried = doctest.testfile(str(page), module_relative=False, optionflags=_FLAGS)
    assert tried
    assert not failed


@pytest.mark.parametrize("module", ["nczip.file", "nczip.stream"])
def test_examples_of_docstrings(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    failed, tried = doctest.testmod(importlib.import_module(module), optionflags=_FLAGS)
    assert tried
    assert not failed


def test_the_manifest_for_kubernetes_is_a_ray_job():
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    text = (_CHECKOUT / "docs/guides/clusters.md").read_text()
    job = yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])
    assert job["kind"] == "RayJob"
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["rayVersion"] in text.split("```dockerfile\n")[1]
    words = job["spec"]["entrypoint"].split()
    from nczip.integrations.ray_cli import ray

    with ray.make_context("ray", words[2:3], resilient_parsing=True) as context:
        command = ray.get_command(context, words[2])
        assert command is not None
        parsed = command.make_context("c", words[3:], parent=context)
    assert parsed.params["workers"] == 128
