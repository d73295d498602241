"""The corpora: the manifest, finding files, and fetching what is not here."""

import hashlib
import io
import tarfile
import zipfile

import pytest
from click.testing import CliRunner
from tests_support import english, noise

from nczip.corpora import find, load_manifest, select
from nczip.corpora.cli import corpora as corpora_command
from nczip.corpora.fetch import fetch
from nczip.corpora.manifest import Archive, Corpus, CorpusFile, Manifest
from nczip.corpora.store import CorpusError, is_intact, read

DATA = english(300_000)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(autouse=True)
def _no_corpora(monkeypatch, tmp_path):
    monkeypatch.delenv("NCZIP_CORPORA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def manifest_of(*files, archives=()):
    corpus = Corpus("c", "a corpus", "free", "here", tuple(files))
    return Manifest({"c": corpus}, {archive.name: archive for archive in archives})


def test_the_manifest_is_consistent():
    manifest = load_manifest()
    files = select([])
    assert len({file.path for file in files}) == len(files) > 60
    for file in files:
        assert file.size > 0 and (file.sha256 is None or len(bytes.fromhex(file.sha256)) == 32)
        assert file.archive is None or file.archive in manifest.archives
        assert file.head_of is None or manifest.file(file.head_of).size > file.size
        assert file.sha256 or file.archive or file.head_of
    for archive in manifest.archives.values():
        assert len(bytes.fromhex(archive.sha256)) == 32 and archive.url.startswith("https://")


def test_the_evaluation_files_are_those_of_the_manifest(corpora):
    files = [file for file in select([]) if find(file, corpora)]
    assert len(files) > 40
    for file in files:
        assert is_intact(file, find(file, corpora)), file.path
    head = load_manifest().file("wiki/enwiki-1MB")
    assert sha256(read(head, corpora)) == head.sha256


def test_an_unknown_name_is_an_error_that_lists_the_corpora():
    with pytest.raises(CorpusError, match="canterbury"):
        select(["nonsense"])


def test_files_are_searched_in_the_named_folder_then_in_the_environment(tmp_path, monkeypatch):
    file = CorpusFile("c", "f", 3, sha256(b"abc"))
    for place in ("first", "second"):
        (tmp_path / place / "c").mkdir(parents=True)
        (tmp_path / place / "c" / "f").write_bytes(b"abc")
    monkeypatch.setenv("NCZIP_CORPORA", str(tmp_path / "second"))
    assert find(file) == tmp_path / "second" / "c" / "f"
    assert find(file, tmp_path / "first") == tmp_path / "first" / "c" / "f"
    (tmp_path / "first" / "c" / "f").write_bytes(b"another size")
    assert find(file, tmp_path / "first") == tmp_path / "second" / "c" / "f"


def test_a_file_is_fetched_once(server, tmp_path):
    server.files["/f"] = DATA
    file = CorpusFile("c", "f", len(DATA), sha256(DATA), url=server.url + "/f")
    heard = []
    path = fetch(file, manifest=manifest_of(file), report=lambda *args: heard.append(args))
    assert (
        path.read_bytes() == DATA and path == tmp_path / "cache" / "nczip" / "corpora" / "c" / "f"
    )
    assert heard[-1][1:] == (len(DATA), len(DATA))
    assert fetch(file, manifest=manifest_of(file)) == path
    assert len(server.requests) == 1
    assert sorted(p.name for p in path.parent.iterdir() if p.suffix != ".lock") == ["f"]


def test_a_missing_address_is_an_error(server):
    file = CorpusFile("c", "f", 10, sha256(b""), url=server.url + "/none")
    with pytest.raises(CorpusError, match="404"):
        fetch(file, manifest=manifest_of(file))
    file = CorpusFile("c", "f", 10, sha256(b""))
    with pytest.raises(CorpusError, match="no address"):
        fetch(file, manifest=manifest_of(file))


def _tar(members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            if isinstance(data, str):
                info.type, info.linkname = tarfile.SYMTYPE, data
                archive.addfile(info)
            else:
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def _zip(members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return buffer.getvalue()


SIZE, CHECKSUM = len(DATA), sha256(DATA)


def _fetch_member(server, packed, size=SIZE, checksum=CHECKSUM):
    server.files["/a"] = packed
    archive = Archive("a", server.url + "/a", len(packed), sha256(packed))
    file = CorpusFile("c", "f", size, checksum, archive="a")
    return fetch(file, manifest=manifest_of(file, archives=[archive]))


@pytest.mark.parametrize("pack", [_tar, _zip])
def test_a_member_comes_out_of_an_archive(server, pack):
    path = _fetch_member(server, pack([("folder/other", b"x"), ("folder/f", DATA)]))
    assert path.read_bytes() == DATA


@pytest.mark.parametrize("pack", [_tar, _zip])
def test_a_hostile_archive_writes_nothing_outside(server, tmp_path, pack):
    path = _fetch_member(server, pack([("../../../evil", b"x"), ("/../../f", DATA)]))
    assert path == tmp_path / "cache" / "nczip" / "corpora" / "c" / "f"
    assert [p for p in tmp_path.rglob("*") if p.name == "evil"] == []


def test_links_in_an_archive_are_not_followed(server):
    with pytest.raises(CorpusError, match="no file f"):
        _fetch_member(server, _tar([("f", "/etc/passwd")]))


@pytest.mark.parametrize("pack", [_tar, _zip])
@pytest.mark.parametrize("data", [bytes(50_000_000), DATA[:-1], noise(len(DATA))])
def test_members_of_another_size_or_content_are_refused(server, tmp_path, pack, data):
    with pytest.raises(CorpusError, match="not what was expected"):
        _fetch_member(server, pack([("f", data)]))
    left = [p for p in (tmp_path / "cache").rglob("*") if p.is_file() and p.suffix != ".lock"]
    assert [p.name for p in left] == ["a"]


def test_a_damaged_archive_is_an_error(server):
    with pytest.raises(CorpusError, match="damaged"):
        _fetch_member(server, _tar([("f", noise(len(DATA)))])[:5000], checksum=None)


def test_the_head_of_a_file_is_made_from_it(server, tmp_path):
    server.files["/f"] = DATA
    whole = CorpusFile("c", "f", len(DATA), sha256(DATA), url=server.url + "/f")
    head = CorpusFile("c", "head", 1000, head_of="c/f")
    path = fetch(head, manifest=manifest_of(whole, head))
    assert path.read_bytes() == DATA[:1000]


def test_the_command_lists_finds_and_verifies(corpora):
    run = CliRunner().invoke
    options = ["--folder", str(corpora)]
    listing = run(corpora_command, ["list", "canterbury", *options]).output
    assert "canterbury/alice29.txt" in listing and "152,089" in listing
    path = run(corpora_command, ["path", "canterbury/alice29.txt", *options]).output.strip()
    assert path == str(corpora / "canterbury" / "alice29.txt")
    assert "OK" in run(corpora_command, ["verify", "canterbury", *options]).output
    missing = run(corpora_command, ["path", "silesia/dickens", *options])
    assert missing.exit_code == 1 and "nczip corpora fetch silesia/dickens" in missing.output


def test_verify_notices_a_changed_file(corpora, tmp_path):
    data = bytearray((corpora / "canterbury" / "fields.c").read_bytes())
    data[100] ^= 1
    (tmp_path / "canterbury").mkdir()
    (tmp_path / "canterbury" / "fields.c").write_bytes(data)
    result = CliRunner().invoke(corpora_command, ["verify", "--folder", str(tmp_path)])
    assert result.exit_code == 1 and "not what the manifest says" in result.output
