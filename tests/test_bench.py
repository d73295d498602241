"""The benchmark: honest figures, verified round trips, and exact sizes that must not grow."""

import json
import os
import stat
import xml.dom.minidom
from pathlib import Path

import golden_files
import pytest
from click.testing import CliRunner
from small_models import Shape, write_model
from tests_support import english, records

import nczip
from nczip.bench import analyse, compressors
from nczip.bench.chart import draw_curves, draw_speeds, pareto_front
from nczip.bench.cli import bench
from nczip.bench.compressors import COMPRESSORS, Compressor, choose
from nczip.bench.measure import BenchError, Measurement, describe_machine, measure_all
from nczip.bench.report import sizes_markdown, to_json, to_markdown, totals
from nczip.corpora import load_manifest
from nczip.corpora.store import find, read
from nczip.predictors.ensemble import parts

SIZES = golden_files.pinned("sizes")


@pytest.mark.parametrize("path", sorted(SIZES))
def test_exact_sizes_have_not_changed(corpora, path):
    """Better or worse, a change of these is a decision: tests/golden/update.py writes it down."""
    data = read(load_manifest().file(path), corpora)[: SIZES[path]["head"]]
    assert golden_files.sizes_of(data) == SIZES[path]["bytes"]


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Compressors in shell: one that works, and several that do not."""
    folder = tmp_path / "bin"
    folder.mkdir()
    scripts = {
        "works": 'cp "$2" "$3"',
        "loses": 'if [ "$1" = c ]; then cp "$2" "$3"; else head -c 10 "$2" > "$3"; fi',
        "fails": 'echo "out of luck" >&2; exit 3',
        "hangs": "sleep 60",
        "suffixes": 'if [ "$1" = c ]; then cp "$2" "$3.zpaq"; else cp "$2" "$4/whatever"; fi',
        "pipes": "cat",
    }
    for name, script in scripts.items():
        path = folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def program(name):
        if name == "pipes":
            return Compressor(name, (name,), (name,), name)
        return Compressor(
            name, (name, "c", "{input}", "{output}"), (name, "d", "{input}", "{output}"), name
        )

    made = {name: program(name) for name in scripts}
    made["suffixes"] = Compressor(
        "suffixes", ("suffixes", "c", "{input}", "{output}"),
        ("suffixes", "d", "{input}", "-", "{folder}"), "suffixes",
    )  # fmt: skip
    return made


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text"
    path.write_bytes(english(5000))
    return [("text", path)]


@pytest.mark.parametrize("name", ["works", "suffixes", "pipes"])
def test_programs_of_every_calling_convention_are_measured(programs, text, name):
    (result,) = measure_all([programs[name]], text, repetitions=3)
    assert result.error is None
    assert (result.compressed_size, result.raw_size, result.repetitions) == (5000, 5000, 3)
    assert result.bits_per_byte == 8 and 0 < result.compress_seconds < 10
    assert result.compress_peak_bytes > 100_000


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("loses", "does not come back"),
        ("fails", "exit code 3: out of luck"),
        ("hangs", "more than"),
    ],
)
def test_what_fails_is_reported_and_the_others_go_on(programs, text, name, reason):
    bad, good = measure_all([programs[name], programs["works"]], text, timeout=1)
    assert reason in bad.error and good.error is None
    assert totals([bad, good]) == []
    assert "failed" in to_markdown([bad, good])


def test_the_order_alternates(programs, text):
    heard = []
    two = [programs["works"], programs["pipes"]]
    measure_all(two, text, repetitions=2, report=heard.append)
    assert heard == ["works: text", "pipes: text", "pipes: text", "works: text"]


def test_unknown_and_missing_compressors_are_errors(monkeypatch):
    with pytest.raises(ValueError, match="no compressor 'nonsense'"):
        choose(("nonsense",))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ValueError, match="paq8px -8 is not here, for it needs paq8px"):
        choose(("paq8px -8",))
    assert all(compressor.in_python for compressor in choose(()))
    assert len({compressor.name for compressor in COMPRESSORS}) == len(COMPRESSORS)


PEERS = {
    # Both refuse to work under another model than the one that is compared.
    "model_wrapper.py": """
class ModelWrapper:
    def _find_gguf(self):
        return None
""",
    "cli.py": """
