"""The Ray that a run uses: one that it starts on this machine, for this machine alone, or a cluster that it joins."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import stat
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import ray
from ray._private import ray_constants

from heal.agents.on_ray.address import find_cluster
from heal.agents.on_ray.folder import make_folder
from heal.agents.on_ray.watchdog import MARK, Watchdog
from heal.agents.process import changed_environment, usable_cores, usable_memory
from heal.errors import UserError, file_system_cause
from heal.plugin_files import VARIABLE

# So small a share that any number of actors fits on one machine: they take turns on the cores, as the threads of one program do.
ACTOR_CPUS = 0.01
DIED_ERRORS = (
    ray.exceptions.RayActorError,
    ray.exceptions.WorkerCrashedError,
    ray.exceptions.OutOfMemoryError,
    ray.exceptions.NodeDiedError,
    ray.exceptions.ObjectLostError,
)
SHARED_MEMORY = Path("/dev/shm")
MIB = 2**20
# The object store holds the messages of the ticks in work, 2.1 MB each in the demo. Only what is used of it takes memory.
STORE_SHARE, LEAST_STORE_BYTES, MOST_STORE_BYTES = 0.25, 512 * MIB, 4096 * MIB
ENDING = (signal.SIGTERM, signal.SIGHUP)
# Ray sets it to "token" where it finds or makes a token, unless the user has set it.
AUTH_MODE = "RAY_AUTH_MODE"
_log = logging.getLogger(__name__)
_watchdogs: list[Watchdog] = []


def start_ray(address: str | None = None, metrics_port: int | None = None, store_mib: int | None = None) -> bool:
    """Join a cluster, or start a local Ray without its log output.

    Args:
        address: of a running cluster; None or "local" starts a Ray for this process.
        metrics_port: the port on which a local Ray serves its metrics, 0 for any free port; None collects no metrics, which saves
            some 5 % of a small machine.
        store_mib: size of a local Ray's object store; None for a size that fits this machine.

    Returns:
        Whether Ray was started or joined; False if Ray is running in this process already.

    Raises:
        UserError: no cluster answers at the address, or there is no folder in which Ray can be started.
    """
    if ray.is_initialized():
        return False
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_metrics_report_interval_ms", "2000")
    with _keeping_signals():
        if address in (None, "local"):
            _log.info("starting Ray")
            _start(metrics_port, store_mib)
        else:
            _log.info("joining the Ray cluster at %s", address)
            _join(str(address))
            if os.environ.get(AUTH_MODE, "").lower() != "token":
                _log.warning("the Ray at %s asks for no token: whoever reaches it can run programs (docs/cluster.md)", address)
    hide_token()
    return True


def hide_token() -> None:
    """Let the owner alone read the token that Ray has written, which every user of the machine could read."""
    with suppress(OSError, RuntimeError):  # no token, a token of somebody else, or no home
        token = Path.home() / ".ray" / "auth_token"
        if stat.S_IMODE(token.stat().st_mode) & 0o077:
            token.chmod(0o600)


def stop_ray() -> None:
    """Shut down the Ray that `start_ray` has started, or leave the cluster that it has joined."""
    ray.shutdown()
    while _watchdogs:
        _watchdogs.pop().dismiss()


@contextmanager
def _keeping_signals() -> Iterator[None]:
    """Put this program's handlers of signals back, which Ray replaces by ones that print a native stack and abort."""
    here = threading.current_thread() is threading.main_thread()
    before = {number: handler for number in ENDING if here and callable(handler := signal.getsignal(number))}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _join(address: str) -> None:
    found = find_cluster(address)
    try:
        ray.init(address=found, log_to_driver=False, logging_level="ERROR", runtime_env=_plugins_for_actors())
    except (Exception, SystemExit) as error:
        # Ray ends the program where its own checks of the connection fail.
        reason = (str(error).strip().splitlines() or [""])[0]
        raise UserError(
            f"the Ray cluster at {address} cannot be joined: {reason or 'its server does not answer as one of Ray'}; all machines "
            "need the same versions of Python and Ray, and the same token (docs/cluster.md)"
        ) from error


def _plugins_for_actors() -> dict[str, dict[str, str]] | None:
    """Return the environment that tells the actors the plugins of this process; a cluster's processes do not inherit it."""
    plugins = os.environ.get(VARIABLE)
    return {"env_vars": {VARIABLE: plugins}} if plugins else None


def _start(metrics_port: int | None, store_mib: int | None) -> None:
    folder, keep = make_folder()
    stop_ray()  # its watchdog is still there if others have shut an earlier Ray down
    _watchdogs.append(Watchdog(folder, keep))
    try:
        size, place = object_store(store_mib, folder)
        with _for_this_machine(folder):
            ray.init(
                address="local",
                num_cpus=usable_cores(),
                include_dashboard=False,
                log_to_driver=False,
                logging_level="ERROR",
                object_store_memory=size,
                _memory=usable_memory(),
                _temp_dir=str(folder),
                _plasma_directory=str(place),
                _metrics_export_port=metrics_port or None,
                # Without task events, as Ray's control process would remember every call and grow with the run.
                _system_config={"enable_metrics_collection": metrics_port is not None, "task_events_report_interval_ms": 0},
            )
    except BaseException as error:
        stop_ray()
        if isinstance(error, OSError) and (cause := file_system_cause(error)):
            raise UserError(f"Ray cannot be started: {cause}; Ray writes a token to ~/.ray, so HOME must be writable") from error
        raise


@contextmanager
def _for_this_machine(folder: Path) -> Iterator[None]:
    """Let a Ray that is started in this context listen on the loopback address alone, and mark its processes.

    On Linux Ray replaces the loopback address by that of the network, whatever it is told, unless it believes that it cannot be
    part of a cluster, as on other systems. The environment tells its processes so, the constant this one.
    """
    constant = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        with changed_environment({ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR: "0", MARK: str(folder)}):
            yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = constant


def object_store(store_mib: int | None, folder: Path) -> tuple[int, Path]:
    """Return size in bytes and place of the object store: in shared memory, or on disk, which is said aloud.

    Args:
        store_mib: the size that is wanted; None for a quarter of the memory that is left, but from 512 MiB to 4 GiB.
        folder: Ray's folder, for an object store on disk.

    Raises:
        UserError: the disk has no room for the object store either.
    """
    free = free_shared_memory()
    if store_mib is None:
        size = min(max(int(usable_memory() * STORE_SHARE), LEAST_STORE_BYTES), MOST_STORE_BYTES)
        size = LEAST_STORE_BYTES if free < LEAST_STORE_BYTES else min(size, free)
    else:
        size = store_mib * MIB
    if free >= size:
        return size, SHARED_MEMORY
    disk = shutil.disk_usage(folder).free
    if disk < size:
        raise UserError(
            f"no room for the object store of {size / MIB:.0f} MiB: {SHARED_MEMORY} has {free / MIB:.0f} MiB, the disk of {folder} "
            f"{disk / MIB:.0f} MiB; lower deployment.object_store_mib"
        )
    _log.warning(
        f"the object store of {size / MIB:.0f} MiB lies on disk, in {folder}, which is slower: {SHARED_MEMORY} has room for "
        f"{free / MIB:.0f} MiB; enlarge it (docker run --shm-size=2g), or lower deployment.object_store_mib"
    )
    return size, folder


def free_shared_memory() -> int:
    """Return how many bytes of shared memory can be used; 0 where it cannot be written."""
    try:
        with tempfile.TemporaryFile(dir=SHARED_MEMORY):
            return shutil.disk_usage(SHARED_MEMORY).free
    except OSError:
        return 0
