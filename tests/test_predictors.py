"""The ensemble's parts one by one: layout, contexts, mixer, curves, match, memory, learnt state."""

from dataclasses import replace

import numba
import numpy as np
import pytest
from tests_support import english, records

from nczip.assets.network import load_network
from nczip.coder import rangecoder
from nczip.coder.exactmath import squash
from nczip.formats.container import GUIDED_LAYOUT, LAYOUT_NUMBERS
from nczip.predictors import apm, codec, contexts, layout, learnt, match, memory, mixer
from nczip.predictors.codec import CodecSettings
from nczip.predictors.coding import bytes_coder
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


def _hasher(lists):
    hash_contexts = contexts.hasher(lists)

    @bare
    def hash_all(block, byte, hashes):
        hash_contexts(block, byte, hashes)

    return hash_all


@bare
def _hash_primed(block, hashes):
    contexts.hash_primed_contexts(contexts.Reader(block.data, block.lanes, 0), hashes)


LISTS = {name: members.contexts for name, members in layout.LAYOUTS.items()}
HASHERS = {name: _hasher(lists) for name, lists in LISTS.items()}


def fresh(data: bytes = b"\0", binary: bool = False, **options):
    setup = Setup(10, 1, new_table(0), no_trie(), no_weights())
    edges = np.array([0, len(data)], np.int64)
    return new_ensemble(
        np.frombuffer(data, np.uint8).copy(), edges, setup, binary=binary, **options
    )


# Layout.


@pytest.fixture(params=layout.LAYOUTS.values(), ids=layout.LAYOUTS)
def members(request):
    """A layout."""
    return request.param


def test_every_input_and_weight_set_has_a_place_of_its_own(members):
    assert members.inputs % 16 == 0 and len(members.input_names) <= members.inputs
    assert len(set(members.input_names)) == len(members.input_names)
    ends = [s + w.rows for s, w in zip(members.set_starts, members.weight_sets, strict=True)]
    assert ends == [*members.set_starts[1:], members.bank_rows]


def test_the_final_mixers_of_the_full_layout_see_more_than_the_sets():
    names = [layout.FULL.input_names[i] for i in layout.FULL.final_inputs]
    assert names == ["run 11", "order 0", "match", "network or transformer", "constant"]


def test_headers_can_name_every_layout():
    assert set(LAYOUT_NUMBERS) == set(layout.LAYOUTS)


def test_rows_that_are_chosen_stay_inside_their_sets(members):
    data = english(1500) + bytes(range(256)) * 2 + records(500)
    for binary in (False, True):
        rows = _rows_chosen(fresh(data, binary, layout=members), members)
        limits = [weight_set.rows for weight_set in members.weight_sets]
        assert (rows >= 0).all() and (rows < limits).all()
        assert (rows.max(axis=0) > 0).all()


def _rows_chosen(ensemble, members):
    """The rows chosen at the last bit of every byte of a block; int64[bytes, sets]."""
    data, rows = ensemble.block.data, []
    coder = rangecoder.new_encoder()
    buffer = rangecoder.attach(coder, 2 * len(data))
    for stop in range(1, len(data) + 1):
        ensemble.block.lanes[0, memory.STOP] = stop
        bytes_coder(members)(ensemble, coder, buffer, 0, 1)
        rows.append(ensemble.mixer.selected - members.set_starts)
    return np.array(rows)


# Contexts.


@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
@pytest.mark.parametrize("depth", [-1, 0, 3], ids=["bytes", "token start", "in a token"])
@pytest.mark.parametrize("lists", LISTS)
def test_every_context_is_hashed_anew_for_each_byte(binary, depth, lists):
    block = block_of(b"The (first) line, <b>of</b> 12 words\nThe next: 7 of them;" * 3, binary)
    _advance(block, 100)
    hashes = np.full(LISTS[lists].size, SENTINEL)
    HASHERS[lists](block, Byte(0, depth, 0, 0, 101, 104, 0x111), hashes)
    assert not (hashes == SENTINEL).any()
    assert len(set(hashes.tolist())) == LISTS[lists].size


