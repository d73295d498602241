"""The exact engine on every kind of dense model: close to float64, the same however it is run."""

import random

import numpy as np
import pytest
from small_models import VOCABULARY, Shape, reference, tensors_of, write_model

from nczip.engines import load_model
from nczip.errors import EngineError, ModelError, NczipError
from nczip.predictors.transformer import weights
from nczip.predictors.transformer.exact import ExactEngine
from nczip.predictors.transformer.gguf_file import check_gguf
from nczip.predictors.transformer.llama import LlamaEngine, is_available
from nczip.predictors.transformer.trie import MAX_TOKENS

TOKENS = np.random.default_rng(3).integers(0, 256, 150).tolist()

SHAPES = {
    "llama": Shape(),
    "llama, tied, heads of 80": Shape(tied=True, size=80, heads=3, key_heads=1),
    "llama 3, heads of 128": Shape(factors=True, size=128, key_heads=4),
    "exaone": Shape("exaone", size=96),
    "qwen2 with biases": Shape("qwen2", width=256, biases=True, tied=True),
    "qwen3": Shape("qwen3", norms=True, size=128, heads=6, key_heads=2),
}


def ahead(engine, tokens, window, sinks=0, lanes=1, threads=1):
    """Logits after each token of the last lane; the others see the same, turned round."""
    session = engine.open_session(lanes, window, threads, sinks)
    rows = session.evaluate_all(range(lanes), [tokens[::-1]] * (lanes - 1) + [tokens])
    session.close()
    return rows[-len(tokens) :]


@pytest.mark.parametrize("name", SHAPES)
def test_logits_are_close_to_a_reference_in_float64(tmp_path, name):
    engine = ExactEngine(write_model(tmp_path / "m.gguf", SHAPES[name]))
    for window, sinks in ((256, 0), (40, 0), (40, 4)):
        expected = reference(SHAPES[name], TOKENS, window, sinks)
        apart = ahead(engine, TOKENS, window, sinks) - expected
        assert np.sqrt((apart**2).mean()) < 0.05 * expected.std(), (window, sinks)


@pytest.mark.parametrize("name", SHAPES)
def test_the_same_bits_in_steps_in_groups_with_threads_and_in_company(tmp_path, name):
    engine = ExactEngine(write_model(tmp_path / "m.gguf", SHAPES[name]))
    for sinks in (0, 3):
        together = ahead(engine, TOKENS, 24, sinks)
        session = engine.open_session(1, 24, 2, sinks)
        alone = [session.evaluate([0], [[token]])[0].copy() for token in TOKENS]
        session.close()
        assert np.array_equal(together, alone)
        assert np.array_equal(together, ahead(engine, TOKENS, 24, sinks, lanes=3, threads=2))


@pytest.mark.parametrize("name", [name for name in SHAPES if name != "exaone"])
def test_logits_are_close_to_those_of_llama_cpp(tmp_path, name):
    if not is_available():
        pytest.skip("the llama extra is not installed")
    path = write_model(tmp_path / "m.gguf", SHAPES[name])
    session = LlamaEngine(path).open_session(1, 256, 1)
    theirs = np.array([session.evaluate([0], [[token]])[0].copy() for token in TOKENS])
    session.close()
    apart = ahead(ExactEngine(path), TOKENS, 256) - theirs
    assert np.sqrt((apart**2).mean()) < 0.05 * theirs.std()


def test_sinks_of_llama_cpp_keep_what_a_sliding_window_forgets(tmp_path):
    if not is_available():
        pytest.skip("the llama extra is not installed")
    engine = LlamaEngine(write_model(tmp_path / "m.gguf", Shape(layers=1)))
    for sinks, equal in ((0, True), (2, False)):
        last = []
        for first in (5, 50):
            session = engine.open_session(1, 16, 1, sinks)
            last += [session.evaluate([0], [[t]])[0].copy() for t in [first, *TOKENS]][-1:]
            session.close()
        assert np.allclose(*last, atol=1e-4) == equal


def write_changed(path, shape, monkeypatch, **changed):
    """A model some of whose tensors are others (None: missing)."""
    tensors = {k: v for k, v in (tensors_of(shape) | changed).items() if v is not None}
    monkeypatch.setattr("small_models.tensors_of", lambda *_: tensors)
    return write_model(path, shape)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"blk.1.attn_q.weight": np.ones((256, 64), np.float32)}, "attn_q"),
        ({"blk.0.ffn_down.weight": None}, "lacks"),
        ({"blk.0.attn_output.bias": np.ones(96, np.float32)}, "no biases but those"),
        ({"blk.0.attn_q.bias": np.ones(256, np.float32)}, "only some layers"),
        ({"token_embd.weight": np.ones((255, 96), np.float32)}, "embedding"),
        ({"output_norm.weight": np.full(96, np.nan, np.float32)}, "not a number"),
        ({"rope_freqs.weight": np.zeros(32, np.float32)}, "absurd"),
    ],
)
def test_models_that_do_not_fit_together_are_refused(tmp_path, monkeypatch, changed, message):
    path = write_changed(tmp_path / "m.gguf", Shape(), monkeypatch, **changed)
    with pytest.raises(ModelError, match=message), np.errstate(divide="ignore"):
        ExactEngine(path)


