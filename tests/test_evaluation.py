"""The costs of bytes and tokens: they add up to what coding takes, and lie where they belong."""

import numpy as np
import pytest
from tests_support import AWKWARD, english, noise, records

import nczip

FAST = {"preset": "fast", "primer": False}
SLACK = 8 * 24  # bits of a block for its fields, the run table and the end of the coded string


def _lines(size):
    words = english(size).replace(b"\n", b" ").split(b" ")
    out, line = [], b""
    for word in words:
        if len(line) + len(word) > 62:
            out.append(line)
            line = b""
        line = line + b" " + word if line else word
    return b"\n".join([*out, line])


@pytest.mark.parametrize("name", [name for name in AWKWARD if name not in ("empty",)])
@pytest.mark.parametrize("model", [None, "nczip-9m-q8_0"])
def test_costs_add_up_to_the_size_of_what_is_coded(name, model):
    data = AWKWARD[name]
    found = nczip.evaluate(data, "fast", primer=False, model=model)
    assert found.byte_bits.shape == (len(data),)
    assert (found.byte_bits >= 0).all()
    assert abs(found.byte_bits.sum() - 8 * found.coded_size) <= SLACK + len(AWKWARD[name]) // 500
    assert found.token_bits.sum() <= found.byte_bits.sum() + 1e-6


def test_size_is_that_of_the_compressed_payload():
    data = english(40_000)
    found = nczip.evaluate(data, **FAST)
    packed = nczip.compress(data, **FAST)
    assert 0 < len(packed) - found.coded_size < 70  # header, frame, index
    assert found.bits_per_byte == pytest.approx(8 * found.coded_size / len(data), rel=0.01)


def test_tokens_cover_text_and_cost_what_their_bytes_cost():
    data = english(30_000)
    found = nczip.evaluate(data, "default", primer=False, engine="exact")
    assert found.token_starts[0] == 0
    assert found.token_ends[-1] == len(data)
    assert (found.token_starts[1:] == found.token_ends[:-1]).all()
    sums = np.add.reduceat(found.byte_bits, found.token_starts)
    assert np.allclose(sums, found.token_bits)
    spelled = [data[a:b] for a, b in zip(found.token_starts, found.token_ends, strict=True)]
    assert spelled.count(b" the") > 50


def test_what_surprises_costs_more_than_what_repeats():
    sentence = b"a quiet sentence that comes back again and again without a change, "
    data = sentence * 40 + b"QZXJ" + sentence * 5
    found = nczip.evaluate(data, **FAST)
    at = 40 * len(sentence)
    assert found.byte_bits[at : at + 4].min() > 4
    assert found.byte_bits[at - len(sentence) : at].mean() < 0.5
    assert found.token_bits.size == 0


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_line_breaks_kept_apart_are_counted_where_they_stand(newline):
    data = _lines(30_000).replace(b"\n", newline)
    found = nczip.evaluate(data, **FAST)
    assert abs(found.byte_bits.sum() - 8 * found.coded_size) <= SLACK
    raw = np.frombuffer(data, np.uint8)
    assert (found.byte_bits[raw == ord("\r")] == 0).all()
    ends = found.byte_bits[raw == ord("\n")]
    assert 0 < ends.min() < ends.max() < 12


def test_crlf_belongs_to_the_token_of_its_line_feed():
    data = english(20_000).replace(b"\n", b"\r\n")
    found = nczip.evaluate(data, "default", primer=False, engine="exact")
    assert (found.token_starts[1:] == found.token_ends[:-1]).all()
    assert found.token_ends[-1] == len(data)


def test_binary_runs_have_costs_but_no_tokens():
    data = english(9_000) + records(9_000) + noise(40_000) + english(7_000, 2)
    found = nczip.evaluate(data, "default", primer=False, engine="exact")
    middle = found.byte_bits[20_000:55_000]
    assert middle.mean() == pytest.approx(8, rel=0.01)
    inside = (found.token_starts > 10_000) & (found.token_ends < 17_000)
    assert not inside.any()


def test_blocks_are_put_together_in_order():
    data = english(5_000)
    found = nczip.evaluate(data, "fast", primer=False, block_size=2048, threads=2)
    assert len(found.byte_bits) == len(data)
    first = nczip.evaluate(data[:2048], "fast", primer=False, block_size=2048)
    # Not the same: a lone block has smaller tables.
    assert np.abs(found.byte_bits[:2048] - first.byte_bits).mean() < 0.1


def test_a_named_model_tells_what_it_costs_even_above_eight_bits():
    data = noise(600).hex().upper().encode()[:200] + "\u4e16\u754c".encode() * 3
    found = nczip.evaluate(data, "default", primer=False, engine="exact")
    assert len(found.token_bits) > 20
    assert found.token_bits.sum() == pytest.approx(found.byte_bits.sum())


def test_nothing_costs_nothing():
    found = nczip.evaluate(b"", **FAST)
    assert (found.bits_per_byte, found.coded_size, len(found.byte_bits)) == (0.0, 0, 0)


def test_measuring_changes_no_stream():
    data = english(20_000)
    before = nczip.compress(data, **FAST)
    nczip.evaluate(data, **FAST)
    assert nczip.compress(data, **FAST) == before
