"""The training of a transformer, from text to a GGUF, on a very small scale."""

import json
import shutil

import numpy as np
import pytest
import zstandard
from click.testing import CliRunner
from tests_support import english

from nczip.predictors.train.__main__ import main

torch = pytest.importorskip("torch", reason="the train extra is not installed")

from nczip.predictors.train import loop, scaling, tokeniser  # noqa: E402
from nczip.predictors.train.evaluate import loss_of  # noqa: E402
from nczip.predictors.train.model import (  # noqa: E402
    Shape,
    Transformer,
    attend,
    load_weights,
    run,
)
from nczip.predictors.train.optimiser import orthogonalise  # noqa: E402

SECRET = b"the quick brown fox jumps over the lazy dog and then it sleeps for a week"
SHAPE = ("--vocabulary", "400", "--width", "64", "--layers", "2", "--heads", "2", "--key-heads",
         "1", "--hidden", "96", "--window", "64")  # fmt: skip


def invoke(*arguments):
    result = CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with text, a tokeniser, data, a trained checkpoint and a GGUF."""
    folder = tmp_path_factory.mktemp("train")
    for name in ("text", "corpora", "usr"):
        (folder / name).mkdir()
    (folder / "corpora" / "eval.txt").write_bytes(SECRET)
    (folder / "usr" / "a.py").write_bytes(b"import os\n" * 200)
    for name in ("books", "articles", "valid-books"):
        texts = [english(9000, seed + len(name)) for seed in range(6)]
        texts[2] = texts[2][:4000] + SECRET + texts[2][4000:]
        (folder / "text" / f"{name}.txt.zst").write_bytes(zstandard.compress(b"\0".join(texts)))
    invoke("tokeniser", folder / "text", folder / "bpe.json", "--tokens", 400)
    invoke(
        "encode", folder / "text", folder / "data", "--tokeniser", folder / "bpe.json",
        "--keep-out", folder / "corpora", "--installed", folder / "usr",
        "--mixture", "books=0.05,articles=0.02,installed=0.001,logs=0.01",
    )  # fmt: skip
    invoke(*model_arguments(folder, folder / "run", 120))
    for kind in ("q8_0", "f16"):
        invoke(
            "export", folder / "run" / "checkpoint.pt", folder / f"small-{kind}.gguf",
            "--tokeniser", folder / "bpe.json", "--format", kind,
        )  # fmt: skip
    return folder


def model_arguments(folder, out, steps, *more):
    return ("model", folder / "data", out, *SHAPE, "--steps", steps, "--batch", 256,
            "--warmup", 3, "--no-compile", *more)  # fmt: skip


def test_the_vocabulary_has_all_bytes_and_its_separator_first(made):
    found = tokeniser.load_tokeniser(made / "bpe.json")
    assert found.get_vocab_size() == 400
    assert found.id_to_token(0) == tokeniser.SEPARATOR
    text = english(2000, 77).decode() + "\x00\x7f \u00e9\u4e2d\U0001f600\n\t"
    assert found.decode(found.encode(text).ids) == text


def test_what_is_kept_out_is_not_in_the_data(made):
    counts = json.loads((made / "data" / "data.json").read_text())
    assert counts["books"]["dropped"] >= 1 and counts["books"]["pieces"] >= 4
    tokens = np.load(made / "data" / "train.npy")
    found = tokeniser.load_tokeniser(made / "bpe.json")
    assert "lazy dog and then" not in found.decode(tokens.tolist())
    assert len(tokens) == sum(c["tokens"] for n, c in counts.items() if not n.startswith("valid"))


def test_training_learns_and_logs(made):
    log = [json.loads(line) for line in (made / "run" / "log.jsonl").read_text().splitlines()]
    assert log[-1]["step"] == 120 and log[-1]["tokens"] == 120 * 256
    assert log[-1]["valid"]["books"] < np.log(400) - 0.5


def test_an_interrupted_training_ends_with_the_same_weights(made, tmp_path, monkeypatch):
    arguments = model_arguments(made, tmp_path, 120, "--save-seconds", 0)
    original = loop.Trainer.save
    monkeypatch.setattr(loop, "_LOG_STEPS", 10)

    def save_and_die(*args, **more):
        original(*args, **more)
        raise KeyboardInterrupt

    monkeypatch.setattr(loop.Trainer, "save", save_and_die)
    assert CliRunner().invoke(main, [str(a) for a in arguments]).exit_code != 0
    assert torch.load(tmp_path / "checkpoint.pt")["step"] == 10
    monkeypatch.setattr(loop.Trainer, "save", original)
    invoke(*arguments)
    first, second = (load_weights(p / "checkpoint.pt") for p in (made / "run", tmp_path))
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_what_left_the_window_is_forgotten():
    model = Transformer(Shape(400, 64, 1, 2, 1, 96, 16))
    model.initialise(1)
    torch.nn.init.normal_(model.layers[0].attention_out.weight)
    tokens = torch.randint(0, 400, (1, 40))
    changed = tokens.clone()
    changed[0, :8] = 7
    before, after = (run(model, t)[0, -1] for t in (tokens, changed))
    assert torch.allclose(before, after, atol=1e-5)
    changed[0, 30] = (changed[0, 30] + 1) % 400
    assert not torch.allclose(before, run(model, changed)[0, -1], atol=1e-3)


@pytest.mark.parametrize(("length", "window"), [(40, 512), (512, 512), (600, 16), (1100, 300)])
def test_attention_in_blocks_is_attention_under_a_mask(length, window):
    q, k, v = torch.randn(3, 2, 3, length, 8)
    distance = torch.arange(length)[:, None] - torch.arange(length)
    seen = (distance >= 0) & (distance < window)
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=seen)
    assert torch.allclose(attend(q, k, v, window), expected, atol=1e-5)


def test_the_loss_of_a_long_text_counts_every_token_once():
    model = Transformer(Shape(400, 64, 1, 2, 1, 96, 16))
    model.initialise(1)
    tokens = np.random.default_rng(1).integers(0, 400, 203).astype(np.uint16)
    loss, count = loss_of(model, tokens)
    assert count == 202
    expected = torch.nn.functional.cross_entropy(
        run(model, torch.from_numpy(tokens[None, :-1].astype(np.int64)))[0],
        torch.from_numpy(tokens[1:].astype(np.int64)),
    )
    assert loss == pytest.approx(expected.item(), abs=0.02)


def test_orthogonalised_matrices_have_singular_values_near_one():
    values = torch.linalg.svdvals(orthogonalise(torch.randn(2, 40, 24)).float())
    assert values.min() > 0.5 and values.max() < 1.5


@pytest.mark.parametrize("kind", ["q8_0", "f16"])
def test_the_exported_model_is_the_same_in_every_engine(made, kind):
    pytest.importorskip("llama_cpp", reason="the llama extra is not installed")
    output = invoke("check", made / "run" / "checkpoint.pt", made / f"small-{kind}.gguf")
    assert "exact" in output and "llama" in output
    again = load_weights(made / f"small-{kind}.gguf")
    weights = load_weights(made / "run" / "checkpoint.pt")
    for a, b in zip(again.parameters(), weights.parameters(), strict=True):
        assert torch.allclose(a, b, atol=0.02)


def test_training_goes_on_from_a_gguf(made, tmp_path):
    arguments = model_arguments(made, tmp_path, 2, "--init", made / "small-f16.gguf")
    invoke(*arguments)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    first = json.loads((made / "run" / "log.jsonl").read_text().splitlines()[-1])
    assert log[-1]["valid"]["books"] < first["valid"]["books"] + 0.5


def test_evaluation_and_report_agree(made, tmp_path):
    gguf = tmp_path / "small.gguf"
    shutil.copy(made / "small-q8_0.gguf", gguf)
    text = tmp_path / "text.txt"
    text.write_bytes(english(3000, 99))
    output = invoke("evaluate", made / "run" / "checkpoint.pt", text, "--tokeniser", gguf)
    bits = output.split(": ")[1].split()[0]
    invoke("report", made / "run", made / "data", gguf, text)
    page = gguf.with_suffix(".md").read_text()
    assert f"| text.txt (first MB) | {bits} |" in page and "floating-point" in page
    assert gguf.with_suffix(".png").read_bytes()[:4] == b"\x89PNG"


def test_shapes_are_compared_on_the_same_text(made, tmp_path, monkeypatch):
    small, larger = (
        scaling.Candidate(f"width {width}", Shape(400, width, 1, 2, 1, 96, 64))
        for width in (32, 64)
    )
    monkeypatch.setattr(scaling, "CANDIDATES", (small, larger))
    arguments = (
        "scaling", made / "text", tmp_path, "--keep-out", made / "corpora",
        "--installed", made / "usr", "--mixture", "books=0.05,articles=0.02", "--no-compile",
    )  # fmt: skip
    first = invoke(*arguments)
    rows = [line.split("|") for line in first.splitlines()[-2:]]
    assert [row[1].strip() for row in rows] == ["width 32", "width 64"]
    assert rows[0][4] == rows[1][4]  # MB read
    assert all(0 < float(row[5]) < 8 for row in rows)
    monkeypatch.setattr(scaling, "measure", lambda *_: 1 / 0)
    assert invoke(*arguments).splitlines()[-2:] == first.splitlines()[-2:]  # nothing is done twice


def test_every_candidate_costs_two_to_three_million_multiplications_a_byte():
    bytes_of_a_token = {4096: 3.05, 8192: 3.37, 16384: 3.7}
    for candidate in scaling.CANDIDATES:
        cost = candidate.shape.multiplications() / bytes_of_a_token[candidate.shape.vocabulary]
        assert 2e6 < cost < 3e6, candidate.name


def test_commands_that_need_an_extra_say_so(monkeypatch):
    def no_torch(name):
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr("importlib.import_module", no_torch)
    result = CliRunner().invoke(main, ["model", "--help"])
    assert result.exit_code == 1 and "nczip[train]" in result.output
