"""The llama engine, on the built-in model and on a SentencePiece-style vocabulary."""

import shutil

import numpy as np
import pytest
from small_models import Shape, write_model
from tests_support import AWKWARD, english, noise

import nczip
from nczip.assets.models import find_model
from nczip.errors import EngineError, ModelError
from nczip.predictors.codec import engine_trie
from nczip.predictors.transformer.llama import LlamaEngine
from nczip.predictors.transformer.tokens import token_lengths
from nczip.presets import BUILT_IN

llama_cpp = pytest.importorskip("llama_cpp", reason="the llama extra is not installed")
gguf = pytest.importorskip("gguf", reason="the dev extra is not installed")


def _write_sentencepiece_model(path):
    """A random llama of one layer whose vocabulary is SentencePiece-style with byte tokens."""
    rng = np.random.default_rng(1)
    words = ["▁", "e", "t", "a", "th", "the", "▁the", "▁a", "▁an", "an", "n", "d", "▁and", "o"]
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), *words]
    kinds = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL]
    kinds += [gguf.TokenType.BYTE] * 256 + [gguf.TokenType.NORMAL] * len(words)
    width, hidden = 32, 64
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(width)
    writer.add_block_count(1)
    writer.add_feed_forward_length(hidden)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(width // 2)
    writer.add_vocab_size(len(pieces))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(pieces)
    writer.add_token_scores([-float(i) for i in range(len(pieces))])
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    shapes = {
        "token_embd.weight": (len(pieces), width),
        "output.weight": (len(pieces), width),
        "blk.0.attn_q.weight": (width, width),
        "blk.0.attn_k.weight": (width // 2, width),
        "blk.0.attn_v.weight": (width // 2, width),
        "blk.0.attn_output.weight": (width, width),
        "blk.0.ffn_gate.weight": (hidden, width),
        "blk.0.ffn_up.weight": (hidden, width),
        "blk.0.ffn_down.weight": (width, hidden),
    }
    for name, shape in shapes.items():
        writer.add_tensor(name, rng.normal(0, 0.2, shape).astype(np.float32))
    for name in ("output_norm.weight", "blk.0.attn_norm.weight", "blk.0.ffn_norm.weight"):
        writer.add_tensor(name, np.ones(width, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="module")
def sentencepiece(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "tiny-spm.gguf"
    _write_sentencepiece_model(path)
    return path


def compress(data, **options):
    return nczip.compress(data, engine="llama", **options)


@pytest.mark.parametrize("name", ["empty", "one byte", "invalid UTF-8", "UTF-8"])
def test_awkward_inputs_round_trip(llama, name):
    data = AWKWARD[name][:6000]
    assert nczip.decompress(compress(data)) == data


@pytest.mark.parametrize("lanes", [1, 3])
def test_lanes_of_unequal_length_round_trip(llama, lanes):
    data = english(6000) + noise(3000) + english(4000, 3)
    assert nczip.decompress(compress(data, lanes=lanes)) == data


def test_the_window_slides_over_long_lanes(llama):
    """Far more tokens than the window holds, in one lane."""
    data = english(8000, 5)
    trie = engine_trie(llama)
    assert len(token_lengths(llama, trie, data)) > 1000
    assert nczip.decompress(compress(data, lanes=1)) == data


def test_threads_do_not_change_the_stream(llama):
    data = english(20_000)
    streams = {compress(data, block_size=8192, threads=n) for n in (1, 2)}
    assert len(streams) == 1
    assert nczip.decompress(streams.pop(), threads=2) == data


def test_the_probe_does_not_depend_on_threads_but_on_the_shape(llama):
    probes = {threads: llama.probe(4, 512, threads) for threads in (1, 2)}
    assert probes[1] == probes[2]
    assert llama.probe(8, 512, 1) != probes[1]


def test_canonical_tokens_reproduce_the_text(llama):
    text = english(3000)
    assert b"".join(llama.vocabulary[token] for token in llama.tokenise(text)) == text


def test_a_sentencepiece_vocabulary_round_trips(sentencepiece):
    for name in ("english", "invalid UTF-8", "UTF-8", "text, binary, random, text"):
        data = AWKWARD[name]
        coded = compress(data, model=str(sentencepiece))
        assert nczip.decompress(coded, model=str(sentencepiece)) == data


def test_sentencepiece_texts_do_not_fall_apart_at_their_first_space(sentencepiece):
    engine = nczip_engine(sentencepiece)
    text = b"the and the and an and the"
    lengths = token_lengths(engine, engine_trie(engine), text)
    assert lengths.sum() == len(text)
    assert max(lengths) == 4


def nczip_engine(path):
    from nczip.engines import load_model

    return load_model(path, "llama").engine


def test_a_missing_model_is_named(sentencepiece, tmp_path):
    coded = compress(english(20_000), model=str(sentencepiece))
    with pytest.raises(ModelError, match=r"tiny-spm.*--model"):
        nczip.decompress(coded)


def test_models_are_found_by_name_and_fingerprint(sentencepiece, tmp_path, monkeypatch):
    coded = compress(english(20_000), model=str(sentencepiece))
    shutil.copy(sentencepiece, tmp_path / "renamed.gguf")
    monkeypatch.setenv("NCZIP_MODELS", str(tmp_path))
    assert nczip.decompress(coded) == english(20_000)
    assert nczip.decompress(compress(english(5000), model="renamed")) == english(5000)


def test_another_machine_is_refused_before_a_byte_is_written(llama, monkeypatch):
    coded = compress(english(20_000))
    monkeypatch.setattr(type(llama), "probe", lambda *_: 0xBAD)
    decoder = nczip.Decompressor()
    with pytest.raises(EngineError, match=r"0000000000000bad.*probe"):
        decoder.decompress(coded)


def test_files_that_are_no_models_are_refused(tmp_path):
    path = tmp_path / "bad.gguf"
    path.write_bytes(b"not a model")
    with pytest.raises(ModelError, match="not a GGUF"):
        compress(b"", model=str(path))
    path.write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(ModelError, match="is damaged"):
        compress(b"", model=str(path))


def test_without_the_extra_the_message_says_what_to_install(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    with pytest.raises(EngineError, match=r"pip install 'nczip\[llama\]'"):
        LlamaEngine(find_model(BUILT_IN))


def test_a_model_that_exact_cannot_evaluate_falls_to_this_engine(tmp_path):
    path = write_model(tmp_path / "odd.gguf", Shape(heads=4, size=24))
    said, used = [], []
    coded = nczip.compress(
        english(9000),
        model=str(path),
        block_size=4096,
        primer=False,
        announce=said.append,
        detail=used.append,
    )
    assert len(said) == 1 and "not 24; llama.cpp evaluates it" in said[0]
    assert used == ["the model odd under the engine llama on the CPU"]
    assert nczip.decompress(coded, model=str(path)) == english(9000)
