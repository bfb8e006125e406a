from __future__ import annotations

import re
import runpy
from itertools import product
from pathlib import Path

import pytest

from ra.journal.states import (
    FINAL,
    FIRST,
    HELD,
    OPEN,
    TRANSITIONS,
    IllegalTransition,
    State,
    check_first,
    check_path,
)

DOCS = Path(__file__).resolve().parents[3] / "docs"
TABLE = """
authorised -> submitting expired
awaiting-approval -> authorised rejected expired
submitting -> issued pending unknown rejected quarantined authorised
pending -> issued rejected quarantined expired
unknown -> issued pending quarantined authorised rejected
quarantined -> issued authorised rejected
issued -> released revoking
released -> revoking
expired -> revoking
revoking -> revoked
"""
LEGAL = {
    (State(before), State(after))
    for before, afters in (line.split(" -> ") for line in TABLE.strip().splitlines())
    for after in afters.split()
}
BEGINNINGS = {State.AUTHORISED, State.AWAITING_APPROVAL, State.SUBMITTING}


@pytest.mark.parametrize(("before", "after"), sorted(LEGAL))
def test_every_move_of_the_table_is_legal(before: State, after: State) -> None:
    check_path(before, after)


@pytest.mark.parametrize(("before", "after"), sorted(set(product(State, State)) - LEGAL))
def test_every_other_move_is_illegal(before: State, after: State) -> None:
    with pytest.raises(IllegalTransition):
        check_path(before, after)


def test_every_step_of_a_path_is_checked() -> None:
    check_path(State.SUBMITTING, State.ISSUED, State.RELEASED)

    with pytest.raises(IllegalTransition):
        check_path(State.SUBMITTING, State.ISSUED, State.REJECTED)


def test_nothing_begins_but_before_the_ca_is_asked() -> None:
    for state in BEGINNINGS:
        check_first(state)

    for state in set(State) - BEGINNINGS:
        with pytest.raises(IllegalTransition):
            check_first(state)


def test_every_state_has_its_row_and_is_reached() -> None:
    assert set(State) == set(TRANSITIONS)
    assert set(State) == FIRST.union(*TRANSITIONS.values())


def test_what_is_final_never_answers_again() -> None:
    reached = set(FINAL)
    for _ in State:
        reached |= {after for state in reached for after in TRANSITIONS[state]}

    assert set() == reached & (OPEN | HELD)


def test_what_is_held_is_never_open_again() -> None:
    assert set() == OPEN.intersection(*(TRANSITIONS[state] for state in HELD))


def test_no_state_is_open_and_final_or_open_and_held() -> None:
    assert set() == (OPEN & FINAL) | (OPEN & HELD) | (HELD & FINAL)
    assert {State.REVOKING} == set(State) - OPEN - HELD - FINAL


def test_the_page_draws_the_machine_as_it_is() -> None:
    drawn = runpy.run_path(str(DOCS / "states.py"))["section"]()

    assert drawn in (DOCS / "journal.md").read_text("utf-8")


def test_the_page_explains_every_state() -> None:
    rows = re.findall(
        r"^\| `([a-z-]+)` \| .* \| (?:PENDING|SUCCESS|FAILURE) \|$",
        (DOCS / "journal.md").read_text("utf-8"),
        re.MULTILINE,
    )

    assert set(State) == set(rows)