import sys
from model_wrapper import ModelWrapper
command, *options, source, target = sys.argv[1:]
assert options == ["--workers", "1"] and command in ("compress", "decompress")
assert open(ModelWrapper()._find_gguf(), "rb").read(4) == b"GGUF"
data = open(source, "rb").read()
open(target, "wb").write(data + b"!" if command == "compress" else data[:-1])
""",
    "llama_zip.py": """
import sys
model, *options, direction = sys.argv[1:]
assert options == ["-w", "25%"] and open(model, "rb").read(4) == b"GGUF"
data = sys.stdin.buffer.read()
sys.stdout.buffer.write({"-c": data + b"!!", "-d": data[:-2]}[direction])
""",
}


@pytest.fixture
def peers(tmp_path, monkeypatch):
    """Stand-ins for what is compared under one GGUF."""
    for name, script in PEERS.items():
        (tmp_path / name).write_text(script)
    monkeypatch.setenv("NCZIP_BENCH_MODEL", str(write_model(tmp_path / "some.gguf", Shape())))
    monkeypatch.setenv("NCZIP_NACRITH", str(tmp_path))
    monkeypatch.setenv("NCZIP_LLAMA_ZIP", str(tmp_path))
    return choose(("nczip --model", "Nacrith", "llama-zip"))


def test_peers_with_a_model_are_measured_under_one_gguf(peers, text):
    ours, nacrith, llama_zip = measure_all(peers, text)
    assert (ours.error, nacrith.error, llama_zip.error) == (None, None, None)
    assert (nacrith.compressed_size, llama_zip.compressed_size) == (5001, 5002)
    with_model = nczip.compress(text[0][1].read_bytes(), "smollm2", model=peers[0].places["model"])
    assert ours.compressed_size == len(with_model)


@pytest.mark.usefixtures("peers")
@pytest.mark.parametrize(
    ("variable", "value", "name"),
    [
        ("NCZIP_NACRITH", "", "Nacrith"),
        ("NCZIP_LLAMA_ZIP", "/nowhere", "llama-zip"),
        ("NCZIP_BENCH_MODEL", "/nowhere.gguf", "nczip --model"),
        ("NCZIP_BENCH_MODEL", "/nowhere.gguf", "Nacrith"),
    ],
)
def test_peers_with_a_model_say_what_they_need(monkeypatch, variable, value, name):
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValueError, match=f"{name} is not here, for it needs {variable}"):
        choose((name,))


def test_the_catalogue_s_model_is_compared_where_none_is_named(peers, monkeypatch, tmp_path):
    monkeypatch.delenv("NCZIP_BENCH_MODEL")
    monkeypatch.setenv("NCZIP_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    if peers[0].missing is None:
        pytest.skip("smollm2 is installed as a package")
    assert "nczip models pull smollm2" in peers[0].missing
    monkeypatch.setattr(compressors, "find_model", lambda name: Path(f"/models/{name}.gguf"))
    assert peers[0].missing is None and peers[0].places["model"] == "/models/smollm2.gguf"


def _measurement(name, size, seconds, file="f"):
    return Measurement(name, file, 1000, size, seconds, seconds / 2, 1 << 20, 1 << 20, 1)


def test_the_pareto_front_holds_what_nothing_beats():
    points = [
        (10.0, 2.0, "a"),
        (100.0, 3.0, "b"),
        (50.0, 3.5, "c"),
        (5.0, 2.0, "d"),
        (1.0, 1.0, "e"),
    ]
    assert [name for _, _, name in pareto_front(points)] == ["e", "a", "b"]


def test_json_says_what_was_measured_where():
    results = [_measurement("a", 300, 1.0), _measurement("b", 400, 0.1)]
    document = json.loads(to_json(results, describe_machine(), "nczip bench f"))
    assert document["schema"] == "nczip-bench/1" and document["machine"]["cores"] >= 1
    row = document["measurements"][0]
    assert (row["compressor"], row["compressed_size"], row["bits_per_byte"]) == ("a", 300, 2.4)


def test_tables_hold_every_file_and_the_sum():
    results = [_measurement(n, s, 1.0, f) for f in ("f", "g") for n, s in (("a", 300), ("b", 400))]
    text = to_markdown(results)
    assert "### f (1,000 bytes)" in text and "### All: 2 files" in text and "| a | 600 |" in text
    assert sizes_markdown(results).splitlines()[2] == "| f | 1,000 | 300 | 400 |"


def test_charts_are_pictures(tmp_path):
    pytest.importorskip("matplotlib", reason="the bench extra is not installed")
    results = [_measurement("nczip", 300, 1.0), _measurement("b", 400, 0.1)]
    drawn = draw_speeds(results, tmp_path / "speeds")
    drawn += draw_curves({"f": [(1000, 2.0), (2000, 1.5)]}, tmp_path / "curve")
    assert [path.suffix for path in drawn] == [".png", ".svg"] * 2
    for path in drawn:
        if path.suffix == ".svg":
            assert xml.dom.minidom.parse(str(path)).documentElement.tagName == "svg"
        else:
            assert path.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(BenchError, match="nothing to draw"):
        draw_speeds([Measurement("a", "f", 10, error="failed")], tmp_path / "none")


def test_ablation_shows_that_parts_are_worth_their_place():
    source = Path(nczip.stream.__file__).read_bytes() * 2
    files = [("source", source), ("binary", records(9000) + english(6000))]
    rows = {row.name: row.sizes for row in analyse.ablate(files, "fast")}
    whole = rows.pop("(all)")
    assert set(rows) == {*parts(), "primer"}
    for name, sizes in rows.items():
        assert all(sizes[i] > 0.99 * whole[i] for i in range(len(files))), name
    # What each of these is worth, on the first file or on the second.
    on_text = ["orders", "layout", "match", "shapes", "network", "primer"]
    on_binary = ["orders", "records", "indirect", "curves"]
    assert all(rows[name][0] > whole[0] for name in on_text)
    assert all(rows[name][1] > whole[1] for name in on_binary)


def test_the_curve_adds_up_to_the_whole_size():
    data = english(9000)
    points = analyse.curve(data, "fast")
    assert [end for end, _ in points] == [1024, 2048, 4096, 8192, 9000]
    starts = [0, *(end for end, _ in points)]
    bits = sum(bpb * (end - start) for (end, bpb), start in zip(points, starts, strict=False))
    assert round(bits / 8) == len(nczip.compress(data, "fast"))


def test_models_are_compared_alone_and_mixed():
    from nczip.presets import BUILT_IN

    ((name, alone, mixed),) = analyse.compare_models([("f", english(6000))], [BUILT_IN])
    assert name == BUILT_IN
    assert 500 < mixed.sizes[0] < alone.sizes[0] < 6000


def test_the_command_measures_what_it_is_told(text, tmp_path):
    out = tmp_path / "out.json"
    arguments = [str(text[0][1]) + ":3000", "-q", "-c", "gzip -9", "-c", "nczip fast"]
    result = CliRunner().invoke(bench, [*arguments, "--json", str(out)], catch_exceptions=False)
    assert result.exit_code == 0 and "nczip fast" in result.output
    rows = {row["compressor"]: row for row in json.loads(out.read_text())["measurements"]}
    assert rows["nczip fast"]["raw_size"] == 3000
    assert rows["nczip fast"]["compressed_size"] < rows["gzip -9"]["compressed_size"] < 3000


def test_the_command_finds_corpora_and_says_what_it_does_not_find(corpora, monkeypatch):
    monkeypatch.setenv("NCZIP_CORPORA", str(corpora))
    listed = CliRunner().invoke(bench, ["canterbury/fields.c", "-q", "-c", "gzip -9"])
    assert "canterbury/fields.c: 11,150 bytes" in listed.output
    with pytest.raises(nczip.NczipError, match="neither a file nor known"):
        CliRunner().invoke(bench, ["nothing.txt"], catch_exceptions=False)
    assert find(load_manifest().file("canterbury/fields.c")) is not None


def test_every_command_refuses_what_belongs_to_another(text):
    path = str(text[0][1])
    for arguments in (
        ["ablate", path, "--json", "x"], ["curve", path, "-c", "gzip -9"], ["models", path],
        [path, "--preset", "max"], [], ["sizes", "quick", "--chart", "x"],
    ):  # fmt: skip
        assert CliRunner().invoke(bench, arguments).exit_code == 2, arguments


def test_compressors_are_listed_with_what_they_need(monkeypatch):
    monkeypatch.setenv("PATH", "")
    listed = CliRunner().invoke(bench, ["list"]).output.splitlines()
    assert "nczip fast" in listed and "cmix  (not here: cmix)" in listed
