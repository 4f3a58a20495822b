"""A device that is not there, or has another name, is refused at once; Ray would wait for its GPU for ever."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from heal.device import choose_device, require_gpus
from heal.errors import UserError
from heal.tools.shared.sources import ReadOptions
from heal.tools.training.job import TrainingJob
from tests.tools.command import run_command
from tests.tools.training.small_training import SETTINGS


@pytest.fixture
def gpus(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Let torch find as many GPUs as the parameter says."""
    count = int(request.param)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    return count


@pytest.mark.parametrize("name", ["gpu", "CUDA", "cuda:", "cpu:0:1", ""])
def test_another_name_is_answered_by_the_names_that_there_are(name: str) -> None:
    with pytest.raises(UserError, match=f"^--device {name}: expected cpu, cuda, or auto for a GPU if there is one$"):
        choose_device(name)


@pytest.mark.parametrize(
    ("gpus", "name", "found"), [(0, "cuda", "no GPU"), (1, "cuda:1", "1 GPU;"), (2, "cuda:2", "2 GPUs;")], indirect=["gpus"]
)
@pytest.mark.usefixtures("gpus")
def test_a_gpu_that_is_not_there_is_refused_with_what_there_is(name: str, found: str) -> None:
    with pytest.raises(UserError, match=f"^--device {name}: torch finds {found}.*use --device cpu, or auto"):
        choose_device(name)


@pytest.mark.parametrize("gpus", [0, 2], indirect=True)
def test_auto_is_a_gpu_if_there_is_one(gpus: int) -> None:
    assert choose_device("auto").type == ("cuda" if gpus else "cpu")
    assert choose_device("cpu").type == "cpu"
    if gpus:
        assert (choose_device("cuda"), choose_device("cuda:1")) == (torch.device("cuda"), torch.device("cuda:1"))


@pytest.mark.parametrize("gpus", [2], indirect=True)
@pytest.mark.usefixtures("gpus")
def test_more_replicas_than_gpus_are_refused(tmp_path: Path) -> None:
    require_gpus(torch.device("cuda"), 2)
    require_gpus(torch.device("cpu"), 8)
    with pytest.raises(UserError, match=r"^training.replicas=3 takes 3 GPUs, but torch finds 2 GPUs; lower training.replicas, or"):
        require_gpus(torch.device("cuda"), 3)
    training = replace(SETTINGS, training=replace(SETTINGS.training, replicas=4, batch_scenes=4))
    job = TrainingJob("base", training, tmp_path, "train", 8, None, tmp_path / "run", ReadOptions())
    with pytest.raises(UserError, match=r"^training.replicas=4 takes 4 GPUs"):
        job.check(torch.device("cuda"))


@pytest.mark.parametrize("gpus", [0], indirect=True)
@pytest.mark.usefixtures("gpus")
@pytest.mark.parametrize(
    "command",
    [
        ("bench", "encode"),
        ("train", "agents", "m1", "--base", "a", "--data", "b", "--out", "c"),
        ("evaluate", "--alliance", "a", "--data", "b", "--out", "c"),
        ("sweep", "codec", "--alliance", "a", "--out", "c"),
        ("simulate", "--alliance", "a", "--out", "c"),
        ("demo",),
    ],
)
def test_every_command_with_a_device_refuses_it(command: tuple[str, ...]) -> None:
    threads = torch.get_num_threads()
    with pytest.raises(UserError, match="--device cuda: torch finds no GPU"):
        run_command(*command, "--device", "cuda")
    assert torch.get_num_threads() == threads
