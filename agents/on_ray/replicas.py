"""One function in several processes that train together, or side by side. Ray starts the processes and ends them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import ray
import torch

from heal.agents.on_ray.cluster import ACTOR_CPUS, start_ray, stop_ray
from heal.training.replica import Replica, ReplicaError


def run_replicas(work: Callable[[Replica], None], count: int, gpus: bool) -> None:
    """Run one function in several processes at once, which torch.distributed connects.

    Args:
        work: the function, which is pickled to every process.
        count: number of processes.
        gpus: whether each process has a GPU of its own; otherwise each has one thread on the CPU.

    Raises:
        ReplicaError: one of the processes failed.
    """
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    scaling = ScalingConfig(num_workers=count, use_gpu=gpus, resources_per_worker=None if gpus else {"CPU": ACTOR_CPUS})
    try:
        with _running_ray(), tempfile.TemporaryDirectory() as records:
            # Our own checkpoints lie in the run folder; the files that Ray Train writes are of no use afterwards.
            run = RunConfig(name="replicas", storage_path=records)
            TorchTrainer(_in_replica, train_loop_config={"work": work, "gpus": gpus}, scaling_config=scaling, run_config=run).fit()
    except ray.train.TrainingFailedError as error:
        raise ReplicaError(last_line(error)) from error


def run_alone(works: Sequence[Callable[[Replica], None]], gpus: bool) -> None:
    """Run functions side by side in processes that do not know of each other.

    Args:
        works: the functions, which are pickled to their processes; as many run at once as there are GPUs, or cores.
        gpus: whether each process has a GPU; otherwise each has one thread on the CPU.

    Raises:
        ReplicaError: one of the processes failed; the others are stopped.
    """
    remote = ray.remote(num_cpus=1, num_gpus=int(gpus), max_retries=0)(_in_task)
    try:
        with _running_ray():
            ray.get([remote.remote(work, gpus) for work in works])
    except ray.exceptions.RayError as error:
        raise ReplicaError(last_line(error)) from error


@contextmanager
def _running_ray() -> Iterator[None]:
    """Use the Ray of this process, or start one and shut it down afterwards."""
    started = start_ray()
    try:
        yield
    finally:
        if started:
            stop_ray()


def _in_task(work: Callable[[Replica], None], gpus: bool) -> None:
    if not gpus:
        torch.set_num_threads(1)
    work(Replica(device="cuda" if gpus else "cpu"))


def _in_replica(given: dict[str, object]) -> None:
    from ray import train
    from ray.train.torch import get_device

    context, work = train.get_context(), given["work"]
    assert callable(work)
    device = get_device() if given["gpus"] else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)  # on which objects are gathered
    else:
        torch.set_num_threads(1)
    work(Replica(context.get_world_rank(), context.get_world_size(), str(device)))


def last_line(error: BaseException) -> str:
    """Return the last line of a process's error, without Ray's stack around it."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
