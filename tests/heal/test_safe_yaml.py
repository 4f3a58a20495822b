"""YAML with numpy values, as `yaml.dump` writes it: read as plain values, while every other tag of Python is refused."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from heal.config import ConfigError, load_yaml
from heal.datasets.dataset import DatasetError
from heal.datasets.files import read_yaml
from heal.safe_yaml import read_safely

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


def bomb(first: str, link: str, depth: int = 60) -> str:
    """Write a text of a few lines whose aliases stand for 2 to the power of `depth` values."""
    return "\n".join([f"a0: &a0 {first}", *(f"a{n}: &a{n} {link.format(n - 1)}" for n in range(1, depth))])


IMPOSSIBLE = {
    "a list of aliases": bomb("[x]", "[*a{0}, *a{0}]"),
    "merged aliases": bomb("{k: v}", "{{<<: [*a{0}, *a{0}]}}"),
    "an alias within itself": "a: &a [1, *a]",
    "a month": "a: 2024-13-45",
    "an hour": "a: 2001-02-03 25:61:61",
    "a year": "0000-01-01: a",
    "an offset": "a: 2001-02-03 04:05:06 -99:99",
    "no time": "a: !!timestamp soon",
    "no number": "a: !!int ''",
    "no truth": "a: !!bool maybe",
    "no float": "a: !!float x",
    "a key that is a list": "{[1]: {[2]: 3}, ? {a: b} : c}",
    "a number of many digits": f"a: {'9' * 5000}",
    "a number to the base 60": f"a: {'1:' * 50_000}1",
    "a float to the base 60": f"a: {'1:' * 300}1.5",
    "brackets": "a: " + "[" * 100_000,
    "closed brackets": "a: " + "[" * 100_000 + "]" * 100_000,
    "dashes": "- " * 100_000,
}


@pytest.mark.parametrize("text", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_a_text_that_stands_for_nothing_is_refused_in_little_memory(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    reads: list[tuple[Any, type[Exception]]] = [(read_yaml, DatasetError), (load_yaml, ConfigError)]
    for read, error in reads:
        tracemalloc.start()
        with pytest.raises(error, match="not valid YAML"):
            read(path)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 1 << 25


def test_aliases_are_read_as_before(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(f"size: &size [2.0, 1.0]\nb: {{<<: &c {{d: 1}}, e: *size}}\nmany: [{', '.join(['*size'] * 1000)}]\nf: 'a * b'")
    values = read_yaml(path)
    assert values == {"size": [2.0, 1.0], "b": {"d": 1, "e": [2.0, 1.0]}, "many": [[2.0, 1.0]] * 1000, "f": "a * b"}
    assert read_safely("") is None and read_safely(b"a: 1e-10") == {"a": 1e-10}
