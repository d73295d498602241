"""The ensemble: the predictors' opinions of the next decision, mixed, refined and learnt from.

The life of a byte, as lpaq1 tells it (M. Mahoney), is

    enter_byte                    every predictor looks up what it knows in the byte's contexts
    for each decision:
        predict_bit               collect the inputs, select the weight sets, mix, refine: P(1)
        (coding.py codes the bit)
        learn_bit                 curves, mixer and predictors learn what it was
    leave_byte                    the predictors take the byte in

As soon as a byte's fourth bit is known, and its last (when `advance` lets the lane's memory take it
in), predictors may ask for the memory that they will need; learning from that bit comes after it.

One body of code serves text and binary data, with and without a transformer, encoder and decoder,
so that all of them predict alike. Predictors are listed in layout.py; what they owe is in
protocol.py. The kernels are made for a layout, whose constants they see.
"""

import functools
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nczip.coder.exactmath import quantise
from nczip.coder.jit import kernel
from nczip.predictors import apm
from nczip.predictors import mixer as mixers
from nczip.predictors.contexts import family_labels
from nczip.predictors.layout import BANKS, BITS, FIRST_BITS, FULL, TOKEN_ENDS, Layout, States
from nczip.predictors.memory import POSITION, new_followers, new_lanes, new_strides
from nczip.predictors.mixer import Mixer
from nczip.predictors.protocol import TOKEN_END, Block, Setup

_FIRST_WEIGHTS = 3.0  # their sum over the tables' inputs
_FIRST_NETWORK_WEIGHT = 0.2
# Of the mixed probability, and of each of two curves', in the result.
_MIX_SHARE, _CURVE_SHARE = 0.42, 0.29
_LONE_CURVE_SHARE = 0.5


class Ensemble(NamedTuple):
    """All that a block needs while it is coded."""

    block: Block  #: its bytes, and what the lanes remember of them
    states: Any  #: layout.States, of the predictors
    mixer: Mixer
    curves: npt.NDArray[np.float32]  #: float32[layout's curves * 65536, 33], APMs
    refine: bool  #: whether the APMs have a say
    adapt_bias: bool  #: whether the transformer's bias head learns


class Prediction(NamedTuple):
    """P(1) of a decision, and what its learning needs."""

    probability: int  #: int64, in units of 2^-24, in [1, 2^24 - 1]
    position: float  #: where the mixed logit lies on the curves' axis
    first_curve: int  #: row of ``curves``
    second_curve: int  #: row of ``curves``; the first where a layout has one


def parts(layout: Layout = FULL) -> tuple[str, ...]:
    """Names of all that :func:`new_ensemble` can do without: families, predictors, corrections."""
    lists = layout.contexts
    families = {label for list_ in (lists.text, lists.binary) for label in family_labels(list_)}
    members = {member.name for member in layout.predictors if member.inputs}
    return tuple(sorted(families | members | {"curves", "bias head"}))


def new_ensemble(
    data: npt.NDArray[np.uint8],
    edges: npt.NDArray[np.int64],
    setup: Setup,
    *,
    binary: bool,
    layout: Layout = FULL,
    without: frozenset[str] = frozenset(),
) -> Ensemble:
    """The state before a block: ``data`` holds its bytes (encoding) or room for them (decoding).

    Args:
        data: uint8[n].
        edges: int64[lanes + 1], where the lanes start, rising from 0 to n.
        setup: what the predictors' states are made of.
        binary: whether words and lines mean nothing.
        layout: the predictors.
        without: names of :func:`parts` that have no say, to measure what they are worth.
    """
    states: dict[str, Any] = {}
    for member in layout.predictors:
        states[member.name] = member.new(setup, states)
    banks = BANKS if len(setup.trie.token) else 1
    mixer = mixers.new_mixer(
        _first_weights(setup, layout),
        rows=banks * layout.bank_rows,
        sets=layout.sets,
        final_rows=banks * layout.final_bank_rows,
        final_inputs=layout.final_inputs.tolist(),
        finals=layout.finals,
    )
    owners = layout.owners(binary)
    mixer.gate[: len(owners)] = [not (names & without) for names in owners]
    return Ensemble(
        block=Block(data, new_lanes(edges), new_followers(), new_strides(), int(binary)),
        states=States(**states),
        mixer=mixer,
        curves=apm.new_curves(layout.curves),
        refine="curves" not in without,
        adapt_bias="bias head" not in without,
    )


def _first_weights(setup: Setup, layout: Layout) -> npt.NDArray[np.float32]:
    """The weights of the inputs where nothing has been learnt, float32[layout.inputs]."""
    tables = sum(names & {"contexts", "runs"} != set() for names in layout.owners(binary=False))
    weights = np.full(layout.inputs, _FIRST_WEIGHTS / tables, np.float32)
    if len(setup.network.scales):
        weights[layout.input_names.index("network or transformer")] = _FIRST_NETWORK_WEIGHT
    return weights


