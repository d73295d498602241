"""The ensemble's parts one by one: layout, contexts, mixer, curves, match, memory, learnt state."""

import numba
import numpy as np
import pytest
from tests_support import english, records

from nczip.assets.network import load_network
from nczip.coder import rangecoder
from nczip.coder.exactmath import squash
from nczip.predictors import apm, codec, contexts, layout, learnt, match, memory, mixer
from nczip.predictors.codec import CodecSettings
from nczip.predictors.coding import code_bytes
from nczip.predictors.ensemble import learnt_state, new_ensemble, parts
from nczip.predictors.memory import new_followers, new_lanes, new_strides
from nczip.predictors.protocol import Block, Byte, Setup
from nczip.predictors.recurrent import no_weights
from nczip.predictors.table import new_table
from nczip.predictors.transformer.trie import no_trie

# Kernels count no references: what calls them must not either.
bare = numba.njit(_nrt=False)
SENTINEL = np.uint64(0xDEADBEEFDEADBEEF)


def block_of(data: bytes, binary: bool = False) -> Block:
    array = np.frombuffer(data, np.uint8).copy()
    lanes = new_lanes(np.array([0, len(data)], np.int64))
    return Block(array, lanes, new_followers(), new_strides(), int(binary))


@bare
def _advance(block, count):
    for _ in range(count):
        memory.advance(block.data, block.lanes, 0, block.followers, block.strides)


@bare
def _hash(block, byte, hashes):
    contexts.hash_contexts(block, byte, hashes)


def fresh(data: bytes = b"\0", binary: bool = False, **options):
    setup = Setup(10, 1, new_table(0), no_trie(), no_weights())
    edges = np.array([0, len(data)], np.int64)
    return new_ensemble(
        np.frombuffer(data, np.uint8).copy(), edges, setup, binary=binary, **options
    )


# Layout.


def test_every_input_and_weight_set_has_a_place_of_its_own():
    assert layout.INPUTS % 16 == 0 and len(layout.INPUT_NAMES) <= layout.INPUTS
    assert len(set(layout.INPUT_NAMES)) == len(layout.INPUT_NAMES)
    names = [layout.INPUT_NAMES[i] for i in layout.FINAL_INPUTS]
    assert names == ["run 11", "order 0", "match", "network or transformer", "constant"]
    ends = [s + w.rows for s, w in zip(layout.SET_STARTS, layout.WEIGHT_SETS, strict=True)]
    assert ends == [*layout.SET_STARTS[1:], layout.BANK_ROWS]


def test_rows_that_are_chosen_stay_inside_their_sets():
    data = english(1500) + bytes(range(256)) * 2 + records(500)
    for binary in (False, True):
        rows = _rows_chosen(fresh(data, binary))
        limits = [weight_set.rows for weight_set in layout.WEIGHT_SETS]
        assert (rows >= 0).all() and (rows < limits).all()
        assert (rows.max(axis=0) > 0).all()


def _rows_chosen(ensemble):
    """The rows chosen at the last bit of every byte of a block; int64[bytes, SETS]."""
    data, rows = ensemble.block.data, []
    coder = rangecoder.new_encoder()
    buffer = rangecoder.attach(coder, 2 * len(data))
    for stop in range(1, len(data) + 1):
        ensemble.block.lanes[0, memory.STOP] = stop
        code_bytes(ensemble, coder, buffer, 0, 1)
        rows.append(ensemble.mixer.selected - layout.SET_STARTS)
    return np.array(rows)


# Contexts.


@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
@pytest.mark.parametrize("depth", [-1, 0, 3], ids=["bytes", "token start", "in a token"])
def test_every_context_is_hashed_anew_for_each_byte(binary, depth):
    block = block_of(b"The (first) line, <b>of</b> 12 words\nThe next: 7 of them;" * 3, binary)
    _advance(block, 100)
    hashes = np.full(contexts.CONTEXTS, SENTINEL)
    _hash(block, Byte(0, depth, 0, 0, 101, 104, 0x111), hashes)
    assert not (hashes == SENTINEL).any()
    assert len(set(hashes.tolist())) == contexts.CONTEXTS


