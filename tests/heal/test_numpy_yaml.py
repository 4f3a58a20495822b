"""YAML with numpy values, as `yaml.dump` writes it: read as plain values, while every other tag of Python is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from heal.config import ConfigError, load_yaml
from heal.datasets.dataset import DatasetError
from heal.datasets.files import read_yaml

VALUES = {
    "float": (np.float64(1.5), 1.5),
    "short float": (np.float32(2.5), 2.5),
    "integer": (np.int32(-7), -7),
    "byte": (np.uint8(200), 200),
    "truth": (np.bool_(True), True),
    "text": (np.str_("ab"), "ab"),
    "array": (np.array([[1.0, 2.0], [3.0, 4.0]]), [[1.0, 2.0], [3.0, 4.0]]),
    "by columns": (np.asfortranarray([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
    "big-endian": (np.array([1.5, -2.0], ">f8"), [1.5, -2.0]),
    "empty": (np.zeros((0, 3)), []),
    "one number": (np.array(3.0), 3.0),
    "tuple": ((1, (2, 3)), (1, (2, 3))),
    "list of numbers": ([np.float64(1.0), np.float64(1.0)], [1.0, 1.0]),
}


@pytest.mark.parametrize("module", ["numpy._core", "numpy.core"])
@pytest.mark.parametrize("name", VALUES)
def test_numpy_values_read_as_plain_ones_in_both_readers(tmp_path: Path, name: str, module: str) -> None:
    value, expected = VALUES[name]
    text = yaml.dump({"a": value, np.int64(7): "by number", (1, 2): "by tuple"}).replace("numpy._core", module)
    (tmp_path / "a.yaml").write_text(text)
    for read in (read_yaml, load_yaml):
        values = read(tmp_path / "a.yaml")
        assert values == {"a": expected, 7: "by number", (1, 2): "by tuple"}
        assert type(values["a"]) is type(expected)


@pytest.mark.parametrize(
    "text",
    [
        "a: !!python/object/apply:os.system [touch TOUCHED]",
        "a: !!python/object/new:os.system [touch TOUCHED]",
        "a: !!python/name:os.system ''",
        "a: !!python/module:os ''",
        "a: !!python/object/apply:numpy.load [TOUCHED]",
        "a: !!python/object/apply:numpy.dtype [O, false, true]",
        "a: !!python/object/apply:numpy.dtype [[[a, f8]], false, true]",
        "a: !!python/object/apply:numpy.core.multiarray.scalar [!!python/object/apply:numpy.dtype [f8, false, true], [1, 2]]",
        "a: !!python/object/apply:numpy.core.multiarray.scalar [!!python/object/apply:numpy.dtype [f8, false, true]]",
        "a: !!python/object/apply:numpy.core.multiarray._reconstruct {args: [1]}",
        yaml.dump({"a": np.array([None, {}], object)}),
    ],
)
def test_any_other_tag_is_refused_and_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.yaml"
    path.write_text(text)
    reads: list[tuple[Any, type[Exception]]] = [(read_yaml, DatasetError), (load_yaml, ConfigError)]
    for read, error in reads:
        with pytest.raises(error, match="not valid YAML"):
            read(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.yaml"]
