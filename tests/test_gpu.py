"""GPUs under the llama engine, as far as a machine without one can tell: what reaches llama.cpp,
who gets which block, what is said. And what falls to this engine because exact cannot evaluate it.
"""

import re
import sys

import pytest
from command import nczip_command  # noqa: F401
from fake_llama import LAYERS, FakeLlama
from small_models import Shape, write_model
from tests_support import english

import nczip
from nczip.engines import load_model
from nczip.errors import EngineError, ModelError
from nczip.formats.container import ENGINE_LLAMA, parse_header

TEXT = english(9000)


@pytest.fixture
def machine(monkeypatch):
    """Makes a machine with GPUs of some kinds."""

    def machine(*kinds):
        llama = FakeLlama(*kinds)
        monkeypatch.setitem(sys.modules, "llama_cpp", llama)
        load_model.cache_clear()
        return llama

    yield machine
    load_model.cache_clear()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(write_model(tmp_path_factory.mktemp("models") / "tiny.gguf", Shape()))


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """A model that the exact engine cannot evaluate."""
    return str(write_model(tmp_path_factory.mktemp("models") / "foreign.gguf", Shape("gpt2")))


def compress(model, **options):
    chosen = {"engine": "llama", "block_size": 4096, "lanes": 2, "primer": False}
    return nczip.compress(TEXT, model=model, **chosen, **options)


def decompress(coded, model, **options):
    return nczip.decompress(coded, model=model, **options)


def test_without_a_gpu_nothing_is_put_there(machine, model):
    llama = machine()
    assert decompress(compress(model), model) == TEXT
    assert {parameters.n_gpu_layers for parameters in llama.models} == {0}
    places = {(c.parameters.offload_kqv, c.parameters.op_offload) for c in llama.contexts}
    assert places == {(False, False)}


def test_all_layers_go_to_the_gpus_that_there_are(machine, model):
    llama = machine(1, 1)
    assert decompress(compress(model), model) == TEXT
    for parameters in llama.models:
        assert parameters.n_gpu_layers > LAYERS and parameters.split_mode != 0
    assert all(context.parameters.offload_kqv for context in llama.contexts)


def test_so_many_layers_as_are_asked_for_go_to_the_gpu(machine, model):
    llama = machine(1)
    coded = compress(model, gpu_layers=1)
    assert decompress(coded, model, gpu_layers=1) == TEXT
    assert {parameters.n_gpu_layers for parameters in llama.models} == {1}
    compress(model, gpu_layers=0)
    assert llama.models[-1].n_gpu_layers == 0 and not llama.contexts[-1].parameters.op_offload


def test_gpus_that_are_named_share_the_blocks(machine, model):
    llama = machine(1, 2, 1)
    coded = compress(model, devices=(0, 2))
    assert sorted(parameters.main_gpu for parameters in llama.models) == [0, 2]
    assert all(parameters.split_mode == llama.LLAMA_SPLIT_MODE_NONE for parameters in llama.models)
    probes, blocks = llama.contexts[:2], llama.contexts[2:]
    used = [context.model.parameters.main_gpu for context in blocks]
    assert len(probes) == 2 and len(used) == 3 and set(used) == {0, 2}
    llama.contexts.clear()
    assert decompress(coded, model, devices=(2, 0)) == TEXT
    assert {context.model.parameters.main_gpu for context in llama.contexts} == {0, 2}
    # One of them alone serves as well, and makes the same.
    assert decompress(coded, model, devices=(2,)) == TEXT
    assert compress(model, devices=[2]) == coded


def test_gpus_that_compute_otherwise_do_not_share_a_file(machine, model):
    machine(1, 2)
    with pytest.raises(EngineError, match=r"GPU 1 computes other logits than GPU 0.*one kind"):
        compress(model, devices=(0, 1))


@pytest.mark.parametrize("made_with", [{}, {"gpu_layers": 0}, {"gpu_layers": 1}, {"devices": (1,)}])
@pytest.mark.parametrize("opened_with", [{"gpu_layers": 2}, {"devices": (2,)}])
def test_what_was_made_elsewhere_is_refused_before_a_byte_is_written(
    machine, model, made_with, opened_with
):
    machine(1, 1, 2)
    coded = compress(model, **made_with)
    decoder = nczip.Decompressor(model=model, **opened_with)
    place = "all GPUs (2 of 3 layers)" if "gpu_layers" in opened_with else "GPU 2 (3 of 3 layers)"
    with pytest.raises(EngineError, match=f"other logits.*CPU or GPU.*{re.escape(place)}"):
        decoder.decompress(coded)
    assert decompress(coded, model, **made_with) == TEXT


