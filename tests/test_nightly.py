"""`pytest -m nightly` selects the tests that draw their inputs, and draws other inputs than the suite."""

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import pytest_collection_modifyitems


class Item:
    """A collected test."""

    def __init__(self, obj: Any) -> None:
        self.obj, self.marks = obj, list[str]()

    def add_marker(self, name: str) -> None:
        self.marks.append(name)


@given(st.integers())
def drawing(number: int) -> None:
    assert number == number


@pytest.mark.parametrize(
    ("expression", "marks"), [("", []), ("gpu", []), ("nightly", ["nightly"]), ("nightly and not ray", ["nightly"])]
)
def test_tests_that_draw_are_marked_when_they_are_asked_for(expression: str, marks: list[str]) -> None:
    items: Any = [Item(drawing), Item(len), object()]
    config: Any = SimpleNamespace(option=SimpleNamespace(markexpr=expression))
    pytest_collection_modifyitems(config, items)
    assert (items[0].marks, items[1].marks) == (marks, [])


def test_the_suite_repeats_its_inputs_and_a_nightly_run_does_not() -> None:
    steady, nightly = settings.get_profile("steady"), settings.get_profile("nightly")
    assert steady.derandomize and not nightly.derandomize and nightly.max_examples > steady.max_examples
