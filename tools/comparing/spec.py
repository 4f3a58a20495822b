"""What `heal compare` compares: methods, agent types, data sets, seeds and conditions, read from a YAML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from heal.agents.network.spec import LinkSpec
from heal.config import BY_KIND, ConfigError, apply_overrides, build_config, config, load_yaml
from heal.datasets.dataset import LabelRule
from heal.datasets.noise import SensorNoise
from heal.grid import Range
from heal.message.codec import Codec
from heal.storage.parts import require_type_name
from heal.tools.shared.run_settings import RunSettings
from heal.tools.shared.setting_files import laid_over, settings_in, type_in

Join = Literal["aligned", "joint", "detectors"]


@config
class TownData:
    """Scenes of the built-in town, which are written before the first training.

    Attributes:
        preset: kind of town.
        seed: of the towns of both splits.
        train_frames: number of instants to train on.
        test_frames: number of instants to evaluate on.
        frames_per_town: number of instants of each town; None for the preset's own number.
        sensors: "lidar", or "all" for images too.
        image_px: width and height of the images, such as "256x192"; None for the preset's.
        smooth: whether edges in the images are smoothed.
        camera_agents: the agents with cameras: all, vehicles, roadside or ego.
    """

    kind: Literal["town"] = "town"
    preset: str = "demo"
    seed: int = 0
    train_frames: int = 400
    test_frames: int = 100
    frames_per_town: int | None = None
    sensors: Literal["lidar", "all"] = "lidar"
    image_px: str | None = None
    smooth: bool = True
    camera_agents: str = "all"


@config
class FolderData:
    """A data set in a folder.

    Attributes:
        root: folder in OPV2V's layout or of DAIR-V2X-C.
        train: the split to train on.
        val: the split to validate on; None for "validate", if the data set has it.
        test: the split to evaluate on.
        frames: number of scenes to evaluate, evenly spaced; None for all.
        ground_truth: of DAIR-V2X-C, "joint" or "merged".
    """

    kind: Literal["folder"] = "folder"
    root: str
    train: str = "train"
    val: str | None = None
    test: str = "test"
    frames: int | None = None
    ground_truth: LabelRule = "joint"


@config
class Method:
    """A method of the comparison.

    Attributes:
        title: its name in the report; "" for its name in the file.
        join: how types join. "aligned": the base is trained with the first type, every other type is aligned to it alone; "joint":
            all types are trained together with the base, from the start; "detectors": a detector is trained for each type.
        stage1: settings laid over those of the file's section `stage1`.
        stage2: settings laid over those of the file's section `stage2`.
        teacher: the method whose base teaches the base of this one (`training.teacher`); "" for none.
        run: settings of runs (`heal.agents.options.RunOptions`) that the method needs; they count before those of a condition.
        codec: how the method's maps are written, as for `--codec`, whatever the condition says; "" for that of the condition.
    """

    title: str = ""
    join: Join = "aligned"
    stage1: Mapping[str, Any] = field(default_factory=dict)
    stage2: Mapping[str, Any] = field(default_factory=dict)
    teacher: str = ""
    run: Mapping[str, Any] = field(default_factory=dict)
    codec: str = ""


@config
class Condition:
    """What a run meets.

    Attributes:
        types: the agent types of the agents, the ego's first, in turn; empty for all types of the file.
        rotate: whether the types move on by one from recording to recording, so that each of them is the ego's in turn.
        noise: errors of poses and clocks, as for `--noise`.
        link: description of the links, as for `--link`.
        codec: how maps are written, as for `--codec`; "" for that of `run`.
        run: further settings of the runs, such as `agents: 2` (`heal.agents.options.RunOptions`).
        x: place on the axis of the figure that shows AP against pose noise, in m and degrees; None for no place.
    """

    types: tuple[str, ...] = ()
    rotate: bool = True
    noise: str = "none"
    link: str = "perfect"
    codec: str = ""
    run: Mapping[str, Any] = field(default_factory=dict)
    x: float | None = None

    def __post_init__(self) -> None:
        """Check the descriptions; UserError for one that cannot be read."""
        SensorNoise.parse(self.noise)
        LinkSpec.parse(self.link)


@config
class CompareSpec:
    """A comparison.

    Attributes:
        title: heading of the report.
        data: the data sets by name.
        types: the agent types by name, in the order in which they join: files of shipped or own types, or their settings.
        methods: the methods by name.
        against: the method that all others are compared with.
        stage1: settings of the bases' trainings, as in a file for `heal train base --config`; all methods have them.
        stage2: the same of `heal train agent --config`.
        seeds: of the trainings; every method is trained with each.
        conditions: the conditions by name; the figures show the first one.
        run: settings of all runs, unless a method or a condition says otherwise.
        range_m: the evaluated range, as for `--range-m`; None for that of the training.
        run_seed: of links, noise and lost messages.
    """

    title: str = "Comparison of methods"
    data: Mapping[str, Annotated[TownData | FolderData, BY_KIND]]
    types: Mapping[str, Any]
    methods: Mapping[str, Method]
    against: str
    stage1: Mapping[str, Any]
    stage2: Mapping[str, Any] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0,)
    conditions: Mapping[str, Condition] = field(default_factory=lambda: {"perfect": Condition()})
    run: Mapping[str, Any] = field(default_factory=dict)
    range_m: Range | None = None
    run_seed: int = 0

    def __post_init__(self) -> None:
        """Check that nothing is empty, and that every name that is used is there."""
        for name in ("data", "types", "methods", "seeds", "conditions"):
            if not getattr(self, name):
                raise ConfigError(f"{name}: expected at least one, got none")
        for name in self.types:
            require_type_name(name)
        if len(set(self.seeds)) != len(self.seeds):
            raise ConfigError(f"seeds: expected different numbers, got {list(self.seeds)}")
        _require_known("against", self.against, self.methods)
        for name, method in self.methods.items():
            if method.teacher:
                _require_known(f"methods.{name}.teacher", method.teacher, self.methods)
                if self.methods[method.teacher].teacher:
                    raise ConfigError(f"methods.{name}.teacher: {method.teacher} has a teacher itself; name one that has none")
            self._check_join(name, method)
        for name, condition in self.conditions.items():
            for used in condition.types:
                _require_known(f"conditions.{name}.types", used, self.types)

    def _check_join(self, name: str, method: Method) -> None:
        """Check that settings of single types and of stage 2 belong to trainings that a method has."""
        if method.stage2 and method.join != "aligned":
            raise ConfigError(f"methods.{name}.stage2: types join by {method.join}, without stage 2; expected no settings of it")
        first, *joining = self.types
        trained = {"stage1": [first] if method.join == "aligned" else [first, *joining], "stage2": joining}
        for stage, types in trained.items():
            for used in getattr(method, stage).get("agents", {}):
                if used not in types:
                    raise ConfigError(
                        f"methods.{name}.{stage}.agents: expected types that are trained there, {', '.join(types) or 'none'}, "
                        f"got {used!r}"
                    )

    def types_in(self, condition: Condition) -> tuple[str, ...]:
        """Return the agent types of a condition, the first ego's first."""
        return condition.types or tuple(self.types)

    def run_settings(self, method: Method, condition: Condition) -> RunSettings:
        """Return the settings of the runs of a method under a condition; ConfigError for a setting that cannot be."""
        run = laid_over(laid_over(self.run, condition.run), method.run)
        settings = build_config(RunSettings, {"run": run, "link": condition.link, "noise": condition.noise}, "run")
        codec = method.codec or condition.codec
        return settings if not codec else replace(settings, run=replace(settings.run, codec=Codec.parse(codec)))


