from __future__ import annotations

from itertools import product

import pytest

from ra.journal.states import FINAL, HELD, OPEN, TRANSITIONS, IllegalTransition, State, check_path

DESIGN = """
authorised -> awaiting-approval submitting
awaiting-approval -> submitting rejected
submitting -> issued pending unknown rejected quarantined authorised
pending -> issued rejected expired
unknown -> issued pending authorised
issued -> released revoking
released -> revoking
revoking -> revoked
"""
LEGAL = {
    (State(before), State(after))
    for before, afters in (line.split(" -> ") for line in DESIGN.strip().splitlines())
    for after in afters.split()
}


@pytest.mark.parametrize(("before", "after"), sorted(LEGAL))
def test_every_move_of_the_design_is_legal(before: State, after: State) -> None:
    check_path(before, after)


@pytest.mark.parametrize(("before", "after"), sorted(set(product(State, State)) - LEGAL))
def test_every_other_move_is_illegal(before: State, after: State) -> None:
    with pytest.raises(IllegalTransition):
        check_path(before, after)


def test_every_step_of_a_path_is_checked() -> None:
    check_path(State.SUBMITTING, State.ISSUED, State.RELEASED)

    with pytest.raises(IllegalTransition):
        check_path(State.SUBMITTING, State.ISSUED, State.REJECTED)


def test_every_state_has_its_row_and_what_is_final_has_no_way_out() -> None:
    assert set(State) == set(TRANSITIONS)
    assert {frozenset()} == {TRANSITIONS[state] for state in FINAL}


def test_no_state_is_open_and_final_or_open_and_held() -> None:
    assert set() == (OPEN & FINAL) | (OPEN & HELD) | (HELD & FINAL)
    assert {State.REVOKING} == set(State) - OPEN - HELD - FINAL
