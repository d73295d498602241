"""The ensemble: the predictors' opinions of the next decision, mixed, refined and learnt from.

The life of a byte, as lpaq1 tells it (M. Mahoney), is

    enter_byte                    every predictor looks up what it knows in the byte's contexts
    for each decision:
        predict_bit               collect the inputs, select the weight sets, mix, refine: P(1)
        (coding.py codes the bit)
        learn_bit                 curves, mixer and predictors learn what it was
    leave_byte                    the lane's memory and the predictors take the byte in

One body of code serves text and binary data, with and without a transformer, encoder and decoder,
so that all of them predict alike. Predictors are listed in layout.py; what they owe is in
protocol.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nczip.coder.exactmath import quantise, squash
from nczip.coder.jit import kernel
from nczip.predictors import apm, layout
from nczip.predictors import mixer as mixers
from nczip.predictors.contexts import BINARY, TEXT, family_labels
from nczip.predictors.layout import BITS, FINALS, FIRST_BITS, INPUT_NAMES, INPUTS, SETS, TOKEN_ENDS
from nczip.predictors.memory import POSITION, advance, new_followers, new_lanes, new_strides
from nczip.predictors.mixer import Mixer
from nczip.predictors.protocol import TOKEN_END, Block, Setup
from nczip.predictors.table import Table, hash_pair

_FIRST_WEIGHTS = 3.0  # their sum over the tables' inputs
_FIRST_NETWORK_WEIGHT = 0.2
_CURVES = 1 << 16  # of two classes of bytes; as many of order 2, hashed, follow
# Of the mixed probability, and of each of two curves', in the result.
_MIX_SHARE, _CURVE_SHARE = 0.34, 0.33


@dataclass(frozen=True)
class Primer:
    """What an ensemble knows before its first byte (primer.py)."""

    table: Table
    learnt: Mapping[str, npt.NDArray[Any]] | None  #: see learnt.py; without a transformer
    learnt_tokens: Mapping[str, npt.NDArray[Any]] | None  #: the same for text under a transformer


class Ensemble(NamedTuple):
    """All that a block needs while it is coded."""

    block: Block  #: its bytes, and what the lanes remember of them
    states: Any  #: layout.States, of the predictors
    mixer: Mixer
    curves: npt.NDArray[np.float32]  #: float32[2 * 65536, 33], APMs
    refine: bool  #: whether the APMs have a say
    adapt_bias: bool  #: whether the transformer's bias head learns


class Prediction(NamedTuple):
    """P(1) of a decision, and what its learning needs."""

    probability: int  #: int64, in units of 2^-24, in [1, 2^24 - 1]
    position: float  #: where the mixed logit lies on the curves' axis
    by_classes: int  #: row of ``curves``
    by_order2: int  #: row of ``curves``


def parts() -> tuple[str, ...]:
    """Names of all that :func:`new_ensemble` can do without: families, predictors, corrections."""
    families = {label for families in (TEXT, BINARY) for label in family_labels(families)}
    members = {member.name for member in layout.PREDICTORS if member.inputs}
    return tuple(sorted(families | members | {"curves", "bias head"}))


def new_ensemble(
    data: npt.NDArray[np.uint8],
    edges: npt.NDArray[np.int64],
    setup: Setup,
    *,
    binary: bool,
    without: frozenset[str] = frozenset(),
) -> Ensemble:
    """The state before a block: ``data`` holds its bytes (encoding) or room for them (decoding).

    Args:
        data: uint8[n].
        edges: int64[lanes + 1], where the lanes start, rising from 0 to n.
        setup: what the predictors' states are made of.
        binary: whether words and lines mean nothing.
        without: names of :func:`parts` that have no say, to measure what they are worth.
    """
    states: dict[str, Any] = {}
    for member in layout.PREDICTORS:
        states[member.name] = member.new(setup, states)
    banks = layout.BANKS if len(setup.trie.token) else 1
    mixer = mixers.new_mixer(
        _first_weights(setup),
        rows=banks * layout.BANK_ROWS,
        sets=SETS,
        final_rows=banks * layout.FINAL_BANK_ROWS,
        final_inputs=layout.FINAL_INPUTS.tolist(),
        finals=FINALS,
    )
    mixer.gate[: len(INPUT_NAMES)] = [not (owners & without) for owners in _owners(binary)]
    return Ensemble(
        block=Block(data, new_lanes(edges), new_followers(), new_strides(), int(binary)),
        states=layout.States(**states),
        mixer=mixer,
        curves=apm.new_apm(2 * _CURVES),
        refine="curves" not in without,
        adapt_bias="bias head" not in without,
    )


def _owners(binary: bool) -> list[set[str]]:
    """The predictors that give each input, and the family where it is a context's or its run's."""
    labels = family_labels(BINARY if binary else TEXT)
    owners: list[set[str]] = [set() for _ in INPUT_NAMES]
    for member in layout.PREDICTORS:
        for place, name in enumerate(member.inputs):
            owner = owners[INPUT_NAMES.index(name)]
            owner.add(member.name)
            if member.name in ("contexts", "runs"):
                owner.add(labels[place])
    return owners


def _first_weights(setup: Setup) -> npt.NDArray[np.float32]:
    """The weights of the inputs where nothing has been learnt, float32[INPUTS]."""
    tables = sum(owners & {"contexts", "runs"} != set() for owners in _owners(False))
    weights = np.full(INPUTS, _FIRST_WEIGHTS / tables, np.float32)
    if len(setup.network.scales):
        weights[INPUT_NAMES.index("network or transformer")] = _FIRST_NETWORK_WEIGHT
    return weights


def learnt_state(ensemble: Ensemble) -> dict[str, npt.NDArray[Any]]:
    """What an ensemble has learnt of how to weigh its tables: views of its arrays, by name."""
    mixer = ensemble.mixer
    state: dict[str, npt.NDArray[Any]] = {
        "weights": mixer.weights,
        "uses": mixer.uses,
        "final_weights": mixer.final_weights,
        "final_uses": mixer.final_uses,
        "curves": ensemble.curves,
    }
    for member, own in zip(layout.PREDICTORS, ensemble.states, strict=True):
        state |= member.learnt(own)
    return state


@kernel(spliced=True)
def _select(ensemble, byte, bit):
    """Choose a row of weights in each set, and of each final mixer, and prefetch the first."""
    mixer = ensemble.mixer
    layout.select(ensemble.states, ensemble.block, byte, bit, mixer.selected)
    bank = FIRST_BITS if byte.depth == 0 else BITS
    if bit.partial == TOKEN_END:
        bank = TOKEN_ENDS
    first, final_first = bank * layout.BANK_ROWS, bank * layout.FINAL_BANK_ROWS
    mixer.final_selected[0] = final_first + bit.partial
    for j in range(FINALS - 1):
        row = mixer.selected[layout.FINAL_SETS[j]]
        mixer.final_selected[j + 1] = final_first + layout.FINAL_STARTS[j + 1] + row
    for j in range(SETS):
        mixer.selected[j] += first + layout.SET_STARTS[j]
    mixers.prefetch_rows(mixer, INPUTS, SETS)


@kernel(spliced=True)
def _find_curves(byte, bit):
    """The curves of a decision: by the classes of the last two bytes, and by these bytes."""
    classes = bit.partial | (byte.classes & 255) << 8
    order2 = np.uint64(bit.partial | byte.last << 8 | byte.before << 16)
    return classes, _CURVES + np.int64(hash_pair(np.uint64(0), order2) >> np.uint64(48))


@kernel(spliced=True)
def predict_bit(ensemble, byte, bit):
    """The :class:`Prediction` of a decision."""
    mixer, curves = ensemble.mixer, ensemble.curves
    _select(ensemble, byte, bit)
    by_classes, by_order2 = _find_curves(byte, bit)
    apm.prefetch_curve(curves, by_classes)
    apm.prefetch_curve(curves, by_order2)
    layout.predict(ensemble.states, ensemble.block, byte, bit, mixer.inputs)
    logit = mixers.mix(mixer, INPUTS, SETS, FINALS)
    position = apm.axis_position(logit)
    p = squash(logit)
    if ensemble.refine:
        first = apm.refine(curves, by_classes, position)
        second = apm.refine(curves, by_order2, position)
        p = p * _MIX_SHARE + first * _CURVE_SHARE + second * _CURVE_SHARE
    return Prediction(quantise(p), position, by_classes, by_order2)


@kernel(spliced=True)
def learn_mix(ensemble, prediction, outcome):
    """Let curves and mixer learn what a predicted decision was (int64)."""
    apm.learn_apm(ensemble.curves, prediction.by_classes, prediction.position, outcome)
    apm.learn_apm(ensemble.curves, prediction.by_order2, prediction.position, outcome)
    mixers.learn(ensemble.mixer, INPUTS, SETS, FINALS, outcome)


@kernel(spliced=True)
def learn_bit(ensemble, byte, bit, outcome):
    """Let the predictors learn what a decision was (int64), predicted or forced."""
    layout.learn(ensemble.states, ensemble.block, byte, bit, outcome)


@kernel(spliced=True)
def leave_byte(ensemble, byte, value):
    """Let memory and predictors take in the lane's byte (int64)."""
    block = ensemble.block
    block.data[block.lanes[byte.lane, POSITION]] = np.uint8(value)
    advance(block.data, block.lanes, byte.lane, block.followers, block.strides)
    layout.leave_byte(ensemble.states, block, byte, value)