def learnt_state(ensemble: Ensemble, layout: Layout = FULL) -> dict[str, npt.NDArray[Any]]:
    """What an ensemble has learnt of how to weigh its tables: views of its arrays, by name."""
    mixer = ensemble.mixer
    state: dict[str, npt.NDArray[Any]] = {
        "weights": mixer.weights,
        "uses": mixer.uses,
        "final_weights": mixer.final_weights,
        "final_uses": mixer.final_uses,
        "curves": ensemble.curves,
    }
    for member in layout.predictors:
        state |= member.learnt(getattr(ensemble.states, member.name))
    return state


class Kernels(NamedTuple):
    """What the coding of a byte calls; see the head of this file."""

    enter_byte: Any
    enter_nibble: Any
    predict_bit: Any
    learn_mix: Any
    learn_bit: Any
    expect_nibble: Any
    advance: Any
    leave_byte: Any


@functools.cache
def kernels(layout: Layout) -> Kernels:
    """The kernels of a layout."""
    inputs, sets, finals = layout.inputs, layout.sets, layout.finals
    bank_rows, final_bank_rows = layout.bank_rows, layout.final_bank_rows
    set_starts, final_starts = layout.set_starts, layout.final_starts
    final_sets = layout.final_sets
    two_curves = layout.curves == 2
    find_curves = apm.find_two if two_curves else apm.find_one
    advance_lane, squash = layout.advance, layout.squash
    select_all = layout.together("select", "block, byte, bit, rows", layout.first_set)
    predict_all = layout.together("predict", "block, byte, bit, inputs", layout.first_input)
    learn_all = layout.together("learn", "block, byte, bit, outcome")
    expect_byte = layout.together("expect_byte", "block, byte")

    @kernel(spliced=True)
    def select(ensemble, byte, bit):
        """Choose a row of weights in each set, and of each final mixer, and prefetch the first."""
        mixer = ensemble.mixer
        select_all(ensemble.states, ensemble.block, byte, bit, mixer.selected)
        bank = FIRST_BITS if byte.depth == 0 else BITS
        if bit.partial == TOKEN_END:
            bank = TOKEN_ENDS
        first, final_first = bank * bank_rows, bank * final_bank_rows
        if finals > 0:
            mixer.final_selected[0] = final_first + bit.partial
        for j in range(finals - 1):
            row = mixer.selected[final_sets[j]]
            mixer.final_selected[j + 1] = final_first + final_starts[j + 1] + row
        for j in range(sets):
            mixer.selected[j] += first + set_starts[j]
        mixers.prefetch_rows(mixer, inputs, sets)

    @kernel(spliced=True)
    def predict_bit(ensemble, byte, bit):
        """The :class:`Prediction` of a decision."""
        mixer, curves = ensemble.mixer, ensemble.curves
        select(ensemble, byte, bit)
        first_curve, second_curve = find_curves(byte, bit)
        apm.prefetch_curve(curves, first_curve)
        if two_curves:
            apm.prefetch_curve(curves, second_curve)
        predict_all(ensemble.states, ensemble.block, byte, bit, mixer.inputs)
        logit = mixers.mix(mixer, inputs, sets, finals)
        position = apm.axis_position(logit)
        p = squash(logit)
        if ensemble.refine:
            first = apm.refine(curves, first_curve, position)
            if two_curves:
                second = apm.refine(curves, second_curve, position)
                p = p * _MIX_SHARE + first * _CURVE_SHARE + second * _CURVE_SHARE
            else:
                p += (first - p) * _LONE_CURVE_SHARE
        return Prediction(quantise(p), position, first_curve, second_curve)

    @kernel(spliced=True)
    def learn_mix(ensemble, prediction, outcome):
        """Let curves and mixer learn what a predicted decision was (int64)."""
        apm.learn_apm(ensemble.curves, prediction.first_curve, prediction.position, outcome)
        if two_curves:
            apm.learn_apm(ensemble.curves, prediction.second_curve, prediction.position, outcome)
        mixers.learn(ensemble.mixer, inputs, sets, finals, outcome)

    @kernel(spliced=True)
    def learn_bit(ensemble, byte, bit, outcome):
        """Let the predictors learn what a decision was (int64), predicted or forced."""
        learn_all(ensemble.states, ensemble.block, byte, bit, outcome)

    @kernel(spliced=True)
    def advance(ensemble, byte, value):
        """Let the lane's memory take in its byte (int64)."""
        block = ensemble.block
        block.data[block.lanes[byte.lane, POSITION]] = np.uint8(value)
        advance_lane(block.data, block.lanes, byte.lane, block.followers, block.strides)
        expect_byte(ensemble.states, block, byte)

    enter_byte = layout.together("enter_byte", "block, byte")
    enter_nibble = layout.together("enter_nibble", "block, byte, bit")
    expect_nibble = layout.together("expect_nibble", "block, byte, nibble")
    leave_byte = layout.together("leave_byte", "block, byte, value")
    return Kernels(
        enter_byte, enter_nibble, predict_bit, learn_mix, learn_bit, expect_nibble, advance,
        leave_byte,
    )  # fmt: skip
