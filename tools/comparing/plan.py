"""The plan of a comparison: a spec in; out the trainings and evaluations that it needs, each once, with a key for the cache.

A key is a hash of everything that determines the result, so that equal work of several methods, or of an earlier comparison in the
same folder, is done once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import heal
from heal.config import ConfigError, build_config, to_plain
from heal.datasets.split_names import names_of
from heal.grid import Range
from heal.tools.comparing.measured import MEASURED_VERSION
from heal.tools.comparing.spec import CompareSpec, Condition, FolderData, Join, Method, TownData
from heal.tools.shared.run_settings import RunSettings
from heal.tools.shared.setting_files import laid_over
from heal.tools.training.scenes import VALIDATE
from heal.training.config import TrainingConfig

KEY_LETTERS = 16
# Settings of a training that change how it computes, not what it learns.
_NO_RESULT = ("workers", "checkpoint_s", "replicas")
# As `heal train agent` trains.
_STAGE2 = {"frozen_base": True, "max_agents": 1, "random_ego": True, "ego_of": "any"}


@dataclass(frozen=True)
class Training:
    """A training.

    Attributes:
        key: hash of everything that determines the weights.
        title: what is trained, for progress and report.
        data: name of the data set.
        settings: plain settings, as in a file for `--config`.
        agent_type: the type that is aligned; "" where a base is trained with its types.
        base: key of the training of the base to which the type is aligned; "" where a base is trained.
        teacher: key of the training whose base teaches this one; "" for none.
        range_m: range of the base's grid.
    """

    key: str
    title: str
    data: str
    settings: Mapping[str, Any]
    range_m: Range
    agent_type: str = ""
    base: str = ""
    teacher: str = ""

    @property
    def needs(self) -> tuple[str, ...]:
        """The keys of the trainings that come before this one."""
        return tuple(key for key in (self.base, self.teacher) if key)

    @property
    def epochs(self) -> int:
        """Number of epochs."""
        return int(self.settings["training"]["epochs"])


@dataclass(frozen=True)
class Evaluation:
    """A method, trained on a data set with a seed, under one condition.

    Attributes:
        key: hash of everything that determines the result.
        condition: name of the condition.
        settings: of the runs.
        types: the agent types, the first ego's first.
        rotate: whether the types move on by one from recording to recording.
    """

    key: str
    condition: str
    settings: RunSettings
    types: tuple[str, ...]
    rotate: bool


@dataclass(frozen=True)
class Entrant:
    """A method, trained on a data set with a seed.

    Attributes:
        method: name of the method.
        data: name of the data set.
        seed: of the trainings.
        join: how its types join.
        trainings: keys of its trainings, the base's first, or of the detector of each type.
        evaluations: of the method, in the order of the conditions.
    """

    method: str
    data: str
    seed: int
    join: Join
    trainings: tuple[str, ...]
    evaluations: tuple[Evaluation, ...] = ()

    @property
    def title(self) -> str:
        """The method, its data and its seed."""
        return f"{self.method}, {self.data}, seed {self.seed}"

    @property
    def folder_name(self) -> str:
        """A name for the folder of its networks, which changes with its trainings."""
        return f"{self.method}-{self.data}-seed{self.seed}-{key_of(self.trainings)[:8]}".replace(" ", "_").replace("/", "_")


@dataclass(frozen=True)
class ComparePlan:
    """All that a comparison needs; trainings by key, those that others need first."""

    spec: CompareSpec
    trainings: Mapping[str, Training] = field(default_factory=dict)
    entrants: tuple[Entrant, ...] = ()


def key_of(values: Any) -> str:
    """Return a hash of plain values."""
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_LETTERS]


def data_key(data: TownData | FolderData, training: bool) -> str:
    """Return a hash of what a training or an evaluation reads of a data set."""
    values = to_plain(data)
    for name in ("test_frames", "test", "frames") if training else ("train_frames", "train", "val"):
        values.pop(name, None)
    if isinstance(data, FolderData):
        values["root"] = str(Path(data.root).resolve())
    return key_of(values)


def plan_comparison(spec: CompareSpec) -> ComparePlan:
    """Return what a comparison needs.

    Raises:
        ConfigError: the settings of a method cannot be; the message names it.
    """
    trainings: dict[str, Training] = {}
    entrants = []
    for data in spec.data:
        for seed in spec.seeds:
            for name in spec.methods:
                found = tuple(_trainings_of(spec, name, data, seed))
                # Equal trainings of several methods have one key, and are listed under the first one.
                trainings |= {one.key: one for one in found if one.key not in trainings}
                own = tuple(one.key for one in found if not _is_teacher(one, found))
                entrants.append(_evaluated(spec, Entrant(name, data, seed, spec.methods[name].join, own)))
    _require_same_objects(spec, trainings, entrants)
    return ComparePlan(spec, trainings, tuple(entrants))


def _require_same_objects(spec: CompareSpec, trainings: Mapping[str, Training], entrants: Sequence[Entrant]) -> None:
    """Raise ConfigError unless all methods are evaluated against the same objects: differences between them need that."""

    def rule_of(entrant: Entrant, one: Evaluation) -> dict[str, Any]:
        run, range_m = one.settings.run, spec.range_m or trainings[entrant.trainings[0]].range_m
        objects = {"run.use_z": run.use_z, "run.include_ego": run.include_ego, "range of labels": run.truth_range_m}
        return {"base.grid.range_m": range_m, **objects}

    reference = next(entrant for entrant in entrants if entrant.method == spec.against)
    for entrant in entrants:
        for one, theirs in zip(entrant.evaluations, reference.evaluations, strict=True):
            wanted = rule_of(reference, theirs)
            if other := {name: value for name, value in rule_of(entrant, one).items() if value != wanted[name]}:
                name, value = next(iter(other.items()))
                raise ConfigError(
                    f"methods.{entrant.method}: expected the {name} of {spec.against}, {wanted[name]}, got {value}; methods are "
                    "compared over the same objects: set it for all of them, a range as range_m of the comparison"
                )


def _is_teacher(training: Training, found: Sequence[Training]) -> bool:
    return any(training.key == other.teacher for other in found)


def _trainings_of(spec: CompareSpec, name: str, data: str, seed: int) -> Iterator[Training]:
    """Yield the trainings of a method, those that others need first."""
    method, types = spec.methods[name], tuple(spec.types)
    teacher = ""
    if method.teacher:
        first = next(_trainings_of(spec, method.teacher, data, seed))
        teacher = first.key
        yield first
    if method.join == "detectors":
        for kind in types:
            yield _stage1(spec, name, data, seed, (kind,), teacher)
        return
    base = _stage1(spec, name, data, seed, types if method.join == "joint" else types[:1], teacher)
    yield base
    for kind in types[1:] if method.join == "aligned" else ():
        yield _stage2(spec, name, data, seed, kind, base)


def _stage1(spec: CompareSpec, name: str, data: str, seed: int, types: Sequence[str], teacher: str) -> Training:
    """Return the training of a base with its types."""
    method, agents = spec.methods[name], {kind: spec.types[kind] for kind in types}
    meant = method.stage1.get("agents", {})
    own = {**method.stage1, "agents": {kind: meant[kind] for kind in types if kind in meant}}
    settings = laid_over(laid_over({**spec.stage1, "agents": agents}, own), _of_run(seed))
    title = f"{name}: base with {', '.join(types)} on {data}, seed {seed}"
    return _training(spec, title, data, settings, _checked(settings, name), teacher=teacher)


def _stage2(spec: CompareSpec, name: str, data: str, seed: int, kind: str, base: Training) -> Training:
    """Return the training in which a type joins a base."""
    method = spec.methods[name]
    given = laid_over(laid_over(spec.stage2, method.stage2), _of_run(seed))
    meant = given.pop("agents", {}).get(kind, {})
    agents = {kind: laid_over(spec.types[kind], meant)}
    whole = {**given, "base": base.settings.get("base", {}), "agents": agents}
    checked = _checked(laid_over(whole, {"training": _STAGE2}), name)
    title = f"{name}: {kind} joins on {data}, seed {seed}"
    return _training(spec, title, data, {**given, "agents": agents}, checked, agent_type=kind, base=base.key)


def _of_run(seed: int) -> dict[str, Any]:
    """Return the settings that every training of a comparison has: its seed, and that it is one process."""
    return {"training": {"seed": seed, "replicas": 1}}


def _checked(settings: Mapping[str, Any], method: str) -> TrainingConfig:
    """Return settings as a training takes them; ConfigError, naming the method, for some that cannot be."""
    return build_config(TrainingConfig, settings, f"methods.{method}")


def _training(
    spec: CompareSpec,
    title: str,
    data: str,
    settings: Mapping[str, Any],
    checked: TrainingConfig,
    agent_type: str = "",
    base: str = "",
    teacher: str = "",
) -> Training:
    plain = to_plain(checked, hashed=True)
    _require_unseen_test(spec.data[data], checked, f"{title}: data.{data}")
    schedule = {name: value for name, value in plain["training"].items() if name not in _NO_RESULT}
    known = [heal.__version__, data_key(spec.data[data], training=True), {**plain, "training": schedule}]
    settings = laid_over(settings, {"training": {"epochs": checked.training.epochs}})
    return Training(
        key_of([*known, agent_type, base, teacher]), title, data, settings, checked.base.grid.range_m, agent_type, base, teacher
    )


def _require_unseen_test(data: TownData | FolderData, checked: TrainingConfig, where: str) -> None:
    """Raise ConfigError if a training would choose its weights, or the trust in a type, by the scenes of the evaluation."""
    validates = checked.training.validate_every_epochs > 0
    if validates and isinstance(data, FolderData) and data.test in names_of(data.val or VALIDATE):
        raise ConfigError(
            f"{where}: the split {data.test} is evaluated, and would also validate the training, which chooses the weights by it; "
            "set training.validate_every_epochs to 0 in stage1 and stage2, or give another split as `val`"
        )


def _evaluated(spec: CompareSpec, entrant: Entrant) -> Entrant:
    """Return a method with its evaluations."""
    method = spec.methods[entrant.method]
    evaluations = (_evaluation(spec, entrant, method, name, condition) for name, condition in spec.conditions.items())
    return replace(entrant, evaluations=tuple(evaluations))


def _evaluation(spec: CompareSpec, entrant: Entrant, method: Method, name: str, condition: Condition) -> Evaluation:
    try:
        settings = spec.run_settings(method, condition)
    except ConfigError as error:
        raise ConfigError(f"methods.{entrant.method}, conditions.{name}: {error}") from error
    types = spec.types_in(condition)
    data = data_key(spec.data[entrant.data], training=False)
    known = [heal.__version__, MEASURED_VERSION, data, entrant.join, entrant.trainings, to_plain(settings), types, spec.range_m]
    return Evaluation(key_of([*known, condition.rotate, spec.run_seed]), name, settings, types, condition.rotate)
