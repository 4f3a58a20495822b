"""The network of the collaboration base: a fusion, Pyramid Fusion by default, and detection heads, shared by all agent types."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from torch import Tensor, nn

from heal.config import ByKind, config, later
from heal.detection.anchors import AnchorConfig
from heal.detection.classes import VEHICLE, VEHICLES, Classes, ObjectClass, class_names, require_classes
from heal.detection.decode import DecodeConfig
from heal.detection.guard import GuardConfig
from heal.detection.head import HeadOutput
from heal.detection.targets import TargetConfig
from heal.errors import UserError
from heal.fusion.interface import AgentLevels, AgentMaps, Coverage, Fusion
from heal.fusion.pyramid import PyramidConfig, PyramidFusion
from heal.fusion.table import FusionConfig, make_fusion
from heal.grid import BevGrid
from heal.heads.anchor_heads import AnchorClass, AnchorHeads
from heal.heads.center_heads import CenterHeads
from heal.heads.center_targets import CentersConfig
from heal.heads.interface import DetectionHeads
from heal.layers.map_size import output_cells, require_fitting
from heal.layers.shrink import Shrink

# The kinds of heads that may take the place of anchor heads.
HEADS = ByKind(lambda: (CentersConfig,))
# The end of the names of the single heads' layers, as in HEAL's checkpoints: the single head of `cls_head` is `cls_head_single`.
_SINGLE = "_single"


@config
class ClassConfig:
    """A class of objects that a base detects.

    Attributes:
        name: such as "pedestrian".
        types: the types of labelled objects that belong to it, see `heal.detection.classes`; may be left out where the name tells.
        anchors: sizes and yaws of its anchors; None for those of the base.
        targets: its thresholds for positive and negative anchors; None for those of the base.
        weight: of its loss beside those of the other classes.
    """

    name: str
    types: tuple[str, ...] = ()
    anchors: AnchorConfig | None = None
    targets: TargetConfig | None = None
    weight: float = 1.0

    def __post_init__(self) -> None:
        """Check the weight."""
        if not self.weight > 0:
            raise UserError(f"class {self.name!r}: expected a weight above 0, got {self.weight}")


@config
class BaseConfig:
    """Configuration of a base; the defaults are the paper's for OPV2V-H.

    Attributes:
        grid: the grid of all feature maps.
        in_channels: channels of the feature maps that agents send.
        pyramid: settings of Pyramid Fusion.
        fusion: the fusion that takes its place; None for Pyramid Fusion.
        shrink_channels: output channels of each pair of convolutions between fusion and heads; empty for none.
        shrink_sizes: kernel size of each pair's first convolution.
        shrink_strides: stride of each pair's first convolution.
        heads: heads without anchors; None for anchor heads. With other heads, the next three settings are not used.
        direction_bins: number of equal sectors of the circle that the direction head tells apart.
        anchors: boxes that the regression starts from.
        targets: thresholds for positive and negative anchors in training.
        decode: thresholds for detections.
        single_heads: train further heads of the same kind on every agent's own map, as it comes to the fusion: a map has to tell by
            itself where vehicles are. Only the training of a base uses them, not its validation, stage 2 or runs.
        guard: how runs keep the ego's confident boxes; None for no guard.
        classes: the classes of the objects that it detects; empty for vehicles alone. The heads have the same channels for each.
    """

    grid: BevGrid = BevGrid((-102.4, -51.2, -3.0, 102.4, 51.2, 1.0), 0.8)
    in_channels: int = 64
    pyramid: PyramidConfig = PyramidConfig()
    fusion: FusionConfig | None = later(None)
    shrink_channels: tuple[int, ...] = (256,)
    shrink_sizes: tuple[int, ...] = (3,)
    shrink_strides: tuple[int, ...] = (1,)
    heads: Annotated[CentersConfig, HEADS] | None = later(None)
    direction_bins: int = 2
    anchors: AnchorConfig = AnchorConfig()
    targets: TargetConfig = TargetConfig()
    decode: DecodeConfig = DecodeConfig()
    single_heads: bool = later(False)
    guard: GuardConfig | None = later(None)
    classes: tuple[ClassConfig, ...] = later(())

    def __post_init__(self) -> None:
        """Raise ConfigError for a grid that the strides of the fusion do not divide, and UserError for classes that cannot be."""
        require_classes(self.object_classes)
        if len({len(one.anchors.yaws_deg) for one in self.anchor_classes}) > 1:
            raise UserError("classes: expected as many yaws_deg of the anchors of every class")
        for axis, cells in (("x", self.grid.nx), ("y", self.grid.ny)):
            require_fitting(axis, cells, self.grid.cell_m, self._fits)

    @property
    def fused_by(self) -> FusionConfig | PyramidConfig:
        """Settings of the fusion that the base has."""
        return self.pyramid if self.fusion is None else self.fusion

    @property
    def object_classes(self) -> Classes:
        """The classes of the objects that the base detects, whose numbers its detections carry."""
        return tuple(ObjectClass.of(one.name, one.types) for one in self.classes) or VEHICLES

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, by their numbers."""
        return class_names(self.object_classes)

    @property
    def anchor_classes(self) -> tuple[AnchorClass, ...]:
        """Anchors, thresholds and weight of each class."""
        classes = self.classes or (ClassConfig(name=VEHICLE),)
        return tuple(AnchorClass(one.anchors or self.anchors, one.targets or self.targets, one.weight) for one in classes)

    def _fits(self, cells: int) -> bool:
        """Return whether so many cells along an edge come out of fusion and shrink layers again."""
        out = output_cells(cells, self.fused_by.strides, self.fused_by.upsample_strides)
        for size, stride in zip(self.shrink_sizes, self.shrink_strides, strict=False):
            out = out and (out + 2 * (size // 2) - size) // stride + 1
        return out == cells


@dataclass(frozen=True)
class BaseOutput:
    """The output of a base.

    Attributes:
        head: the output of the heads for B scenes.
        occupancy: per scale, the foreground logits (M, 1, ny / k, nx / k) of the M agents.
        fused: (B, C, ny, nx) the fused map of each scene, before the shrink layers.
        extra_loss: the fusion's own loss in training, a weighted scalar; None for most fusions.
        single: in training, the output of the single heads for the M agents, each in its own frame; None without such heads.
    """

    head: HeadOutput
    occupancy: tuple[Tensor, ...]
    fused: Tensor
    extra_loss: Tensor | None = None
    single: HeadOutput | None = None


def make_heads(settings: BaseConfig) -> DetectionHeads:
    """Return the kind of heads that a base of these settings has."""
    if settings.heads is None:
        return AnchorHeads(settings.grid, settings.decode, settings.anchor_classes, settings.direction_bins)
    return CenterHeads(settings.grid, settings.decode, settings.heads, [one.weight for one in settings.anchor_classes])


class BaseModel(nn.Module):
    """A fusion, the shrink layers and the heads (HEAL, section 3.2).

    Attributes:
        config: the settings.
        shrink_conv: the layers between fusion and heads.
        detection: the kind of heads: it makes boxes of their output.
    """

    def __init__(self, settings: BaseConfig) -> None:
        """Make a base with random weights."""
        super().__init__()
        self.config = settings
        fusion = make_fusion(settings.fused_by, settings.in_channels, settings.grid)
        # The names under which HEAL stores the weights of Pyramid Fusion, and those of the other fusions.
        self._fusion = "pyramid_backbone" if settings.fusion is None else "fusion_net"
        self.add_module(self._fusion, fusion)
        self.shrink_conv = Shrink(fusion.out_channels, settings.shrink_channels, settings.shrink_sizes, settings.shrink_strides)
        self.detection = make_heads(settings)
        layers = self.detection.layers([fusion.out_channels, *settings.shrink_channels][-1])
        self._heads = tuple(layers)
        for name, layer in layers.items():
            self.add_module(name, layer)
        single = self.detection.layers(settings.in_channels) if settings.single_heads else {}
        self._single_heads = tuple(single)
        for name, layer in single.items():
            self.add_module(f"{name}{_SINGLE}", layer)

    @property
    def fusion(self) -> Fusion:
        """The part between the agents' maps and the heads."""
        fusion = self.get_submodule(self._fusion)
        assert isinstance(fusion, Fusion)
        return fusion

    @property
    def head_layers(self) -> dict[str, nn.Module]:
        """The layers of the heads, by the names of their weights."""
        return {name: self.get_submodule(name) for name in self._heads}

    def drop_training_parts(self) -> None:
        """Remove the single heads, which only training uses; `heal.layers.inference.for_inference` calls this of its copy."""
        for name in self._single_heads:
            delattr(self, f"{name}{_SINGLE}")
        self._single_heads = ()

    @property
    def pyramid(self) -> PyramidFusion:
        """The fusion, for what only Pyramid Fusion can do; UserError if the base has another one."""
        fusion = self.fusion
        if not isinstance(fusion, PyramidFusion) or self.config.fusion is not None:
            raise UserError(f"this needs a base with Pyramid Fusion; the base here fuses by {self.config.fused_by.kind}")
        return fusion

    def trunk(self, features: Tensor) -> AgentLevels:
        """Return the scales of every agent's feature map (M, C, ny, nx), each computed independently."""
        return self.fusion.trunk(features)

    def fuse(
        self,
        levels: AgentLevels,
        agent_SE3_ego: Tensor,
        agents_per_scene: Sequence[int],
        coverage: Sequence[Coverage] | None = None,
        agent_types: Sequence[str] = (),
    ) -> Tensor:
        """Fuse scales to one map per scene (B, C, ny, nx) in the ego's frame; arguments as in `Fusion.fuse_levels`."""
        return self.fusion.join(self.fusion.fuse_levels(levels, agent_SE3_ego, agents_per_scene, coverage, agent_types))

    def fuse_scored(
        self,
        maps: Sequence[AgentMaps],
        scores: Sequence[AgentMaps],
        agent_SE3_ego: Tensor,
        agents_per_scene: Sequence[int],
        trust: Tensor | None = None,
        ego_first: bool = True,
        agent_types: Sequence[str] = (),
    ) -> Tensor:
        """Fuse received maps and foreground scores as `fuse` does; arguments as in `Fusion.fuse_scored`."""
        fused = self.fusion.fuse_scored(maps, scores, agent_SE3_ego, agents_per_scene, trust, ego_first, agent_types)
        return self.fusion.join(fused)

    def heads(self, joined: Tensor) -> HeadOutput:
        """Return the output of the heads for fused maps (B, C, ny, nx)."""
        return self.detection.output(self.head_layers, self.shrink_conv(joined))

    def _single(self, features: Tensor) -> HeadOutput | None:
        """Return the output of the single heads for the maps of all agents (M, C, ny, nx), in training; None without such heads."""
        if not (self.training and self._single_heads):
            return None
        layers = {name: self.get_submodule(f"{name}{_SINGLE}") for name in self._single_heads}
        return self.detection.output(layers, features)

    def forward(
        self,
        features: Tensor,
        agent_SE3_ego: Tensor,
        agents_per_scene: Sequence[int],
        coverage: Sequence[Coverage] | None = None,
        agent_types: Sequence[str] = (),
    ) -> BaseOutput:
        """Turn the feature maps of all agents (M, C, ny, nx) into the output for all scenes; arguments as in `fuse`."""
        levels = self.trunk(features)
        fused = self.fuse(levels, agent_SE3_ego, agents_per_scene, coverage, agent_types)
        return BaseOutput(self.heads(fused), levels.occupancy, fused, self.fusion.extra_loss(), self._single(features))
