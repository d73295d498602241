"""The training that goes on beside other work, on a very small scale."""

import json
import os
import time

import numpy as np
import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch", reason="the train extra is not installed")

from nczip.predictors.train import background, endless, report  # noqa: E402
from nczip.predictors.train.__main__ import main  # noqa: E402
from nczip.predictors.train.export import gguf_tensors, write_gguf  # noqa: E402
from nczip.predictors.train.loop import Trainer  # noqa: E402
from nczip.predictors.train.model import (  # noqa: E402
    Shape,
    Transformer,
    load_weights,
    save_half,
    steps_before,
)
from nczip.predictors.train.runfolder import (  # noqa: E402
    CHECKPOINT,
    PLATEAU,
    Finish,
    Settings,
    read_log,
)
from nczip.predictors.train.tokeniser import train_tokeniser  # noqa: E402

SHAPE = Shape(300, 32, 1, 2, 1, 64, 16)


def invoke(*arguments):
    result = CliRunner().invoke(main, ["background", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def refused(*arguments):
    result = CliRunner().invoke(main, ["background", *map(str, arguments)])
    assert result.exit_code == 1
    return result.output


@pytest.fixture(scope="module")
def beginning(tmp_path_factory):
    """A folder with data and with the weights that a training starts from."""
    folder = tmp_path_factory.mktemp("beginning")
    generator = np.random.default_rng(1)
    walk = np.cumsum(generator.integers(-2, 3, 5000)) % SHAPE.vocabulary
    np.save(folder / "train.npy", walk.astype(np.uint16))
    np.save(folder / "valid-walk.npy", walk[:300].astype(np.uint16))
    model = Transformer(SHAPE)
    model.initialise(1)
    save_half(model, folder / "start.npz", 7)
    return folder


def settings(beginning, **changes):
    values = {
        "data": str(beginning),
        "init": str(beginning / "start.npz"),
        "batch_tokens": 64,
        "rates": (0.02, 0.003),
        "warmup": 5,
        "threads": 1,
        "save_seconds": 1000,
        "bfloat16": False,
        "compiled": False,
    }
    return Settings(**values | changes)


def trained(folder, asked, decay):
    """Weights after a training in this process that ends with a decay."""
    folder.mkdir(exist_ok=True)
    asked.write(folder)
    decay.write(folder)
    endless.run(folder)
    return load_weights(folder / CHECKPOINT).state_dict()


def wait_until(condition):
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_rate_warms_up_stays_and_falls_when_asked():
    def rates(finish, *steps):
        return [endless.rate_factor(step, 100, 10, finish) for step in steps]

    assert rates(None, 100, 104, 109, 110, 10**6) == [0.1, 0.5, 1.0, 1.0, 1.0]
    finish = Finish(500, 4)
    assert rates(finish, 499, 500, 501, 502, 503, 504, 600) == [1, 1, 0.75, 0.5, 0.25, 0, 0]
    assert rates(Finish(None, 4), 500) == [1.0]  # nobody knows yet where it starts


def test_a_training_that_was_paused_and_stopped_ends_with_the_same_weights(beginning, tmp_path):
    folder = tmp_path / "run"
    output = invoke(
        "start", folder, "--data", beginning, "--init", beginning / "start.npz", "--batch", 64,
        "--rates", 0.02, 0.003, "--warmup", 5, "--float32", "--no-compile",
    )  # fmt: skip
    try:
        pid = int(output.split()[1])
        assert os.getpriority(os.PRIO_PROCESS, pid) == 19
        wait_until(lambda: read_log(folder))
        assert "resume it" in refused("start", folder, "--data", beginning, "--init",
                                      beginning / "start.npz")  # fmt: skip
        invoke("pause", folder)
        wait_until(lambda: background.is_paused(pid))
        log = read_log(folder)
        time.sleep(0.5)
        assert read_log(folder) == log
        assert f"process {pid}: paused" in invoke("status", folder)
        assert str(pid) in invoke("resume", folder)
        wait_until(lambda: len(read_log(folder)) > len(log))
        invoke("pause", folder)
        invoke("stop", folder)
        assert "not running" in invoke("status", folder)
        assert "nothing trains" in refused("pause", folder)
        stopped = steps_before(folder / CHECKPOINT)
        assert str(pid) not in invoke("resume", folder, "--threads", 1)
        wait_until(lambda: read_log(folder)[-1]["step"] > stopped)
        invoke("finish", folder, "--steps", 30)
        assert "decays already" in refused("finish", folder, "--steps", 30)
        wait_until(lambda: background.process_of(folder) is None)
    finally:
        if background.process_of(folder) is not None:
            invoke("stop", folder)
    decay = Finish.read(folder)
    assert f"decay over 30 steps from step {decay.start}" in invoke("status", folder)
    assert steps_before(folder / CHECKPOINT) == decay.start + 30
    through = trained(tmp_path / "through", Settings.read(folder), decay)
    for name, weight in load_weights(folder / CHECKPOINT).state_dict().items():
        assert torch.equal(weight, through[name]), name


def test_a_killed_training_goes_on_from_its_last_checkpoint(beginning, tmp_path, monkeypatch):
    asked, decay = settings(beginning, save_seconds=0), Finish(40, 10)
    through = trained(tmp_path / "through", asked, decay)
    original = Trainer.step

    def die(trainer, start, *others):
        if start == 27 * 64:
            raise KeyboardInterrupt
        return original(trainer, start, *others)

    monkeypatch.setattr(Trainer, "step", die)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "killed", asked, decay)
    assert steps_before(tmp_path / "killed" / CHECKPOINT) == 27
    monkeypatch.setattr(Trainer, "step", original)
    again = trained(tmp_path / "killed", asked, decay)
    for name, weight in again.items():
        assert torch.equal(weight, through[name]), name


def test_the_loss_falls_and_the_plateau_is_kept(beginning, tmp_path):
    before = endless.validate(load_weights(beginning / "start.npz"), beginning)["walk"]
    trained(tmp_path, settings(beginning), Finish(None, 400))
    after = endless.validate(load_weights(tmp_path / CHECKPOINT), beginning)["walk"]
    assert after < before - 1
    assert Finish.read(tmp_path) == Finish(7, 400)  # the start was at step 7
    assert steps_before(tmp_path / PLATEAU) == 7
    assert [entry["step"] for entry in read_log(tmp_path)] == list(range(20, 407, 20))


def test_a_loss_that_is_no_number_ends_the_training(beginning, tmp_path, monkeypatch):
    monkeypatch.setattr(Trainer, "step", lambda *_: float("nan"))
    with pytest.raises(FloatingPointError, match="lower --rates"):
        trained(tmp_path, settings(beginning), Finish(100, 10))


def test_half_precision_weights_come_back_rounded_once(tmp_path):
    model = Transformer(SHAPE)
    model.initialise(3)
    save_half(model, tmp_path / "half.npz", 1234)
    again = load_weights(tmp_path / "half.npz")
    assert again.shape == SHAPE and steps_before(tmp_path / "half.npz") == 1234
    for name, weight in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], weight.half().float()), name
    save_half(again, tmp_path / "twice.npz", 1234)
    twice = load_weights(tmp_path / "twice.npz").state_dict()
    assert all(torch.equal(twice[name], weight) for name, weight in again.state_dict().items())
    with torch.no_grad():
        model.head.weight[0, 0] = 1e6
    with pytest.raises(ValueError, match=r"head\.weight"):
        save_half(model, tmp_path / "large.npz", 0)
    assert not (tmp_path / "large.npz").exists()


