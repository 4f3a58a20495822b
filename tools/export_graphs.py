"""`heal export --program` and `--onnx`: agents and base as files for deployment, each reloaded and held against the networks."""

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
# How many pillars' points, images or agents: one for tracing, others for the check, which shows that sizes may vary.
TRACED: dict[str, int] = {"pillars": 2000, "images": 3, "agents": 3}
CHECKED: dict[str, tuple[int, ...]] = {"pillars": (2000, 5000), "images": (3, 1), "agents": (3, 1, 4)}
# Largest deviation from the networks, over the largest value, that passes: float32 sums in another order.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class TensorCard:
    """An input or output of a file: a dimension that may vary is a word."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class GraphCard:
    """What stands in graphs.json of a file.

    Attributes:
        file: its name.
        says: what it computes.
        sha256: of its bytes.
        inputs: in order.
        outputs: in order.
        deviation: the largest from the networks, over the largest value.
    """

    file: str
    says: str
    sha256: str
    inputs: tuple[TensorCard, ...]
    outputs: tuple[TensorCard, ...]
    deviation: float


def export_graphs(alliance: Alliance, names: list[str], out: Path, form: Format) -> list[GraphCard]:
    """Write agent types and the base into the folder `out`, with graphs.json beside them.

    Raises:
        ConfigError: packages are missing, `out` holds an export, or a written file does not compute what the networks do.
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
    """Trace, write, reload and check one graph; ConfigError if the file deviates from the networks."""
    path = out / f"{graph.name}{SUFFIX[form]}"
    with torch.no_grad():
        example = graph.example(TRACED[graph.counts])
        write = _write_program if form == "program" else _write_onnx
        with _quiet():
            write(graph, _traced(graph, example), path)
        deviation = float(np.max([_deviation(path, form, graph.example(count)) for count in CHECKED[graph.counts]]))
    if not deviation <= TOLERANCE:
        path.unlink()
        raise ConfigError(f"{path.name}: deviates from the networks by {deviation:.1e} of the largest value; it was deleted")
    return GraphCard(
        file=path.name,
        says=graph.says,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        inputs=_cards(graph.inputs, example.inputs, graph.counts, len(example.inputs[0])),
        outputs=_cards(graph.outputs, example.outputs, graph.counts, len(example.inputs[0])),
        deviation=deviation,
    )


def _agent_record(alliance: Alliance, name: str) -> dict[str, Any]:
    card = alliance.agent_card(name)
    coverage = alliance.agent(name).coverage or (0.0, 0.0)
    return {"hash": card.hash, "coverage": list(coverage), "config": to_plain(card.config)}


def _traced(graph: Graph, example: Example) -> ExportedProgram:
    vary = {0: torch.export.Dim(graph.counts)}
    shapes: Any = tuple(vary for _ in example.inputs)
    if graph.name == "fusion":  # its levels are one parameter, *levels
        shapes = (vary, shapes[1:])
    return torch.export.export(graph.module, example.inputs, dynamic_shapes=shapes)


def _write_program(graph: Graph, program: ExportedProgram, path: Path) -> None:
    program.example_inputs = None  # they would be saved too
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
    """The largest deviation of any output, over that output's largest value."""
    run = _run_program if form == "program" else _run_onnx
    pairs = zip(run(path, example.inputs), example.outputs, strict=True)
    # By torch, whose maximum keeps what is not a number.
    return float(torch.stack([(found - right).abs().max() / right.abs().max() for found, right in pairs]).max())


def _run_program(path: Path, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    found = torch.export.load(path).module()(*inputs)
    return [found] if isinstance(found, Tensor) else list(found)


def _run_onnx(path: Path, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    import onnxruntime  # type: ignore[import-untyped, import-not-found, unused-ignore]

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    found = session.run(None, {name: np.ascontiguousarray(one.numpy()) for name, one in zip(names, inputs, strict=True)})
    return [torch.from_numpy(one) for one in found]


def _cards(names: tuple[str, ...], tensors: tuple[Tensor, ...], counts: str, counted: int) -> tuple[TensorCard, ...]:
    return tuple(
        TensorCard(name, str(one.dtype).removeprefix("torch."), (counts if len(one) == counted else len(one), *one.shape[1:]))
        for name, one in zip(names, tensors, strict=True)
    )


def _require_packages(form: Format) -> None:
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if form == "onnx" and find_spec(name) is None]
    if missing:
        raise ConfigError(f"--onnx needs {', '.join(missing)}; pip install onnx onnxscript onnxruntime, or use --program")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' notes on their own workings."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
