"""The recurrent network: computes what it should, where it should, with the right weights."""

import bz2
import shutil

import numpy as np
import pytest
import zstandard
from click.testing import CliRunner
from tests_support import english, records

import nczip
from nczip.assets import manifest
from nczip.assets.network import load_network
from nczip.coder.jit import kernel
from nczip.predictors import codec, recurrent
from nczip.predictors.codec import CodecSettings
from nczip.predictors.train.__main__ import main

UNITS = 64


@pytest.fixture(scope="module")
def trained():
    """Inputs, matrix, nodes and biases of a small network, float32."""
    rng = np.random.default_rng(5)
    shapes = (256, 3 * UNITS), (3 * UNITS, UNITS), (256, UNITS), (256,)
    # A matrix of larger numbers would be chaotic: rounding would grow from byte to byte.
    spreads = (1, 0.1, 1, 1)
    return [
        rng.normal(0, spread, shape).astype(np.float32)
        for spread, shape in zip(spreads, shapes, strict=True)
    ]


def logits_of(weights, text):
    """The logits of all nodes after each byte, float32[n, 256]; another lane reads other bytes."""
    network = recurrent.new_network(weights, 2)
    data = np.frombuffer(text, np.uint8).astype(np.int64)
    logits = np.zeros((len(data), 256), np.float32)
    _read(network, data, logits)
    return logits


@kernel()
def _read(network, data, logits):
    for i in range(data.shape[0]):
        recurrent.read_byte(network, np.int64(0), 255 - data[i])
        recurrent.read_byte(network, np.int64(1), data[i])
        for partial in range(256):
            logits[i, partial] = recurrent.node_logit(network, partial)


def test_the_kernel_computes_a_gated_recurrent_unit(trained):
    inputs, matrix, nodes, biases = (array.astype(np.float64) for array in trained)
    text = english(200)
    logits = logits_of(recurrent.unpack_weights(recurrent.pack_weights(*trained)), text)
    state = np.zeros(UNITS)
    for i, byte in enumerate(text):
        given, gates = inputs[byte].reshape(3, UNITS), (matrix @ state).reshape(3, UNITS)
        reset, update = 1 / (1 + np.exp(-(given[:2] + gates[:2])))
        candidate = np.tanh(given[2] + reset * gates[2])
        state = candidate + update * (state - candidate)
        expected = np.clip(nodes @ state + biases, -12, 12)
        assert np.abs(logits[i] - expected).max() < 0.1
    assert np.abs(logits).max() > 10


def test_the_first_byte_meets_a_state_of_zeros(trained):
    inputs, _, nodes, biases = trained
    weights = recurrent.unpack_weights(recurrent.pack_weights(*trained))
    given = inputs[65].astype(np.float16).astype(np.float64).reshape(3, UNITS)
    state = np.tanh(given[2]) / (1 + np.exp(given[1]))
    expected = np.clip(nodes.astype(np.float64) @ state + biases, -12, 12)
    assert np.abs(logits_of(weights, b"A")[0] - expected).max() < 0.02


WITHOUT = frozenset({"network"})


def coded_size(data, **settings):
    common = {"table_bits": 16, "byte_lanes": 1, "transformer": None, "network": load_network()}
    coded = codec.encode(b"", data, CodecSettings(**common, **settings))
    assert coded is not None
    return len(coded)


def test_the_network_makes_text_smaller(corpora):
    for path in ("calgary/book1", "canterbury/fields.c", "wiki/enwiki-2016-head.xml"):
        data = (corpora / path).read_bytes()[:10_000]
        assert coded_size(data) < 0.92 * coded_size(data, without=WITHOUT)


def test_binary_blocks_do_without_the_network():
    data = records(9000)
    assert coded_size(data, binary=True) == coded_size(data, binary=True, without=WITHOUT)


def test_another_network_is_refused(monkeypatch, tmp_path):
    fresh = load_network.__wrapped__
    shutil.copy(manifest.FOLDER / "manifest.toml", tmp_path)
    monkeypatch.setattr(manifest, "FOLDER", tmp_path)
    with pytest.raises(nczip.ModelError, match=r"not installed.*install nczip again"):
        fresh()
    (tmp_path / "recurrent.npz.zst").write_bytes(b"something else")
    with pytest.raises(nczip.ModelError, match="not that of this nczip"):
        fresh()


def test_training_learns_and_its_export_computes_the_same(tmp_path):
    torch = pytest.importorskip("torch", reason="the train extra is not installed")
    from nczip.predictors.train.recurrent import Network, bits_per_byte

    primer, checkpoint, out = (tmp_path / name for name in ("p.bz2", "c.pt", "n.npz.zst"))
    primer.write_bytes(bz2.compress(english(60_000)))
    options = ["--units", str(UNITS), "--steps", "40", "--threads", "1"]
    text = torch.frombuffer(bytearray(b"\n" + english(500, 3)), dtype=torch.uint8).long()[None]

    def invoke(*arguments):
        result = CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)
        assert result.exit_code == 0, result.output

    def loss():
        network = Network(UNITS)
        network.load_state_dict(torch.load(checkpoint, weights_only=True))
        with torch.no_grad():
            logits = network(text[:, :-1], None)[0]
        return bits_per_byte(logits, text[:, 1:]).item(), logits[0].numpy()

    invoke("recurrent", primer, checkpoint, *options)
    before, _ = loss()
    invoke("recurrent", primer, checkpoint, *options, "--init", checkpoint)
    after, expected = loss()
    assert after < before < 7
    invoke("recurrent-export", checkpoint, out)
    weights = recurrent.unpack_weights(zstandard.decompress(out.read_bytes()))
    # What comes before the first byte reads as a line end.
    logits = logits_of(weights, b"\0" + text[0, 1:-1].numpy().astype(np.uint8).tobytes())
    assert np.abs(logits[:, 1:] - np.clip(expected[:, 1:], -12, 12)).max() < 0.05