def test_a_checkpoint_is_saved_in_half_precision_by_a_command(beginning, tmp_path):
    trained(tmp_path, settings(beginning), Finish(9, 3))
    output = invoke("save", tmp_path, tmp_path / "half.npz")
    assert "step 12" in output
    weights = load_weights(tmp_path / CHECKPOINT).state_dict()
    for name, weight in load_weights(tmp_path / "half.npz").state_dict().items():
        assert torch.equal(weight, weights[name].half().float())
    assert "must end in .npz" in refused("save", tmp_path, tmp_path / "half.pt")


@pytest.mark.parametrize("kind", ["f32", "q8_0"])
def test_a_gguf_gives_back_the_weights_that_were_written(tmp_path, kind):
    quants = pytest.importorskip("gguf").quants
    tokeniser = train_tokeniser(iter(["the cat sat on the mat and that was that " * 50]), 280)
    model = Transformer(Shape(tokeniser.get_vocab_size(), 64, 2, 2, 1, 96, 16))
    model.initialise(5)
    for layer in model.layers:  # these begin as zeros
        torch.nn.init.normal_(layer.attention_out.weight)
        torch.nn.init.normal_(layer.down.weight)
    path = tmp_path / "model.gguf"
    write_gguf(model, tokeniser, path, "model", kind)
    again = load_weights(path)
    assert again.shape == model.shape
    expected = dict(gguf_tensors(model))
    q8 = pytest.importorskip("gguf").GGMLQuantizationType.Q8_0
    for name, found in gguf_tensors(again):
        weight = expected[name]
        if kind == "q8_0" and weight.ndim == 2:
            weight = quants.dequantize(quants.quantize(weight, q8), q8)
        assert np.array_equal(found, weight), name


def test_the_report_says_when_the_rate_fell(beginning, tmp_path):
    pytest.importorskip("matplotlib")
    trained(tmp_path / "run", settings(beginning), Finish(40, 9))
    decay = report._decay(tmp_path / "run", json.loads((tmp_path / "run" / "run.json").read_text()))
    assert decay == "decay over 9 steps"
    report.draw(read_log(tmp_path / "run"), tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes()[:4] == b"\x89PNG"


def test_the_settings_are_read_as_they_were_written(beginning, tmp_path):
    asked = settings(beginning)
    asked.write(tmp_path)
    assert json.loads((tmp_path / "run.json").read_text())["batch_tokens"] == 64
    assert Settings.read(tmp_path) == asked
