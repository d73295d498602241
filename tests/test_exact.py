"""The exact engine: right, and the same bits however it is run."""

import os
import random
import subprocess
import sys
from pathlib import Path

import golden_files
import numpy as np
import pytest
from gguf import GGUFReader, GGUFWriter
from golden_files import logits_of_lanes
from stream_hash import TEXT
from tests_support import AWKWARD, english, noise

import nczip
from nczip.assets.models import find_model
from nczip.errors import EngineError, ModelError
from nczip.formats.container import parse_header
from nczip.predictors import codec
from nczip.predictors.transformer.exact import ExactEngine
from nczip.predictors.transformer.llama import LlamaEngine, is_available
from nczip.presets import BUILT_IN


@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_inputs_round_trip(name):
    data = AWKWARD[name]
    assert nczip.decompress(nczip.compress(data, engine="exact")) == data


def test_the_transformer_makes_text_smaller(corpora):
    data = (corpora / "canterbury" / "alice29.txt").read_bytes()[:20_000]
    coded = nczip.compress(data)
    assert nczip.decompress(coded) == data
    assert len(coded) < 0.98 * len(nczip.compress(data, "fast"))
    plain = [nczip.compress(data, preset, primer=False) for preset in ("default", "fast")]
    assert len(plain[0]) < 0.85 * len(plain[1])


def test_where_the_transformer_only_costs_bits_the_ensemble_codes_alone():
    rng = random.Random(7)
    log = b"".join(b"%016x %06d\n" % (rng.getrandbits(64), i) for i in range(600))
    coded = nczip.compress(log)
    assert nczip.decompress(coded) == log
    assert len(coded) <= len(nczip.compress(log, "fast"))
    assert parse_header(coded)[0].model is None
    # In a longer stream the header names the model, which some blocks do not use.
    blocks = nczip.compress(log * 2, block_size=len(log))
    assert nczip.decompress(blocks) == log * 2


@pytest.mark.parametrize("lanes", [1, 3, 8])
def test_lanes_of_unequal_length_round_trip(lanes):
    data = english(20_000) + noise(70_000) + english(9000, 3)
    assert nczip.decompress(nczip.compress(data, engine="exact", lanes=lanes)) == data


def _stepwise(engine, tokens, window, threads=1, sinks=0):
    """Logits after each token of two lanes, a token of each at a time."""
    session = engine.open_session(2, window, threads, sinks)
    steps = [session.evaluate([0, 1], [[a], [b]]).copy() for a, b in tokens]
    session.close()
    return steps


@pytest.fixture(scope="module")
def tokens(exact):
    return golden_files.token_pairs(exact)


def test_threads_and_batches_do_not_change_a_bit(exact, tokens):
    single = logits_of_lanes(exact, tokens, 64)
    double = logits_of_lanes(exact, tokens, 64, threads=2)
    assert all(np.array_equal(a, b) for a, b in zip(single, double, strict=True))
    # All positions in one call, more than the window and the group hold.
    session = exact.open_session(2, 64, 1)
    whole = session.evaluate([0, 1], [[a for a, _ in tokens], [b for _, b in tokens]])
    assert np.array_equal(whole, single[-1])
    # A lane does not notice the others.
    alone = exact.open_session(1, 64, 1).evaluate([0], [[b for _, b in tokens]])
    assert np.array_equal(alone[0], single[-1][1])


@pytest.mark.parametrize("sinks", [0, 4])
@pytest.mark.parametrize("threads", [1, 2])
def test_logits_of_many_positions_at_once_are_those_of_one_at_a_time(exact, tokens, threads, sinks):
    steps = _stepwise(exact, tokens, 64, sinks=sinks)
    session = exact.open_session(2, 64, threads, sinks)
    halves = [tokens[:90], tokens[90:]]
    for half, done in zip(halves, (0, 90), strict=True):
        rows = session.evaluate_all([0, 1], [[a for a, _ in half], [b for _, b in half]])
        for i in range(len(half)):
            assert np.array_equal(rows[[i, len(half) + i]], steps[done + i])


def test_encoding_ahead_writes_what_encoding_in_step_does(monkeypatch):
    data = english(30_000) + noise(3000) + english(9001, 3)
    ahead = nczip.compress(data, engine="exact")
    monkeypatch.setattr(codec, "AheadSession", type(None))
    assert nczip.compress(data, engine="exact") == ahead


def test_the_window_forgets_what_has_left_it(exact, tokens):
    """With one token of memory, only the last token counts - up to the rounding of its rotation."""
    first = exact.open_session(1, 2, 1).evaluate([0], [[a for a, _ in tokens[:50]]])[0].copy()
    other = [b for _, b in tokens[:40]] + [a for a, _ in tokens[40:50]]
    second = exact.open_session(1, 2, 1).evaluate([0], [other])[0]
    # Layers on top of each other see a little further than the window: 6 layers, 7 tokens.
    assert np.array_equal(first, second)


def test_sinks_change_nothing_before_the_window_slides(exact, tokens):
    """Nothing but rounding: the sinks share the scales of their quantised weights."""
    plain, kept = (_stepwise(exact, tokens[:80], 64, sinks=sinks) for sinks in (0, 4))
    apart = [np.abs(a - b).mean() for a, b in zip(plain, kept, strict=True)]
    assert max(apart[:64]) < 0.1 < np.mean(apart[70:])