def test_gpus_that_are_not_there_are_an_error(machine, model):
    machine()
    for options in ({"gpu_layers": 5}, {"devices": (0,)}):
        with pytest.raises(EngineError, match=r"finds no GPU.*--gpu-layers and --devices"):
            compress(model, **options)
    machine(1)
    with pytest.raises(ModelError, match=r"on GPU 3: is there one"):
        compress(model, devices=(3,))


def test_the_exact_engine_is_not_asked_to_use_a_gpu(machine, model):
    machine(1)
    for options in ({"model": model}, {"model": model, "engine": "exact"}, {"preset": "fast"}):
        with pytest.raises(EngineError, match="--engine llama"):
            nczip.compress(TEXT, gpu_layers=5, **options)
    # Decoding takes many files, some of which need none.
    coded = nczip.compress(TEXT, model=model, block_size=4096, primer=False)
    assert decompress(coded, model, devices=(0,)) == TEXT


@pytest.mark.parametrize(
    "options", [{"gpu_layers": -1}, {"devices": (1, 1)}, {"devices": (0,), "gpu_layers": 0}]
)
def test_what_cannot_be_is_refused(machine, model, options):
    machine(1)
    with pytest.raises(ValueError, match="GPU"):
        compress(model, **options)
    with pytest.raises(ValueError, match="GPU"):
        nczip.Decompressor(**options)


def test_the_command_hands_on_the_gpus_and_says_what_it_uses(
    machine, model, nczip_command, tmp_path  # noqa: F811
):  # fmt: skip
    llama = machine(1, 1)
    (tmp_path / "text").write_bytes(TEXT)
    options = ("--model", model, "--engine", "llama", "--block-size", "4k", "-v", "text")
    packed = nczip_command("c", "--devices", "0,1", *options)
    assert packed.code == 0, packed.err
    says = "text: the model tiny under the engine llama on the GPUs 0, 1 (3 of 3 layers on each)"
    assert says in packed.err
    assert {context.model.parameters.main_gpu for context in llama.contexts} == {0, 1}
    opened = nczip_command("d", "-c", "-v", "--model", model, "--gpu-layers", "3", "text.ncz")
    assert opened.out == TEXT and "llama on all GPUs (3 of 3 layers)" in opened.err
    assert nczip_command("t", "--model", model, "--gpu-layers", "2", "text.ncz").code == 1
    for wrong in ("0,,1", "cuda", "-1"):
        result = nczip_command("c", "--devices", wrong, *options)
        assert result.code == 1 and "names no GPUs" in result.err


def test_what_exact_cannot_evaluate_falls_to_llama_with_a_warning(
    machine, foreign, nczip_command, tmp_path  # noqa: F811
):  # fmt: skip
    machine()
    (tmp_path / "text").write_bytes(TEXT)
    foreign = (foreign, "--block-size", "4k")
    result = nczip_command("c", "--model", *foreign, "text")
    assert result.code == 0, result.err
    (line,) = result.err.splitlines()
    assert "not gpt2" in line and "llama.cpp evaluates it" in line
    assert "open only with the same llama-cpp-python build on the same kind of CPU or GPU" in line
    header, _ = parse_header((tmp_path / "text.ncz").read_bytes())
    assert header.model.engine == ENGINE_LLAMA and header.model.probe
    assert nczip_command("d", "-c", "--model", foreign[0], "text.ncz").out == TEXT
    quiet = nczip_command("c", "-q", "-f", "--model", *foreign, "text")
    assert quiet.code == 0 and quiet.err == ""
    asked = nczip_command("c", "-f", "--model", *foreign, "--engine", "llama", "text")
    assert asked.code == 0 and asked.err == ""
    refused = nczip_command("c", "-f", "--model", *foreign, "--engine", "exact", "text")
    assert refused.code == 1 and "not gpt2. llama.cpp may (--engine llama)" in refused.err
    assert "open only with the same" in refused.err


def test_without_llama_the_message_says_what_evaluates_such_a_model(foreign, monkeypatch):
    load_model.cache_clear()
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    with pytest.raises(ModelError, match=r"not gpt2.*pip install 'nczip\[llama\]'.*open only with"):
        nczip.compress(TEXT, model=foreign)


def test_a_damaged_model_does_not_fall_to_llama(machine, model, tmp_path):
    llama = machine()
    path = tmp_path / "bad.gguf"
    with open(model, "rb") as file:  # noqa: PTH123
        path.write_bytes(file.read()[:-1000])
    with pytest.raises(ModelError, match="is damaged"):
        nczip.compress(TEXT, model=str(path))
    assert llama.models == []
