"""`heal export --program` and `--onnx`: write agent types and base as graphs, and compare each file with the networks."""

from __future__ import annotations

import hashlib
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from heal.alliance import Alliance
from heal.config import ConfigError, to_plain
from heal.graphs.traceable import Example, Graph, agent_graph, base_graphs

if TYPE_CHECKING:
    from torch.export import ExportedProgram

Format = Literal["program", "onnx"]
SUFFIX: dict[Format, str] = {"program": ".pt2", "onnx": ".onnx"}
# Number of pillars, images or agents: one number for tracing, and several for the check, so that it also covers other sizes.
TRACED: dict[str, int] = {"pillars": 2000, "images": 3, "agents": 3}
CHECKED: dict[str, tuple[int, ...]] = {"pillars": (2000, 5000), "images": (3, 1), "agents": (3, 1, 4)}
# Largest accepted deviation from the networks, relative to the largest value: other runtimes sum float32 in another order.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class TensorCard:
    """An input or output of a file; in `shape`, a dimension that may vary is a name such as "agents"."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class GraphCard:
    """The entry of a file in graphs.json.

    Attributes:
        file: name of the file.
        says: description of what the graph computes.
        sha256: hash of the file's bytes.
        inputs: in order.
        outputs: in order.
        deviation: largest deviation from the networks, relative to the largest value.
    """

    file: str
    says: str
    sha256: str
    inputs: tuple[TensorCard, ...]
    outputs: tuple[TensorCard, ...]
    deviation: float


def export_graphs(alliance: Alliance, names: list[str], out: Path, form: Format) -> list[GraphCard]:
    """Write agent types and the base as graphs into the folder `out`, with graphs.json beside them.

    Raises:
        ConfigError: packages are missing, `out` holds an export, or the outputs of a written file deviate from the networks'.
    """
    _require_packages(form)
    if (out / "graphs.json").exists():
        raise ConfigError(f"{out} holds an export; choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    graphs = [*(agent_graph(name, alliance.agent(name)) for name in names), *base_graphs(alliance.base)]
    cards = [export_graph(graph, out, form) for graph in graphs]
    record = {
        "torch": torch.__version__,
        "base": {"hash": alliance.base_hash, "config": to_plain(alliance.base.config)},
        "agents": {name: _agent_record(alliance, name) for name in names},
        "graphs": [asdict(card) for card in cards],
    }
    (out / "graphs.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return cards


def export_graph(graph: Graph, out: Path, form: Format) -> GraphCard:
    """Trace, write, reload and check one graph; ConfigError if the file's outputs deviate from the networks'."""
    path = out / f"{graph.name}{SUFFIX[form]}"
    with torch.no_grad():
        example = graph.example(TRACED[graph.first_dimension])
        write = _write_program if form == "program" else _write_onnx
        with _exporters_silenced():
            write(graph, _trace(graph, example), path)
        deviation = float(np.max([_deviation(path, form, graph.example(count)) for count in CHECKED[graph.first_dimension]]))
    if not deviation <= TOLERANCE:
        path.unlink()
        raise ConfigError(f"{path.name}: deviates from the networks by {deviation:.1e} of the largest value; the file was deleted")
    return GraphCard(
        file=path.name,
        says=graph.description,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        inputs=_tensor_cards(graph.inputs, example.inputs, graph.first_dimension, len(example.inputs[0])),
        outputs=_tensor_cards(graph.outputs, example.outputs, graph.first_dimension, len(example.inputs[0])),
        deviation=deviation,
    )


def _agent_record(alliance: Alliance, name: str) -> dict[str, Any]:
    """Return the entry of an agent type in graphs.json."""
    card = alliance.agent_card(name)
    coverage = alliance.agent(name).coverage or (0.0, 0.0)
    return {"hash": card.hash, "coverage": list(coverage), "config": to_plain(card.config)}


def _trace(graph: Graph, example: Example) -> ExportedProgram:
    """Trace a graph with an example; the first dimension of every input may vary."""
    first_varies = {0: torch.export.Dim(graph.first_dimension)}
    shapes: Any = tuple(first_varies for _ in example.inputs)
    if graph.name == "fusion":  # the levels are one parameter, *levels
        shapes = (first_varies, shapes[1:])
    return torch.export.export(graph.module, example.inputs, dynamic_shapes=shapes)


def _write_program(graph: Graph, program: ExportedProgram, path: Path) -> None:
    program.example_inputs = None  # the example inputs would be saved too
    torch.export.save(program, path)


def _write_onnx(graph: Graph, program: ExportedProgram, path: Path) -> None:
    torch.onnx.export(
        program,
        f=path,
        input_names=list(graph.inputs),
        output_names=list(graph.outputs),
        dynamo=True,
        external_data=False,
        verbose=False,
    )


def _deviation(path: Path, form: Format, example: Example) -> float:
    """Return the largest deviation of any output of a file, relative to the largest value of this output; NaN if there is one."""
    run = _run_program if form == "program" else _run_onnx
    pairs = zip(run(path, example.inputs), example.outputs, strict=True)
    # torch's max() returns NaN if one of the values is NaN; Python's max() may not.
    return float(torch.stack([(found - right).abs().max() / right.abs().max() for found, right in pairs]).max())


def _run_program(path: Path, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    found = torch.export.load(path).module()(*inputs)
    return [found] if isinstance(found, Tensor) else list(found)


def _run_onnx(path: Path, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    import onnxruntime  # type: ignore[import-untyped, import-not-found, unused-ignore]

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [description.name for description in session.get_inputs()]
    found = session.run(None, {name: np.ascontiguousarray(array.numpy()) for name, array in zip(names, inputs, strict=True)})
    return [torch.from_numpy(array) for array in found]


def _tensor_cards(names: tuple[str, ...], tensors: tuple[Tensor, ...], counts: str, count: int) -> tuple[TensorCard, ...]:
    """Describe inputs or outputs; a first dimension of length `count` is the varying one, named `counts`."""
    return tuple(
        TensorCard(
            name, str(tensor.dtype).removeprefix("torch."), (counts if len(tensor) == count else len(tensor), *tensor.shape[1:])
        )
        for name, tensor in zip(names, tensors, strict=True)
    )


def _require_packages(form: Format) -> None:
    """Raise ConfigError if packages for ONNX are missing."""
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if form == "onnx" and find_spec(name) is None]
    if missing:
        raise ConfigError(f"--onnx needs {', '.join(missing)}; pip install onnx onnxscript onnxruntime, or use --program")


@contextmanager
def _exporters_silenced() -> Iterator[None]:
    """Switch off the log messages and warnings of torch's exporters."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
