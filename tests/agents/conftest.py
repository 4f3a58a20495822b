"""What tests of the run share."""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    """One Ray for all tests of a file; the runtimes use it and leave it alone."""
    from heal.agents.on_ray.cluster import start_ray, stop_ray

    assert start_ray()
    yield
    stop_ray()
