"""The members of the ensemble, and the places of what they give the mixer.

This is the only module with numbers of positions. To add a predictor, write its file (protocol.py
says what it owes) and name it in PREDICTORS; all else follows from there.
"""

from collections import namedtuple
from collections.abc import Callable
from typing import Any

import numpy as np

from nczip.coder.jit import kernel
from nczip.coder.vectors import LANES
from nczip.predictors import constant, match, network, ngram, order0, runs, surroundings
from nczip.predictors.protocol import Predictor, WeightSet
from nczip.predictors.transformer import guide

#: In the order of their inputs; a state may be made of those of predictors before it.
PREDICTORS: tuple[Predictor, ...] = (
    ngram.PREDICTOR,
    runs.PREDICTOR,
    order0.PREDICTOR,
    match.PREDICTOR,
    network.PREDICTOR,
    guide.PREDICTOR,
    constant.PREDICTOR,
    surroundings.PREDICTOR,
)


#: The state of each predictor, by its name; a NamedTuple, which kernels take as it is.
States = namedtuple("States", [member.name for member in PREDICTORS])  # type: ignore[misc]


def _unique(names: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


#: Names of the mixer's inputs; predictors that name the same one share it.
INPUT_NAMES = _unique([name for member in PREDICTORS for name in member.inputs])
#: The length of the vector of inputs: as SIMD likes it, the rest stays zero.
INPUTS = -(-len(INPUT_NAMES) // LANES) * LANES
#: The inputs that also enter the final mixers.
FINAL_INPUTS = np.array(
    [
        INPUT_NAMES.index(name)
        for name in _unique([name for member in PREDICTORS for name in member.final_inputs])
    ],
    np.int64,
)

WEIGHT_SETS: tuple[WeightSet, ...] = tuple(s for member in PREDICTORS for s in member.sets)
SET_NAMES = tuple(weight_set.name for weight_set in WEIGHT_SETS)
SETS = len(WEIGHT_SETS)
#: Banks of rows: for the bits of a byte; under a transformer also for "token ends here", and for
#: the bits of a token's first byte: only the transformer knows which bytes a token may start with.
BITS, TOKEN_ENDS, FIRST_BITS, BANKS = range(4)
#: Where each set's rows start in a bank (int64[SETS]), and the rows of a bank.
_EDGES = np.cumsum([0] + [weight_set.rows for weight_set in WEIGHT_SETS])
SET_STARTS, BANK_ROWS = _EDGES[:-1].astype(np.int64), int(_EDGES[-1])

PARTIAL_BYTES = 256
#: The sets whose rows also choose a final mixer; a first final mixer is chosen by the partial byte.
FINAL_SETS = np.array([i for i, s in enumerate(WEIGHT_SETS) if s.final], np.int64)
FINALS = 1 + len(FINAL_SETS)
_FINAL_EDGES = np.cumsum([0, PARTIAL_BYTES] + [WEIGHT_SETS[i].rows for i in FINAL_SETS])
FINAL_STARTS, FINAL_BANK_ROWS = _FINAL_EDGES[:-1].astype(np.int64), int(_FINAL_EDGES[-1])

assert len({member.name for member in PREDICTORS}) == len(PREDICTORS)
assert len(set(SET_NAMES)) == SETS
assert SETS + len(FINAL_INPUTS) <= LANES, "the final mixers have 16 inputs"
for _member in PREDICTORS:  # a predictor writes its inputs one after another
    _places = [INPUT_NAMES.index(name) for name in _member.inputs]
    assert _places == list(range(min(_places, default=0), min(_places, default=0) + len(_places)))


def _first_input(member: Predictor) -> int:
    return INPUT_NAMES.index(member.inputs[0]) if member.inputs else 0


def _first_set(member: Predictor) -> int:
    return WEIGHT_SETS.index(member.sets[0]) if member.sets else 0


def _all_together(hook: str, parameters: str, first: Callable[[Predictor], int] | None) -> Any:
    """One kernel ``hook(states, *parameters)`` that calls that hook of each predictor in turn.

    ``first`` says where in the last of the parameters a predictor's own places begin. What a
    predictor leaves out is not called, and there is no loop: each state has a type of its own.
    """
    calls: dict[str, Any] = {}
    lines = [f"def {hook}(states, {parameters}):", "    pass"]
    for place, member in enumerate(PREDICTORS):
        if getattr(member, hook) is not Predictor.__dataclass_fields__[hook].default:
            at = "" if first is None else f", {first(member)}"
            lines.append(f"    {member.name}(states[{place}], {parameters}{at})")
            calls[member.name] = getattr(member, hook)
    exec("\n".join(lines), calls)
    return kernel(spliced=True)(calls[hook])


enter_byte = _all_together("enter_byte", "block, byte", None)
enter_nibble = _all_together("enter_nibble", "block, byte, bit", None)
leave_byte = _all_together("leave_byte", "block, byte, value", None)
select = _all_together("select", "block, byte, bit, rows", _first_set)
predict = _all_together("predict", "block, byte, bit, inputs", _first_input)
learn = _all_together("learn", "block, byte, bit, outcome", None)