def test_other_architectures_get_a_word_on_portability(tmp_path):
    path = write_model(tmp_path / "m.gguf", Shape("mamba"))
    with pytest.raises(ModelError, match=r"not mamba.*open only with the same"):
        load_model(path, "exact")


def test_flipped_bytes_give_logits_or_one_of_our_errors(tmp_path):
    """Every field of the metadata is hit, the weights now and then; llama.cpp is never asked."""
    good = write_model(tmp_path / "good.gguf", Shape(layers=1, width=32, hidden=64)).read_bytes()
    head = good.index(b"blk.0.ffn_down.weight") + 100
    rng = random.Random(5)
    path = tmp_path / "bad.gguf"
    refused = 0
    for _ in range(150):
        data = bytearray(good)
        for _ in range(rng.choice((1, 1, 1, 3))):
            at = rng.randrange(4, head) if rng.random() < 0.9 else rng.randrange(len(data))
            data[at] = rng.choice((0, 255, data[at] ^ 1 << rng.randrange(8)))
        path.write_bytes(data)
        try:
            with np.errstate(all="ignore"):
                engine = ExactEngine(path)
                engine.tokenise(b"some text")
                ahead(engine, TOKENS[:3], 16)
        except NczipError:
            refused += 1
    assert 15 < refused < 150


@pytest.mark.parametrize("size", [0, 3, 8, 24, 200, 3000])
def test_files_that_end_early_are_refused(tmp_path, size):
    data = write_model(tmp_path / "good.gguf", Shape(layers=1)).read_bytes()
    (tmp_path / "bad.gguf").write_bytes(data[:size])
    with pytest.raises(ModelError):
        check_gguf(tmp_path / "bad.gguf", MAX_TOKENS)


def test_llama_cpp_sees_no_file_that_is_damaged(tmp_path):
    if not is_available():
        pytest.skip("the llama extra is not installed")
    data = bytearray(write_model(tmp_path / "good.gguf", Shape(layers=1)).read_bytes())
    at = data.index(b"blk.0.attn_q.weight") + 19 + 4  # its first dimension
    data[at] ^= 64
    (tmp_path / "bad.gguf").write_bytes(data)
    with pytest.raises(ModelError):
        LlamaEngine(tmp_path / "bad.gguf")


def test_tokens_that_the_model_does_not_have_are_refused(tmp_path):
    engine = ExactEngine(write_model(tmp_path / "m.gguf", Shape(layers=1)))
    with pytest.raises(EngineError, match="token"):
        engine.open_session(1, 16, 1).evaluate([0], [[VOCABULARY]])


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """Weights of any size are kept, in a folder of the test."""
    monkeypatch.setattr(weights, "_WORTH_KEEPING", 0)
    monkeypatch.setattr(weights, "cache_folder", lambda: tmp_path / "cache")
    return tmp_path / "cache"


def test_kept_weights_give_the_same_logits_and_are_not_made_again(tmp_path, kept, monkeypatch):
    path = write_model(tmp_path / "m.gguf", Shape("qwen2", biases=True))
    made = ahead(ExactEngine(path), TOKENS, 64)
    monkeypatch.setattr(weights, "_requantise", None)
    assert np.array_equal(ahead(ExactEngine(path), TOKENS, 64), made)


@pytest.mark.parametrize("harm", ["flipped", "cut", "empty", "foreign", "writable"])
def test_kept_weights_that_cannot_be_trusted_are_made_again(tmp_path, kept, harm, monkeypatch):
    path = write_model(tmp_path / "m.gguf", Shape())
    made = ahead(ExactEngine(path), TOKENS, 64)
    (file,) = kept.glob("*.panels")
    data = bytearray(file.read_bytes())
    data[-100] ^= 4
    changed = {"flipped": data, "cut": data[:-64], "empty": b""}.get(harm, data)
    file.write_bytes(changed)
    if harm == "foreign":
        monkeypatch.setattr("os.geteuid", lambda: -5)
    if harm == "writable":
        kept.chmod(0o777)
    assert np.array_equal(ahead(ExactEngine(path), TOKENS, 64), made)
