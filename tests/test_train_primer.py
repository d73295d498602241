"""How the primer is made: nothing of what we measure on may get into it."""

import bz2
import random

import pytest
import zstandard
from click.testing import CliRunner
from tests_support import english

from nczip.predictors.learnt import unpack_learnt
from nczip.predictors.train import generate, sources
from nczip.predictors.train.__main__ import main
from nczip.predictors.train.decontaminate import Decontaminator, shingles

SECRET = b"the quick brown fox jumps over the lazy dog and then it sleeps for a week"


def test_shingles_ignore_case_and_punctuation():
    shouted = SECRET.upper().replace(b" ", b",\n ")
    assert shingles(SECRET).tolist() == shingles(shouted).tolist()
    assert len(shingles(SECRET)) == len(SECRET.split()) - 7
    assert len(shingles(b"seven words are not enough for one")) == 0


def test_a_text_that_shares_eight_words_is_not_clean():
    check = Decontaminator([SECRET])
    assert not check.is_clean(
        english(3000) + b" Quick brown fox; jumps over THE lazy dog " + english(500)
    )
    assert check.is_clean(english(3000) + b" quick brown fox jumps over the lazy cat")
    assert Decontaminator([]).is_clean(SECRET)


def test_generated_text_is_varied_and_the_same_every_time():
    lines = b"".join(generate.logs(50_000, 1))
    assert lines == b"".join(generate.logs(50_000, 1)) != b"".join(generate.logs(50_000, 2))
    assert 50_000 <= len(lines) < 100_000
    pages = b"".join(generate.wiki([b"A Title\n" + english(5000)] * 9, 20_000, 1))
    assert pages.count(b"<page>") == pages.count(b"</page>") >= 2


@pytest.fixture
def material(tmp_path):
    """Training text of which a part is also in the corpora, and installed files."""
    for folder in ("train", "corpora", "usr", "man"):
        (tmp_path / folder).mkdir()
    (tmp_path / "corpora" / "eval.txt").write_bytes(SECRET)
    for name in ("books", "articles", "docs"):
        texts = [english(9000, seed) + b"." + name.encode() for seed in range(6)]
        texts[2] = texts[2][:4000] + SECRET + texts[2][4000:]
        compressed = zstandard.compress(b"\0".join(texts))
        (tmp_path / "train" / f"{name}.txt.zst").write_bytes(compressed)
    for name, seed in (("a.py", 11), ("b.c", 12), ("c.h", 13), ("d.html", 14)):
        (tmp_path / "usr" / name).write_bytes(english(3000, seed))
    (tmp_path / "usr" / "stolen.py").write_bytes(english(500, 15) + SECRET)
    return tmp_path


def test_the_chosen_text_is_free_of_the_corpora(material):
    out = material / "out"
    arguments = ["primer-text", *(str(material / name) for name in ("train", "corpora")), str(out)]
    arguments += ["--installed", str(material / "usr"), "--manuals", str(material / "man")]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    chosen = [bz2.decompress((out / f"{n}.txt.bz2").read_bytes()) for n in ("primer", "learn")]
    assert len(chosen[0] + chosen[1]) > 60_000
    assert b"lazy dog" not in chosen[0] + chosen[1]
    dropped = {line.split(":")[0]: int(line.split()[-2]) for line in result.output.splitlines()}
    spoiled = ("books", "articles", "docs", "python")
    assert dropped == {name: int(name in spoiled) for name in dropped} and len(dropped) > 10


def test_a_learnt_state_comes_out_of_a_text(material, monkeypatch):
    from nczip.predictors import primer

    monkeypatch.setattr(primer, "TABLE_BITS", 12)
    folder = material / "made"
    folder.mkdir()
    (folder / "primer.txt.bz2").write_bytes(bz2.compress(english(30_000)))
    (folder / "learn.txt.bz2").write_bytes(
        bz2.compress(english(9000, 2) + b"\0" + english(9000, 3))
    )
    result = CliRunner().invoke(main, ["primer-learn", str(folder)], catch_exceptions=False)
    assert result.exit_code == 0 and "bits per byte" in result.output
    packed = zstandard.decompress((folder / "learnt.npz.zst").read_bytes())
    assert unpack_learnt(packed)["uses"].any()


def test_typeset_pieces_keep_their_words():
    rng = random.Random(1)
    text = english(3000).replace(b"\n", b" ") + b"\n\n" + english(200)
    kinds = set()
    for _ in range(50):
        piece = sources.typeset(text, rng)
        assert piece.split() == text.split()
        longest = max(map(len, piece.split(b"\n")))
        kinds.add(longest < 82)
    assert kinds == {False, True}
