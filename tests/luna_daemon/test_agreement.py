"""The first client's settings hold; others are told what differs; without holders they change."""

from __future__ import annotations

import pytest
from luna_collection.luna_daemon.agreement import NumericsAgreement
from luna_collection.luna_daemon.errors import IncompatibleError

FIRST = {"comfyui": "0.25.0", "torch": "2.10.0"}
OTHER = {**FIRST, "fp16_vae": "on"}


def agreement(numerics: dict[str, str]) -> NumericsAgreement:
    made = NumericsAgreement()
    made.adopt(numerics, held=False)
    return made


def test_the_first_client_decides():
    fresh = NumericsAgreement()
    assert fresh.adopt(FIRST, held=False)
    assert fresh.current == FIRST


@pytest.mark.parametrize("held", [True, False])
@pytest.mark.parametrize("theirs", [FIRST, {}], ids=["the same", "none"])
def test_who_needs_the_same_or_nothing_changes_nothing(theirs, held):
    made = agreement(FIRST)
    assert not made.adopt(theirs, held=held)
    assert made.current == FIRST


def test_others_are_told_what_differs_and_what_to_do():
    made = agreement(FIRST)
    with pytest.raises(IncompatibleError, match="fp16_vae on instead of off") as told:
        made.adopt(OTHER, held=True)
    assert "same settings" in told.value.hint
    assert made.current == FIRST


def test_when_nobody_holds_models_others_take_over():
    made = agreement(FIRST)
    assert made.adopt(OTHER, held=False)
    assert made.current == OTHER


@pytest.mark.parametrize("held", [True, False])
def test_what_no_worker_knows_is_refused(held):
    made = agreement(FIRST)
    with pytest.raises(IncompatibleError, match="does not know: moon"):
        made.adopt({**FIRST, "moon": "full"}, held=held)


def test_settings_have_a_name_that_their_order_does_not_change():
    assert agreement(FIRST).digest == agreement(dict(reversed(FIRST.items()))).digest
    assert agreement(FIRST).digest != agreement(OTHER).digest