@pytest.mark.parametrize("families", [contexts.TEXT, contexts.BINARY], ids=["text", "binary"])
def test_families_fill_as_many_places_as_they_say(families):
    gather = contexts._gather
    for family in families:
        put = family.put

        @bare
        def fill(block, byte, hashes, put=put):
            return put(hashes, 5, gather(block, byte))

        block = block_of(b"some bytes to look back on")
        _advance(block, 20)
        hashes = np.full(contexts.CONTEXTS, SENTINEL)
        stop = fill(block, Byte(0, -1, 0, 0, 1, 2, 0), hashes)
        assert stop - 5 == family.size
        assert np.flatnonzero(hashes != SENTINEL).tolist() == list(range(5, stop))


def test_contexts_of_the_same_content_have_hashes_of_their_own():
    """On zeros nearly all contexts see the same: only their numbers tell them apart."""
    block = block_of(bytes(300), binary=True)
    _advance(block, 256)
    hashes = np.zeros(contexts.CONTEXTS, np.uint64)
    _hash(block, Byte(0, -1, 0, 0, 0, 0, 0), hashes)
    assert len(set(hashes.tolist())) == contexts.CONTEXTS


# Mixer and curves.


@bare
def _note_costs(m, inputs, bits, costs):
    for i in range(bits.shape[0]):
        for j in range(16):
            m.inputs[j] = inputs[i, j]
        p = squash(mixer.mix(m, 16, 2, 1))
        costs[i] = -np.log(p if bits[i] == 1 else 1 - p)
        mixer.learn(m, 16, 2, 1, bits[i])


def _mix_and_learn(m, inputs, bits):
    """The cost in nats of each of the bits, under two agreeing sets and one final mixer."""
    costs = np.zeros(len(bits))
    _note_costs(m, inputs, bits, costs)
    return costs


def _inputs_that_tell(bits, informed):
    """Input 3 knows the bit, the others are noise."""
    rng = np.random.default_rng(1)
    inputs = rng.normal(0, 1, (len(bits), 16)).astype(np.float32)
    if informed:
        inputs[:, 3] = np.where(bits == 1, 2.0, -2.0)
    return inputs


def test_the_mixer_learns_whom_to_trust():
    bits = np.random.default_rng(2).integers(0, 2, 4000)
    new = mixer.new_mixer(np.full(16, 0.1, np.float32), 2, 2, 1, [], 1)
    costs = _mix_and_learn(new, _inputs_that_tell(bits, True), bits)
    assert costs[:10].mean() > 0.3 and costs[-1000:].mean() < 0.1
    weights = new.weights.reshape(2, 16)
    assert weights[0].argmax() == 3


def test_the_mixer_learns_nothing_from_noise():
    bits = np.random.default_rng(2).integers(0, 2, 4000)
    new = mixer.new_mixer(np.full(16, 0.1, np.float32), 2, 2, 1, [], 1)
    costs = _mix_and_learn(new, _inputs_that_tell(bits, False), bits)
    assert costs[-1000:].mean() == pytest.approx(np.log(2), abs=0.05)


def test_an_input_behind_a_closed_gate_has_no_say():
    bits = np.random.default_rng(2).integers(0, 2, 2000)
    new = mixer.new_mixer(np.full(16, 0.1, np.float32), 2, 2, 1, [3], 1)
    new.gate[3] = 0
    costs = _mix_and_learn(new, _inputs_that_tell(bits, True), bits)
    assert costs[-500:].mean() > 0.6


def test_final_mixers_see_the_inputs_that_are_named():
    bits = np.random.default_rng(2).integers(0, 2, 2000)
    new = mixer.new_mixer(np.zeros(16, np.float32), 2, 2, 1, [3, 7], 1)
    _mix_and_learn(new, _inputs_that_tell(bits, True), bits)
    assert new.logits[2] == new.inputs[3] and new.logits[3] == new.inputs[7]
    assert new.final_weights[2] > 5 * abs(new.final_weights[3])


@bare
def _refine_and_learn(curves, logit, bits):
    position = apm.axis_position(logit)
    for i in range(bits.shape[0]):
        apm.learn_apm(curves, 1, position, bits[i])
    return apm.refine(curves, 1, position), apm.refine(curves, 0, position)


