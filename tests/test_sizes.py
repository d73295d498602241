"""``nczip bench sizes``: heads encoded in one process, rows that later ones are compared with."""

import json
import math

import pytest
from click.testing import CliRunner
from tests_support import english, records

import nczip
from nczip.bench import sizes
from nczip.bench.cli import bench
from nczip.bench.sizes import Head, Row
from nczip.corpora.manifest import load_manifest


@pytest.fixture
def rows():
    def row(commit, set_name="quick", preset="fast", options=None, scale=1):
        files = {"a": (1000, 200 * scale), "b": (1000, 400 * scale)}
        return Row(commit, False, "2026-01-01", set_name, preset, options or {}, 1.0, files)

    return [row("abc123"), row("def456", scale=2), row("abc999", "prose"),
            row("def456", options={"primer": False}, scale=4)]  # fmt: skip


def test_every_set_names_files_of_the_corpora():
    manifest = load_manifest()
    for name, entry in sizes.read_sets().items():
        paths = [path for kind, value in entry.items() if isinstance(value, list) for path in value]
        assert 5 <= len(paths) <= 16 and len(set(paths)) == len(paths), name
        assert all(manifest.file(path) is not None for path in paths), name


def test_no_file_that_is_tuned_on_is_held_out():
    sets = {
        name: {path for value in entry.values() if isinstance(value, list) for path in value}
        for name, entry in sizes.read_sets().items()
    }
    holdout = sets.pop("holdout")
    assert not holdout & set().union(*sets.values())


def test_rows_are_found_by_commit_number_and_last(rows):
    like = ("quick", "fast", {})
    assert sizes.find_row("last", rows, like) is rows[1]
    assert sizes.find_row("last", rows, ("quick", "fast", {"primer": False})) is rows[3]
    assert sizes.find_row("abc", rows, like) is rows[0]
    assert sizes.find_row("3", rows, like) is rows[2]
    for reference in ("fff", "5", "0", ""):
        with pytest.raises(sizes.SizesError, match="say 'last'"):
            sizes.find_row(reference, rows, like)


def test_means_are_geometric_and_only_of_files_that_both_cut_alike(rows):
    whole, half = rows[0], rows[1]
    assert sizes.ratio(half, whole, ["a", "b"]) == pytest.approx(2)
    assert sizes.bits_per_byte(whole, ["a", "b"]) == pytest.approx(8 * math.sqrt(0.2 * 0.4))
    longer = Row(**{**vars(half), "files": {"a": (2000, 300), "b": (1000, 100)}})
    assert sizes.shared(longer, whole) == ["b"]
    table = sizes.to_markdown(longer, {"a": "x", "b": "y"}, whole)
    assert table.splitlines()[2].endswith("|  |")  # a
    assert table.splitlines()[3] == "| b | 1,000 | 100 | 0.8000 | -75.000% |"
    assert table.splitlines()[-1].endswith("-75.000% |")


def test_a_row_is_what_the_library_compresses_to():
    heads = [Head("t", "text", english(3000)), Head("r", "binary", records(2000))]
    rows = [sizes.run("s", heads, "fast", {"primer": False}, jobs) for jobs in (1, 2)]
    assert rows[0].files == rows[1].files
    for head in heads:
        packed = nczip.compress(head.data, "fast", primer=False)
        assert rows[0].files[head.path] == (len(head.data), len(packed))
    assert rows[0].seconds > 0


def test_the_command_appends_rows_and_compares(corpora, tmp_path, monkeypatch):
    monkeypatch.setattr(sizes, "BESIDE", corpora)
    entry = {"what": "small", "cut": 1000, "prose": ["calgary/book1"], "binary": ["calgary/geo"]}
    monkeypatch.setattr(sizes, "read_sets", lambda: {"small": entry})
    log = tmp_path / "log.jsonl"

    def invoke(*arguments):
        words = ["sizes", *arguments, "--no-primer", "--log", str(log)]
        return CliRunner().invoke(bench, words, catch_exceptions=False).stdout

    assert "against" not in invoke("small", "--note", "first")
    table = invoke("small", "--against", "last")
    assert table.count("+0.000%") == 5
    first, second = (json.loads(line) for line in log.read_text().splitlines())
    assert first["note"] == "first" and first["options"] == {"primer": False}
    assert first["files"] == second["files"] and set(first["files"]) == {
        "calgary/book1",
        "calgary/geo",
    }
    assert first["commit"] is None or len(first["commit"]) == 12
    with pytest.raises(sizes.SizesError, match="no set 'large'"):
        invoke("large")


def test_an_installation_keeps_no_rows_of_its_own(monkeypatch):
    monkeypatch.setattr(sizes, "_IN_CHECKOUT", False)
    assert sizes._commit() == (None, False)
    with pytest.raises(sizes.SizesError, match="--log"):
        CliRunner().invoke(bench, ["sizes", "quick"], catch_exceptions=False)


def test_the_sets_are_listed():
    listed = CliRunner().invoke(bench, ["sizes"]).stdout
    assert [line.split(":")[0] for line in listed.splitlines()] == list(sizes.read_sets())
