"""Linear CKA of hand-made features, the cells of boxes, and features in two dimensions."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from heal.errors import UserError
from heal.grid import BevGrid
from heal.tools.analysis.projection import MOST_POINTS, project, require_kind
from heal.tools.analysis.similarity import cells_in_boxes, cka_matrix, linear_cka

RNG = np.random.default_rng(0)
A = RNG.standard_normal((50, 6)) * (1, 2, 3, 4, 5, 6)


def test_cka_is_one_for_a_rotation_and_a_scaling_and_a_shift() -> None:
    rotation, _ = np.linalg.qr(RNG.standard_normal((6, 6)))
    assert linear_cka(A, A) == pytest.approx(1)
    assert linear_cka(A, A @ rotation * -7.5 + 3) == pytest.approx(1)
    assert linear_cka(A, A @ np.diag([1, 1, 1, 1, 1, 0])) != pytest.approx(1, abs=1e-2)


def test_cka_of_hand_computed_sets() -> None:
    x, y = np.array([[1.0], [-1.0], [1.0], [-1.0]]), np.array([[1.0], [1.0], [-1.0], [-1.0]])
    assert linear_cka(x, y) == 0  # orthogonal: none tells anything of the other
    # Of two equally large channels the other set has one: |X'Y|^2 = 16, |X'X| = 4, |Y'Y| = sqrt(32).
    assert linear_cka(x, np.hstack([x, y])) == pytest.approx(16 / (4 * np.sqrt(32)))
    assert linear_cka(x, np.ones((4, 3))) is None


def test_cka_of_independent_features_is_small() -> None:
    many = np.random.default_rng(1).standard_normal((5000, 8))
    assert 0 <= (linear_cka(many[:, :4], many[:, 4:]) or 0.0) < 0.01


def test_the_matrix_is_symmetric_and_without_cells_it_has_no_numbers() -> None:
    matrix = cka_matrix([A, A[:, :2], A[:, 3:]])
    assert [row[i] for i, row in enumerate(matrix)] == pytest.approx([1, 1, 1])
    assert matrix[0][2] == pytest.approx(matrix[2][0]) and (matrix[0][2] or 0) > (matrix[0][1] or 0)
    assert cka_matrix([A[:1], A[:1]]) == [[None, None], [None, None]]


def test_cells_in_boxes_are_those_with_their_centre_inside() -> None:
    grid = BevGrid((-4.0, -4.0, -3.0, 4.0, 4.0, 1.0), 1.0)
    signs = np.array([(1, -1, -1), (1, 1, -1), (-1, 1, -1), (-1, -1, -1), (1, -1, 1), (1, 1, 1), (-1, 1, 1), (-1, -1, 1)])
    upright = signs * (2.0, 1.0, 0.5) + (1.0, -2.0, 0)  # x from -1 to 3, y from -3 to -1
    inside = cells_in_boxes(upright[None], grid)
    assert np.argwhere(inside).tolist() == [[row, column] for row in (1, 2) for column in (3, 4, 5, 6)]
    turned = (signs * (2.0, 1.0, 0.5))[:, [1, 0, 2]] * (-1, 1, 1)  # by 90 degrees: x from -1 to 1, y from -2 to 2
    assert np.argwhere(cells_in_boxes(turned[None], grid)).tolist() == [[row, column] for row in (2, 3, 4, 5) for column in (3, 4)]
    assert not cells_in_boxes(np.zeros((0, 8, 3)), grid).any()


def test_the_first_principal_component_is_the_direction_of_the_largest_variance() -> None:
    line = np.outer(np.linspace(-1, 1, 20), [3.0, 4.0, 0.0])
    line[:, 2] = 0.01 * RNG.standard_normal(20)
    found = project([line, 2 * line], "pca", seed=0)
    assert found is not None and found.explained is not None and found.explained[0] > 0.999
    assert [len(points) for points in found.points] == [20, 20]
    lengths = [np.ptp(points[:, 0]) for points in found.points]
    assert lengths == pytest.approx([10, 20], rel=1e-3)
    assert project([line[:1], line[:1]], "pca", seed=0) is None
    many = project([np.zeros((1000, 3)), np.ones((1000, 3))], "pca", seed=0)
    assert many is not None and [len(points) for points in many.points] == [MOST_POINTS] * 2


def test_neighbours_are_found_by_the_package_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    class _Tsne:
        def __init__(self, **options: Any) -> None:
            asked.update(options)

        def fit_transform(self, features: np.ndarray) -> np.ndarray:
            return features[:, :2].astype(np.float32)

    module = ModuleType("sklearn.manifold")
    monkeypatch.setattr(module, "TSNE", _Tsne, raising=False)
    monkeypatch.setitem(sys.modules, "sklearn", ModuleType("sklearn"))
    monkeypatch.setitem(sys.modules, "sklearn.manifold", module)
    found = project([A, A + 1], "tsne", seed=4)
    assert found is not None and found.explained is None and [points.shape for points in found.points] == [(50, 2)] * 2
    assert (asked["random_state"], asked["perplexity"], asked["n_components"]) == (4, 30.0, 2)


def test_an_unknown_projection_and_a_missing_package_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="expected one of pca, tsne"):
        require_kind("umap")
    monkeypatch.setattr("heal.errors.find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"--projection tsne needs sklearn, .*pip install 'heal-perception\[analysis\]'"):
        require_kind("tsne")
    assert require_kind("pca") == "pca"
