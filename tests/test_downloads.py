"""Downloads from a server that misbehaves."""

import hashlib

import pytest
from tests_support import english, noise

from nczip.downloads import download
from nczip.errors import DownloadError

DATA = english(300_000)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def test_a_cut_download_goes_on_where_it_was_cut(server, tmp_path):
    server.files["/f"] = DATA
    server.cuts = 2
    download(server.url + "/f", tmp_path / "f", len(DATA), sha256(DATA))
    assert (tmp_path / "f").read_bytes() == DATA
    asked = [wanted for _, wanted in server.requests]
    assert asked == [None, f"bytes={len(DATA) // 2}-", f"bytes={len(DATA) * 3 // 4}-"]


def test_a_download_goes_on_in_another_run(server, tmp_path):
    server.files["/f"] = DATA
    server.cuts = 100
    with pytest.raises(DownloadError, match="next try"):
        download(server.url + "/f", tmp_path / "f", len(DATA), sha256(DATA))
    assert not (tmp_path / "f").exists()
    server.cuts = 0
    server.requests.clear()
    download(server.url + "/f", tmp_path / "f", len(DATA), sha256(DATA))
    assert (tmp_path / "f").read_bytes() == DATA
    assert len(server.requests) == 1 and server.requests[0][1] is not None


def test_a_server_without_ranges_starts_again(server, tmp_path):
    server.files["/f"] = DATA
    server.cuts, server.ranges = 1, False
    download(server.url + "/f", tmp_path / "f", len(DATA), sha256(DATA))
    assert (tmp_path / "f").read_bytes() == DATA


@pytest.mark.parametrize("sent", [noise(len(DATA)), DATA + b"more", DATA * 3])
def test_what_is_not_the_file_is_refused_and_thrown_away(server, tmp_path, sent):
    server.files["/f"] = sent
    with pytest.raises(DownloadError, match="something else"):
        download(server.url + "/f", tmp_path / "f", len(DATA), sha256(DATA))
    assert list(tmp_path.glob("*f*")) == []
