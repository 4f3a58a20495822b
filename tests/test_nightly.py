"""`pytest -m nightly` selects the tests that draw their inputs, and draws other inputs than the suite."""

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import pytest_collection_modifyitems


class Item:
    """A collected test, with its marks."""

    def __init__(self, obj: Any, *marks: str) -> None:
        self.obj, self.marks = obj, list(marks)

    def add_marker(self, name: str) -> None:
        self.marks.append(name)

    def get_closest_marker(self, name: str) -> str | None:
        return name if name in self.marks else None


@given(st.integers())
def drawing(number: int) -> None:
    assert number == number


def collect(expression: str) -> tuple[list[Any], list[Any]]:
    """Select by `-m` from a test that draws, one that does not, and one with the mark "nightly"; return selected and deselected."""
    items: list[Any] = [Item(drawing), Item(len), Item(len, "nightly")]
    deselected: list[Any] = []
    hook = SimpleNamespace(pytest_deselected=lambda items: deselected.extend(items))
    config: Any = SimpleNamespace(option=SimpleNamespace(markexpr=expression), hook=hook)
    pytest_collection_modifyitems(config, items)
    return items, deselected


@pytest.mark.parametrize("expression", ["nightly", "nightly and not ray"])
def test_a_nightly_run_has_the_tests_that_draw_and_those_that_take_long(expression: str) -> None:
    items, deselected = collect(expression)
    assert [item.marks for item in items] == [["nightly"], [], ["nightly"]] and not deselected


@pytest.mark.parametrize("expression", ["", "gpu"])
def test_the_suite_has_the_tests_that_draw_and_none_that_take_long(expression: str) -> None:
    items, deselected = collect(expression)
    assert [item.marks for item in items] == [[], []] and [item.marks for item in deselected] == [["nightly"]]


def test_the_suite_repeats_its_inputs_and_a_nightly_run_does_not() -> None:
    steady, nightly = settings.get_profile("steady"), settings.get_profile("nightly")
    assert steady.derandomize and not nightly.derandomize and nightly.max_examples > steady.max_examples
