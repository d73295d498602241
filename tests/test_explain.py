"""The page of costs: escaped, complete in itself, and shown by a browser as it should be."""

import html
import re
import shutil
import subprocess

import numpy as np
import pytest
from command import nczip_command  # noqa: F401
from tests_support import english

import nczip
from nczip.explain import explain, pieces

FAST = {"preset": "fast", "primer": False}
NASTY = (
    "</pre><script>document.title='owned'</script> & \"quoted\" <b onclick='x'>\u202egnp.exe\x07\n"
)
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome-headless-shell")


def _page(data, **options):
    return explain(data, nczip.evaluate(data, **(options or FAST)), "a <title> & more")


def _text_of(page):
    body = page[page.index("<pre>") + 5 : page.index("</pre></body>")]
    return html.unescape(re.sub(r"<[^>]*>", "", body))


def test_the_page_shows_the_text_and_nothing_of_it_is_markup():
    page = _page((NASTY * 3).encode())
    assert "<script" not in page
    assert "<b onclick" not in page
    assert "\u202e" not in page
    assert "<title>a &lt;title&gt; &amp; more</title>" in page
    shown = NASTY.replace("\u202e", "\\u202e").replace("\x07", "\\x07")
    assert _text_of(page) == shown * 3
    assert "http" not in page.replace("http-equiv", "")


def test_every_byte_is_in_one_piece_and_pieces_cost_what_their_bytes_do():
    data = ("Grüße, 世界! " * 30).encode() + english(4000)
    for options in (FAST, {"preset": "default", "primer": False, "engine": "exact"}):
        found = nczip.evaluate(data, **options)
        starts, bits = pieces(data, found)
        assert bits.sum() == pytest.approx(found.byte_bits.sum())
        ends = [*starts[1:], len(data)]
        texts = [data[a:b].decode() for a, b in zip(starts, ends, strict=True)]
        assert "".join(texts).encode() == data
        if options is FAST:
            assert all(len(text) == 1 for text in texts)
        else:
            assert " the" in texts


def test_bytes_that_are_no_text_are_escaped():
    page = _page(b"caf\xe9 \xff\x00 " * 40)
    assert _text_of(page) == "caf\\xe9 \\xff\\x00 " * 40


def test_costly_pieces_have_other_colours_than_cheap_ones():
    sentence = b"the same words come again and again, "
    page = _page(sentence * 60 + b"#Q~%" + sentence * 5)
    last = re.findall(r'<span class="c(\d)[^>]*>(.)</span>', page)
    costly = [int(level) for level, character in last if character in "#Q~%"]
    cheap = [int(level) for level, character in last[1500:1600]]
    assert min(costly) >= 5
    assert np.mean(cheap) < 1
    assert "<b>Q</b>" in page  # among the surprises


def test_nothing_gives_a_page_too():
    assert "<pre></pre>" in _page(b"")


def test_the_command_writes_a_page_and_replaces_none(nczip_command, tmp_path):  # noqa: F811
    (tmp_path / "book & co.txt").write_bytes(english(5000))
    arguments = ("explain", "book & co.txt", "--preset", "fast", "--no-primer")
    told = nczip_command(*arguments)
    assert told.code == 0
    assert re.fullmatch(rb"book & co\.txt: 5,000 bytes, \d\.\d+ bits per byte\n", told.out)
    assert nczip_command(*arguments, "--html", "out.html").code == 0
    page = (tmp_path / "out.html").read_text()
    assert "book &amp; co.txt" in page
    again = nczip_command(*arguments, "--html", "out.html")
    assert (again.code, "-f" in again.err) == (1, True)
    assert nczip_command(*arguments, "--kilobytes", 1, "--html", "out.html", "-f").code == 0
    assert len((tmp_path / "out.html").read_text()) < len(page) / 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["book & co.txt", "out.html"]


def test_a_browser_shows_the_page(tmp_path):
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"no browser here: none of {', '.join(BROWSERS)} is installed")
    path = tmp_path / "page.html"
    path.write_text(_page((NASTY + "plain words\n" * 20).encode()), encoding="utf-8")
    options = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1000,1200"]
    options.append(f"--user-data-dir={tmp_path / 'profile'}")

    def run(*what):
        shown = subprocess.run(
            [*options, *what, path.as_uri()],
            capture_output=True, text=True, timeout=300, check=True, cwd=tmp_path,
        )  # fmt: skip
        assert "Content Security Policy" not in shown.stderr
        return shown.stdout

    seen = run("--dump-dom")
    assert "<title>a &lt;title&gt; &amp; more</title>" in seen  # no script has run
    assert "<script" not in seen
    assert _text_of(seen.replace("</pre>\n", "</pre>")).count("plain words\n") == 20
    run(f"--screenshot={tmp_path / 'page.png'}")
    assert (tmp_path / "page.png").stat().st_size > 5000