Part = TypeVar("Part", CompareSpec, Method)


def _require_known(where: str, name: str, known: Mapping[str, Any]) -> None:
    if name not in known:
        raise ConfigError(f"{where}: expected one of {', '.join(known)}, got {name!r}")


def load_spec(path: Path, overrides: Sequence[str] = ()) -> CompareSpec:
    """Read a comparison; settings and types that are `like` those of other files are complete in it, also those of methods.

    Args:
        path: the YAML file.
        overrides: `key=value` changes of it, as given to `--set`.

    Raises:
        ConfigError: a key or a value is wrong; the message names each of them.
    """
    values = apply_overrides(load_yaml(path), overrides)
    spec = build_config(CompareSpec, values, str(path))
    if "agents" in spec.stage1:
        raise ConfigError(f"{path}: stage1.agents: the agent types of a comparison stand in its section `types`")
    types = {name: type_in(name, value, path) for name, value in spec.types.items()}
    methods = {name: _complete(method, path) for name, method in spec.methods.items()}
    return replace(_complete(spec, path), types=types, methods=methods)


def _complete(part: Part, path: Path) -> Part:
    """Return a comparison or a method whose settings of trainings lack nothing of the files that they are like."""
    return replace(part, stage1=settings_in(part.stage1, path), stage2=settings_in(part.stage2, path))