def test_a_curve_learns_what_really_happens():
    curves = apm.new_apm(2)
    before, _ = _refine_and_learn(curves, 1.0, np.zeros(0, np.int64))
    assert before == pytest.approx(1 / (1 + np.exp(-1.0)), abs=0.001)
    after, other = _refine_and_learn(curves, 1.0, np.zeros(400, np.int64))
    assert after < 0.05 and other == pytest.approx(before)


# Match.


def test_a_repetition_is_found_and_followed():
    text = b"abcdefghij" + b"0123456789" + b"abcdefghij"
    block = block_of(text)
    state = match.State(np.zeros(1 << 10, np.int32), np.zeros(256, np.uint32))

    @bare
    def follow(block, state, steps):
        for _ in range(steps):
            memory.advance(block.data, block.lanes, 0, block.followers, block.strides)
            match._update(block.data, block.lanes, 0, state.table)
        return match.expected_byte(block.data, block.lanes, 0)

    assert follow(block, state, 25) == 0  # five bytes are too few
    assert follow(block, state, 1) == ord("g") | 256
    assert block.lanes[0, memory.MATCH_LENGTH] == match.MIN_LENGTH
    assert follow(block, state, 2) == ord("i") | 256


# Memory.


def test_memory_knows_words_lines_and_brackets():
    block = block_of(b"one two\n  (three")
    _advance(block, 16)
    row = block.lanes[0]
    assert row[memory.POSITION] == 16
    assert (row[memory.LINE_ABOVE], row[memory.LINE_START], row[memory.INDENT]) == (0, 8, 2)
    assert row[memory.BRACKETS] == ord(")")
    assert row[memory.WORD] != 0 and row[memory.WORD_LENGTHS] & 0xFFF == 0x335
    assert row[memory.INITIALS] & 0xFFFFFF == int.from_bytes(b"ott", "big")


def test_memory_finds_the_length_of_records():
    block = block_of(records(6000), binary=True)
    _advance(block, 6000)
    assert block.lanes[0, memory.STRIDE] == 12


# The ensemble as a whole.


def _coded(**options):
    """Text and records, coded."""
    text = codec.encode(
        b"", english(5000), CodecSettings(14, 1, None, network=load_network(), **options)
    )
    binary = codec.encode(b"", records(4000), CodecSettings(14, 1, None, binary=True, **options))
    return (text or b"") + (binary or b"")


def test_every_part_can_be_done_without_and_has_a_say():
    whole = _coded()
    for name in set(parts()) - {"transformer", "bias head"}:
        assert _coded(without=frozenset({name})) != whole, name
    # Without any of them every bit costs a bit, so that nothing is worth coding.
    assert _coded(without=frozenset(parts())) == b""


def test_a_learnt_state_of_the_same_layout_is_taken_as_it_is():
    teacher = fresh(english(3000))
    state = learnt_state(teacher)
    state["weights"][:] = 0.25
    known = learnt.unpack_learnt(learnt.pack_learnt(state))
    pupil = fresh()
    learnt.adopt(pupil, known)
    assert (pupil.mixer.weights == 0.25).all()


def test_a_learnt_state_of_another_layout_gives_what_both_share():
    state = {name: array.copy() for name, array in learnt_state(fresh()).items()}
    state["weights"].reshape(-1, layout.INPUTS)[:, 5] = 0.75
    state["histories"][:, 5] = 77 << 22
    known = learnt.unpack_learnt(learnt.pack_learnt(state))
    # The teacher had the same inputs in another order, and one that is gone.
    swapped = [5, *range(1, 5), 0, *range(6, layout.INPUTS)]
    known["weights"] = known["weights"].reshape(-1, layout.INPUTS)[:, swapped].reshape(-1)
    known["histories"] = known["histories"][:, swapped[: contexts.CONTEXTS]]
    known["inputs"] = known["inputs"][swapped]
    known["inputs"][9] = "something else"
    pupil = fresh()
    default = pupil.mixer.weights[9]
    learnt.adopt(pupil, known)
    weights = pupil.mixer.weights.reshape(-1, layout.INPUTS)
    assert (weights[:, 5] == 0.75).all() and weights[0, 9] == default
    assert (pupil.states.contexts.histories[:, 5] >> 22 == 77).all()
