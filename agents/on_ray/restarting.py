"""A Ray actor that is ended and started again when it dies or hangs, for agents and fusion nodes alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any

import ray

from heal.agents.faults import Fault, FaultKind
from heal.agents.on_ray.cluster import DIED_ERRORS

# A process imports torch before it answers for the first time. Where many start at once, that takes longer than a short `hang_s`.
START_S = 60.0


@dataclass(frozen=True)
class FaultKinds:
    """Names of the faults of one kind of actor: the actor died, did not answer, or takes part again."""

    crashed: FaultKind
    hung: FaultKind
    returned: FaultKind


class ActorBrokeError(RuntimeError):
    """An actor died or hung instead of answering.

    Attributes:
        kind: which of the two.
    """

    def __init__(self, kind: FaultKind) -> None:
        """Make the error of a fault."""
        super().__init__(kind)
        self.kind: FaultKind = kind


class RestartingActor:
    """An actor that is started again when it breaks.

    Every start makes a new generation, counted from 0. A failure that is noticed late belongs to the generation that was asked, and
    breaks no later one.
    """

    def __init__(
        self,
        create: Callable[[], Any],
        kinds: FaultKinds,
        owners: Callable[[], Sequence[str]],
        report: Callable[[Fault], None],
        *,
        hang_s: float,
        realtime: bool,
        restart_ms: float = 0.0,
        max_crashes: int | None = None,
    ) -> None:
        """Start the first generation.

        Args:
            create: makes an actor with a method `ready`.
            kinds: how its faults are named.
            owners: tells whose faults they are: the ids of the actor's agents, or "" for a fusion node.
            report: takes in every fault and return, one for each owner.
            hang_s: an actor that has not answered for so long has hung.
            realtime: by the wall clock the actor takes part as soon as it is ready; in simulated time `restart_ms` after the fault.
            restart_ms: simulated time for which a broken actor is away.
            max_crashes: an actor that breaks so often without an answer in between is given up; None for never.
        """
        self._create, self._kinds, self._owners, self._report = create, kinds, owners, report
        self._hang_s, self._realtime, self._restart_ms, self._max_crashes = hang_s, realtime, restart_ms, max_crashes
        self.actor = create()
        self._ready = self.actor.ready.remote()
        self.generation, self._crashes, self._given_up, self._killed = 0, 0, False, False
        self._back_at_ns: int | None = None
        self._is_new = False

    @property
    def given_up(self) -> bool:
        """Whether the actor is not started again."""
        return self._given_up

    def wait_until_ready(self, limit_s: float | None = None) -> None:
        """Return once the actor answers; Ray's error if it dies, or does not answer within `limit_s`."""
        ray.get(self._ready, timeout=limit_s)

    def start_beside(self) -> None:
        """Let an actor that has just been made take part as soon as it answers, without anybody waiting for it."""
        self._back_at_ns, self._is_new = 0, True

    def takes_part(self, now_ns: int = 0) -> bool:
        """Return whether the actor can be asked; one that has broken returns when its time has come and it answers.

        Args:
            now_ns: simulated time; the same as for `results`.
        """
        if self._given_up or self._back_at_ns is None:
            return not self._given_up
        due = bool(ray.wait([self._ready], timeout=0)[0]) if self._realtime else now_ns >= self._back_at_ns
        if not due:
            return False
        try:
            ray.get(self._ready, timeout=max(self._hang_s, START_S))
        except (*DIED_ERRORS, ray.exceptions.GetTimeoutError):
            # For example an actor that Ray has placed on a machine of which Ray does not know yet that it is gone.
            self._restart(self._kinds.crashed, now_ns)
            return False
        if not self._is_new:
            self._note(self._kinds.returned)
        self._back_at_ns, self._is_new = None, False
        return True

    def results(self, references: Any, generation: int, now_ns: int = 0) -> Any:
        """Wait for the results of calls.

        Args:
            references: of the results.
            generation: of the actor when it was called.
            now_ns: simulated time of the calls, from which a broken actor's absence counts; 0 where it is not absent at all.

        Raises:
            ActorBrokeError: the actor has died or hung; its next generation has been started.
            Exception: an error that was raised by the call itself.
        """
        try:
            results = ray.get(references, timeout=self._hang_s)
        except DIED_ERRORS as error:
            raise self.broke(generation, hung=False, now_ns=now_ns) from error
        except ray.exceptions.GetTimeoutError as error:
            raise self.broke(generation, hung=True, now_ns=now_ns) from error
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error
        self._crashes = 0
        return results

    def broke(self, generation: int, hung: bool, now_ns: int = 0) -> ActorBrokeError:
        """Note that a generation has died or hung, and start the next one; return the error that says so."""
        kind = self._kinds.hung if hung else self._kinds.crashed
        if generation == self.generation:
            self._restart(kind, now_ns)
        return ActorBrokeError(kind)

    def break_down(self, hangs: bool, now_ns: int = 0) -> None:
        """Break the actor for a trial, so that the next call to it finds it dead or hung; one that is given up stays so.

        An actor that is away has nobody who calls it: its fault is noted at once, and its restart begins anew.
        """
        if not self.takes_part(now_ns):
            if not self._given_up:
                self._restart(self._kinds.hung if hangs else self._kinds.crashed, now_ns)
        elif hangs:
            self.actor.hang.remote()
        else:
            ray.kill(self.actor)
            self._wait_until_dead()
            self._killed = True

    def notice_death(self) -> None:
        """Note that `break_down` has ended the actor, if no call has found it dead."""
        if self._killed:
            self.broke(self.generation, hung=False)

    def check_alive(self) -> bool:
        """Return whether an actor that nobody has asked lately still answers; otherwise end it and give it up, without a fault."""
        try:
            ray.get(self.actor.ready.remote(), timeout=self._hang_s)
        except (*DIED_ERRORS, ray.exceptions.GetTimeoutError):
            self._given_up = True
            ray.kill(self.actor)  # one that hangs would keep its memory
        return not self._given_up

    def end(self) -> None:
        """End the actor."""
        ray.kill(self.actor)

    def _restart(self, kind: FaultKind, now_ns: int) -> None:
        self._note(kind)
        ray.kill(self.actor)
        self.generation, self._crashes, self._killed, self._is_new = self.generation + 1, self._crashes + 1, False, False
        self._back_at_ns = now_ns + round(self._restart_ms * 1e6)
        self._given_up = self._max_crashes is not None and self._crashes >= self._max_crashes
        if not self._given_up:
            self.actor = self._create()
            self._ready = self.actor.ready.remote()

    def _wait_until_dead(self) -> None:
        """Wait until calls fail: Ray ends an actor a moment after it was told to, and until then the actor answers."""
        until_s = monotonic() + self._hang_s
        with suppress(*DIED_ERRORS, ray.exceptions.GetTimeoutError):
            while monotonic() < until_s:
                ray.get(self.actor.ready.remote(), timeout=self._hang_s)

    def _note(self, kind: FaultKind) -> None:
        for owner in self._owners():
            self._report(Fault(kind, owner))
