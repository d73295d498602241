"""Own tokeniser and own unpacking of tensors, against the libraries that they spare the core."""

import random
import unicodedata

import numpy as np
import pytest
from tests_support import AWKWARD, english

from nczip.assets.models import find_model
from nczip.errors import ModelError
from nczip.predictors.transformer import quants
from nczip.predictors.transformer.bpe import BytePairs, split_words
from nczip.predictors.transformer.gguf_file import check_gguf
from nczip.predictors.transformer.gguf_tokens import GgufVocabulary
from nczip.predictors.transformer.trie import MAX_TOKENS
from nczip.presets import BUILT_IN

TRICKY = [
    "it's we'll they've I'd you're 'tis don'T 'S rock'n'roll ''s 'll've",
    "  two  spaces\n\n\tand tabs \r\n line ends   ",
    "x\x1cy\x85z\xa0q\u3000w\u200be\u2028r",  # what str.isspace and White_Space see differently
    "Ⅷ ² ½ ٣ 一二三 ǅ ʰ a\u0301 ＿ _a_1",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "=" * 3000 + "ACGT" * 2000,
    "<|endoftext|> is no text",
    "👩\u200d🔬 ｆｕｌｌ Ελληνικά עברית العربية हिन्दी ไทย",
    "",
]


@pytest.fixture(scope="module")
def built_in():
    return check_gguf(find_model(BUILT_IN), MAX_TOKENS)


@pytest.fixture(scope="module")
def theirs():
    pytest.importorskip("tokenizers", reason="the library is not installed")
    from nczip.predictors.train.tokeniser import load_tokeniser

    return load_tokeniser(find_model(BUILT_IN))


@pytest.mark.parametrize("text", [*TRICKY, english(30_000).decode()])
def test_tokens_are_those_of_the_library(text, built_in, theirs):
    ours = GgufVocabulary(built_in).tokenise(text.encode())
    assert ours == theirs.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_inputs_give_the_librarys_tokens_or_none(name, built_in, theirs):
    tokens = GgufVocabulary(built_in).tokenise(AWKWARD[name])
    try:
        text = AWKWARD[name].decode()
    except UnicodeDecodeError:
        assert tokens == []
    else:
        assert tokens == theirs.encode(text, add_special_tokens=False).ids


def test_every_character_is_split_as_by_the_library():
    pre_tokenizers = pytest.importorskip("tokenizers", reason="not installed").pre_tokenizers
    splitter = pre_tokenizers.ByteLevel(add_prefix_space=False)
    for code in (*range(0x3000), *range(0x3000, 0xD800, 7), *range(0xE000, 0x110000, 211)):
        character = chr(code)
        if unicodedata.category(character) == "Cn":
            continue  # the library may know it already
        text = f"a{character}1 {character}. {character}{character}"
        pieces = [text[slice(*span)] for _, span in splitter.pre_tokenize_str(text)]
        assert split_words(text) == pieces, hex(code)


def test_merges_in_any_order_give_the_librarys_tokens():
    tokenizers = pytest.importorskip("tokenizers", reason="not installed")
    letters = [chr(256 + byte) for byte in range(256)]
    letters[ord("a")], letters[ord("b")], letters[ord("c")] = "abc"
    rng = random.Random(4)
    for _ in range(60):
        pieces, merges = ["a", "b", "c"], []
        for _ in range(rng.randint(1, 12)):
            left, right = rng.choice(pieces), rng.choice(pieces)
            if left + right not in pieces:
                pieces.append(left + right)
                merges.append((left, right))
        rng.shuffle(merges)  # a merge may come before those that make its parts
        ours = BytePairs(pieces, merges, letters)
        numbers = {piece: number for number, piece in enumerate(pieces)}
        theirs = tokenizers.Tokenizer(tokenizers.models.BPE(numbers, merges))
        for _ in range(20):
            text = "".join(rng.choices("abc", k=rng.randint(1, 40)))
            assert ours.tokenise(text) == theirs.encode(text).ids


@pytest.mark.parametrize("name", ["F32", "F16", "BF16", "Q8_0", "Q4_1"])
def test_tensors_are_unpacked_as_by_the_library(name):
    gguf = pytest.importorskip("gguf", reason="the models extra is not installed")
    kind = gguf.GGMLQuantizationType[name]
    values = np.random.default_rng(1).normal(0, 3, (5, 7, 64)).astype(np.float32)
    packed = gguf.quantize(values, kind)
    data = np.ascontiguousarray(packed).view(np.uint8)
    found = quants.dequantise(data, int(kind))
    assert found.dtype == np.float32
    if packed.dtype == np.uint8:
        assert np.array_equal(found, gguf.dequantize(packed, kind))
    else:
        assert np.array_equal(found, packed.astype(np.float32))
    assert quants.block_of(int(kind)) == gguf.GGML_QUANT_SIZES[kind]


def test_other_kinds_name_the_extra_where_the_library_is_missing(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "gguf", None)
    with pytest.raises(ModelError, match=r"nczip\[models\]"):
        quants.block_of(3)
    assert quants.block_of(8) == (32, 34)


def test_unknown_kinds_of_tensors_are_told():
    pytest.importorskip("gguf", reason="the models extra is not installed")
    with pytest.raises(KeyError):
        quants.block_of(999)
