"""Settings of the whole suite."""

import secrets

import pytest
import torch
from hypothesis import settings

# Small tensors gain nothing from more threads, and several processes on few cores lose tenfold.
torch.set_num_threads(1)

# The same examples in every run, and no limit on the time of one: a busy machine is no failure.
settings.register_profile("steady", derandomize=True, deadline=None)
# `pytest -m nightly` runs every test that draws its inputs, with other inputs each time.
settings.register_profile("nightly", derandomize=False, deadline=None, max_examples=1000, database=None, print_blob=True)


# Marks of tests that run only if they are selected by it.
_SELECTED_ONLY = ("nightly", "pasted")


def _is_selected(mark: str, config: pytest.Config) -> bool:
    return mark in str(config.option.markexpr).split()


def _is_nightly(config: pytest.Config) -> bool:
    return _is_selected("nightly", config)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("nightly" if _is_nightly(config) else "steady")
    if _is_nightly(config) and config.option.hypothesis_seed is None:
        config.option.hypothesis_seed = str(secrets.randbits(32))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    unselected = [mark for mark in _SELECTED_ONLY if not _is_selected(mark, config)]
    left_out = [item for item in items if any(item.get_closest_marker(mark) for mark in unselected)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]
    for item in items if _is_nightly(config) else ():
        if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
            item.add_marker("nightly")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if _is_nightly(config):
        terminalreporter.write_line(f"inputs drawn with --hypothesis-seed={config.option.hypothesis_seed}, which repeats this run")
