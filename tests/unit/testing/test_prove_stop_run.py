"""A run of the stop proof goes on after a scenario that broke off."""

from typing import Any, cast

from penstock.testing.prove.stops.__main__ import performed
from penstock.testing.prove.stops.scenarios import Row
from penstock.testing.prove.stops.stage import Stage


class Left:
    lifted = 0

    def lift_all(self) -> None:
        self.lifted += 1


def test_a_scenario_that_cannot_be_brought_to_its_end_has_failed_and_leaves_no_stop_behind() -> None:
    stage = Left()

    def breaks() -> list[Row]:
        raise TimeoutError("the box\n is not back")

    (row,) = performed("partition", breaks, cast(Stage, stage))
    assert (row.name, row.faults) == ("partition", ["it was broken off: the box is not back"])
    assert stage.lifted == 1
    whole: Any = [Row("kills", checked=1)]
    assert performed("kills", lambda: whole, cast(Stage, stage)) is whole
    assert stage.lifted == 1