@pytest.mark.parametrize(
    "families",
    [families for lists in LISTS.values() for families in (lists.text, lists.binary)],
    ids=[f"{kind}, {name}" for name in LISTS for kind in ("text", "binary")],
)
def test_families_fill_as_many_places_as_they_say(families):
    gather = contexts._gather
    for family in families:
        put = family.put

        @bare
        def fill(block, byte, hashes, put=put):
            return put(hashes, 5, gather(block, byte))

        block = block_of(b"some bytes to look back on")
        _advance(block, 20)
        hashes = np.full(contexts.FULL.size, SENTINEL)
        stop = fill(block, Byte(0, -1, 0, 0, 1, 2, 0), hashes)
        assert stop - 5 == family.size
        assert np.flatnonzero(hashes != SENTINEL).tolist() == list(range(5, stop))


@pytest.mark.parametrize("lists", LISTS)
def test_contexts_of_the_same_content_have_hashes_of_their_own(lists):
    """On zeros nearly all contexts see the same: only their numbers tell them apart."""
    block = block_of(bytes(300), binary=True)
    _advance(block, 256)
    hashes = np.zeros(LISTS[lists].size, np.uint64)
    HASHERS[lists](block, Byte(0, -1, 0, 0, 0, 0, 0), hashes)
    assert len(set(hashes.tolist())) == LISTS[lists].size


@pytest.mark.parametrize("lists", LISTS)
def test_primed_contexts_are_hashed_as_the_primer_was(lists):
    """All of them but for their order, or the primed table would know none of them."""
    block = block_of(b"It was the best of times,\nit was the worst of times", binary=False)
    _advance(block, 50)
    hashes = np.zeros(LISTS[lists].size, np.uint64)
    HASHERS[lists](block, Byte(0, -1, 0, 0, 101, 109, 0x111), hashes)
    primed = np.zeros(contexts.PRIMED_CONTEXTS, np.uint64)
    _hash_primed(block, primed)
    assert set(hashes[: LISTS[lists].primed].tolist()) <= set(primed.tolist())


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


def _coded(members, **options):
    """Text and records, coded."""
    network = load_network() if members.has_network else None
    settings = CodecSettings(14, 1, None, layout=members, **options)
    text = codec.encode(b"", english(5000), replace(settings, network=network))
    binary = codec.encode(b"", records(4000), replace(settings, binary=True))
    return (text or b"") + (binary or b"")


def test_every_part_can_be_done_without_and_has_a_say(members):
    whole = _coded(members)
    for name in set(parts(members)) - {"transformer", "bias head"}:
        assert _coded(members, without=frozenset({name})) != whole, name
    # Without any of them every bit costs a bit, so that nothing is worth coding.
    assert _coded(members, without=frozenset(parts(members))) == b""


def test_both_directions_of_a_layout_agree(members):
    for text, binary in ((english(5000), False), (records(4000), True)):
        settings = CodecSettings(12, 2, None, layout=members, binary=binary)
        coded = codec.encode(b"", text, settings)
        assert coded is not None and codec.decode(coded, 0, len(text), settings) == (b"", text)


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
    state["weights"].reshape(-1, layout.FULL.inputs)[:, 5] = 0.75
    state["histories"][:, 5] = 77 << 22
    known = learnt.unpack_learnt(learnt.pack_learnt(state))
    # The teacher had the same inputs in another order, and one that is gone.
    swapped = [5, *range(1, 5), 0, *range(6, layout.FULL.inputs)]
    known["weights"] = known["weights"].reshape(-1, layout.FULL.inputs)[:, swapped].reshape(-1)
    known["histories"] = known["histories"][:, swapped[: contexts.FULL.size]]
    known["inputs"] = known["inputs"][swapped]
    known["inputs"][9] = "something else"
    pupil = fresh()
    default = pupil.mixer.weights[9]
    learnt.adopt(pupil, known)
    weights = pupil.mixer.weights.reshape(-1, layout.FULL.inputs)
    assert (weights[:, 5] == 0.75).all() and weights[0, 9] == default
    assert (learnt_state(pupil)["histories"][:, 5] >> 22 == 77).all()


def test_headers_and_predictors_agree_on_which_layout_a_transformer_guides():
    guided = {LAYOUT_NUMBERS[name] for name, known in layout.LAYOUTS.items() if known.is_guided}
    assert guided == {GUIDED_LAYOUT}
