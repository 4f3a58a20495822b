"""Windows put a map together again as it was, whatever its size; the steps between cells are counted by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from heal.layers.windows import Windows, relative_index

every_form = pytest.mark.parametrize("spread", [False, True], ids=["local", "spread"])


@every_form
@pytest.mark.parametrize(("ny", "nx"), [(4, 8), (5, 7), (2, 3), (1, 9)])
def test_a_map_comes_back_as_it_was(spread: bool, ny: int, nx: int) -> None:
    maps = torch.randn(3, ny, nx, 2)
    assert torch.equal(Windows(4, spread).apply(maps, lambda cells, _: cells), maps)


@every_form
def test_the_cells_of_a_window(spread: bool) -> None:
    rows = torch.arange(16.0).view(1, 4, 4, 1)
    found: list[list[float]] = []

    def note(cells: Tensor, inside: Tensor | None) -> Tensor:
        assert inside is None
        found.extend(cells[:, 0, :, 0].tolist())
        return cells

    Windows(2, spread).apply(rows, note)
    local = [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
    apart = [[0, 2, 8, 10], [1, 3, 9, 11], [4, 6, 12, 14], [5, 7, 13, 15]]
    assert found == (apart if spread else local)


@every_form
def test_padded_cells_are_told(spread: bool) -> None:
    counts: list[int] = []

    def count(cells: Tensor, inside: Tensor | None) -> Tensor:
        assert inside is not None
        assert torch.equal(cells[:, 0, :, 0] > 0, inside)
        counts.append(int(inside.sum()))
        return cells

    Windows(4, spread).apply(torch.ones(1, 5, 6, 1), count)
    assert sum(counts) == 30


def test_the_steps_of_a_row_of_three_cells_and_of_a_square() -> None:
    assert relative_index((3,)).tolist() == [[2, 1, 0], [3, 2, 1], [4, 3, 2]]
    # From the last cell of a square (1, 1) to the first (0, 0): the steps are 1 - size on both axes, and back the greatest.
    index = relative_index((2, 2))
    assert (int(index[0, 3]), int(index[3, 0]), int(index[0, 0])) == (0, 8, 4)