def test_sinks_are_remembered_for_ever(exact, tokens):
    """Two texts that differ in their first token alone, far beyond the window."""
    text = [a for a, _ in tokens]
    for sinks, equal in ((0, True), (1, False)):
        logits = [
            exact.open_session(1, 8, 1, sinks).evaluate([0], [[first, *text]]).copy()
            for first in (5, 50)
        ]
        assert np.array_equal(*logits) == equal


@pytest.mark.parametrize("sinks", [-1, 5, 65])
def test_sinks_that_a_window_cannot_keep_are_refused(exact, sinks):
    with pytest.raises(EngineError, match="sinks"):
        exact.open_session(1, 8, 1, sinks)


def test_logits_agree_with_llama(exact, llama, tokens):
    ours, theirs = exact.open_session(2, 512, 1), llama.open_session(2, 512, 1)
    means = []
    for a, b in tokens:
        x, y = (session.evaluate([0, 1], [[a], [b]]) for session in (ours, theirs))
        assert np.abs(x - y).max() < 0.5
        means.append(np.abs(x - y).mean())
    assert np.mean(means) < 0.06 and max(means) < 0.12
    assert exact.tokenise(TEXT) == llama.tokenise(TEXT)
    assert list(exact.vocabulary) == list(llama.vocabulary)


def _with_halves_rotated(source, target, architecture):
    """The same model as a GGUF whose rotary embedding turns halves of heads, not pairs."""
    reader = GGUFReader(source)
    writer = GGUFWriter(target, architecture)
    size = 64
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name == "general.architecture":
            continue
        name = field.name.replace("llama.", f"{architecture}.", 1)
        inner = field.types[-1] if len(field.types) > 1 else None
        writer.add_key_value(name, field.contents(), field.types[0], sub_type=inner)
    for tensor in reader.tensors:
        data = tensor.data
        if ".attn_q." in tensor.name or ".attn_k." in tensor.name:
            pairs = data.reshape(-1, size // 2, 2, data.shape[1])
            data = np.ascontiguousarray(pairs.swapaxes(1, 2).reshape(data.shape))
        writer.add_tensor(tensor.name, data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize("architecture", ["exaone", "qwen2"])
def test_both_rotary_layouts_give_the_same_logits(exact, tokens, tmp_path, architecture):
    path = tmp_path / "halves.gguf"
    _with_halves_rotated(find_model(BUILT_IN), path, architecture)
    expected = logits_of_lanes(exact, tokens[:40], 64)
    assert np.array_equal(logits_of_lanes(ExactEngine(path), tokens[:40], 64), expected)
    if is_available():
        theirs = logits_of_lanes(LlamaEngine(path), tokens[:40], 64)
        assert np.abs(np.array(expected) - np.array(theirs)).mean() < 0.06


def test_logits_have_not_changed(exact):
    assert golden_files.logits_hash(exact) == golden_files.pinned("streams")["logits"]["sha256"]


def test_the_bitstream_has_not_changed():
    assert golden_files.portable_hash() == _pinned_portable_hash()


def _pinned_portable_hash():
    return golden_files.pinned("streams")["stream_hash.py"]["sha256"]


@pytest.mark.parametrize(
    ("name", "features"),
    [
        ("x86-64", ""),
        pytest.param("haswell", "", marks=pytest.mark.slow),  # AVX2
        pytest.param("generic", "+sse2", marks=pytest.mark.slow),
    ],
)
def test_kernels_for_other_processors_make_the_same_stream(tmp_path, name, features):
    if os.uname().machine != "x86_64":
        pytest.skip("these are x86-64 processors")
    environment = os.environ | {
        "NUMBA_CPU_NAME": name,
        "NUMBA_CPU_FEATURES": features,
        "NCZIP_KERNEL_CACHE": str(tmp_path),
    }
    run = subprocess.run(
        [sys.executable, Path(__file__).parent / "stream_hash.py"],
        env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=True,
    )  # fmt: skip
    assert run.stdout.strip() == _pinned_portable_hash()


def test_damaged_models_are_refused(tmp_path):
    path = tmp_path / "bad.gguf"
    for content in (b"no model", b"GGUF" + bytes(100), find_model(BUILT_IN).read_bytes()[:100_000]):
        path.write_bytes(content)
        with pytest.raises(ModelError):
            ExactEngine(path)
    with pytest.raises(ModelError, match="no model file"):
        ExactEngine(tmp_path / "missing.gguf")


def test_unknown_engines_are_named():
    with pytest.raises(ValueError, match="engine"):
        nczip.compress(b"", engine="magic")


def test_the_engines_are_measured_side_by_side(llama, tmp_path):
    from click.testing import CliRunner

    from nczip.predictors.train.__main__ import main

    del llama  # only so that the test is skipped without it
    text = tmp_path / "text.txt"
    text.write_bytes(TEXT[:3000])
    arguments = [
        "engines",
        str(find_model(BUILT_IN)),
        str(text),
        "--window",
        "64",
        "--seconds",
        "0.01",
    ]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    lines = result.output.splitlines()
    assert result.exit_code == 0 and "GMAC/s" in lines[1] and "tokens/s" in lines[3]
    difference = float(lines[4].rsplit(" ", 2)[1])
    assert abs(difference) < 1.0
