"""Sparse convolutions equal dense convolutions in float64, masked to the sites; engine, threads and order change nothing."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from heal.encoders.second import FLATTEN, SAME, SecondConfig, SparseStages, halving_stages
from heal.sparse import layers as sparse_layers
from heal.sparse import rulebook as sparse_rulebook
from heal.sparse.engines import SpconvEngine, TorchEngine, engine_for
from heal.sparse.layers import SparseConv, SparseLayer
from heal.sparse.rulebook import rulebook
from heal.sparse.sites import ConvGeometry, SparseMap, Triple, make_sparse

HALF, LAST = halving_stages(SecondConfig())[0], halving_stages(SecondConfig())[-1]
GEOMETRIES = {
    "same": SAME,
    "same, flat kernel": ConvGeometry((1, 3, 5), submanifold=True),
    "half": HALF,
    "half, open below": LAST,
    "height": FLATTEN,
    "stride 3 in x": ConvGeometry((2, 3, 3), (1, 2, 3), (1, 0, 2)),
}
SHAPE: Triple = (9, 14, 11)
CLOUDS = 3


def random_map(seed: int, sites: int = 300, channels: int = 5, dtype: torch.dtype = torch.float64) -> SparseMap:
    """Return a map with values in the first and the last of three clouds; the second cloud is empty."""
    random = torch.Generator().manual_seed(seed)
    cells = torch.randperm(2 * SHAPE[0] * SHAPE[1] * SHAPE[2], generator=random)[:sites]
    cloud, z, y, x = (torch.tensor(part) for part in zip(*[_unravel(int(cell)) for cell in cells], strict=True))
    features = torch.randn(sites, channels, generator=random, dtype=dtype)
    return make_sparse(features, torch.stack([cloud * 2, z, y, x], 1), SHAPE, CLOUDS)


def _unravel(cell: int) -> tuple[int, ...]:
    places = []
    for cells in reversed(SHAPE):
        cell, place = divmod(cell, cells)
        places.append(place)
    return cell, *reversed(places)


def weights(seed: int, geometry: ConvGeometry, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    weight = torch.randn(7, *geometry.kernel, 5, generator=random, dtype=dtype)
    return weight, torch.randn(7, generator=random, dtype=dtype)


def dense(x: SparseMap) -> Tensor:
    """Return the dense map (clouds, C, nz, ny, nx)."""
    return x.to_bev().unflatten(1, (-1, x.sites.shape_zyx[0]))


def dense_convolution(x: Tensor, mask: Tensor, weight: Tensor, bias: Tensor, geometry: ConvGeometry) -> tuple[Tensor, Tensor]:
    """Return the masked result (clouds, out, z, y, x) and the mask of its sites (clouds, 1, z, y, x)."""
    padding = tuple(edge // 2 for edge in geometry.kernel) if geometry.submanifold else geometry.padding
    touched = F.conv3d(mask, torch.ones(1, 1, *geometry.kernel, dtype=mask.dtype), stride=geometry.stride, padding=padding) > 0
    sites = mask > 0 if geometry.submanifold else touched
    result = F.conv3d(x, weight.permute(0, 4, 1, 2, 3), bias, geometry.stride, padding)
    return result * sites, sites


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("pairs_at_once", [1024, 3], ids=["whole", "in pieces"])
@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_forward_and_backward_equal_a_dense_convolution(
    geometry: ConvGeometry, pairs_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sparse_rulebook, "PAIRS_AT_ONCE", pairs_at_once)
    x, (weight, bias) = random_map(0), weights(1, geometry)
    mask = dense(SparseMap(torch.ones(len(x.sites), 1, dtype=torch.float64), x.sites))
    of_dense = [part.clone().requires_grad_() for part in (x.features, weight, bias)]
    of_sparse = [part.clone().requires_grad_() for part in (x.features, weight, bias)]
    expected, sites = dense_convolution(dense(SparseMap(of_dense[0], x.sites)), mask, of_dense[1], of_dense[2], geometry)
    found = TorchEngine().convolve(SparseMap(of_sparse[0], x.sites), of_sparse[1], of_sparse[2], geometry)

    assert found.sites.shape_zyx == geometry.output_shape(SHAPE) == tuple(expected.shape[2:])
    cells = set(map(tuple, sites[:, 0].nonzero().tolist()))
    assert len(found.sites) == len(cells) and set(map(tuple, found.sites.coords.tolist())) == cells
    torch.testing.assert_close(dense(found), expected, rtol=1e-10, atol=1e-10)
    pull = torch.randn(expected.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    (expected * pull).sum().backward()
    (dense(found) * pull).sum().backward()
    for ours, theirs in zip(of_sparse, of_dense, strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-10, atol=1e-10)


def test_gradients_equal_finite_differences() -> None:
    x = random_map(3, sites=25)
    for geometry in (SAME, HALF):
        weight, bias = weights(4, geometry)

        def convolve(features: Tensor, weight: Tensor, bias: Tensor, geometry: ConvGeometry = geometry) -> Tensor:
            return TorchEngine().convolve(SparseMap(features, x.sites), weight, bias, geometry).features

        assert torch.autograd.gradcheck(
            convolve, [part.requires_grad_() for part in (x.features.clone(), weight, bias)], fast_mode=True
        )


def test_sites_with_zero_values_stay_sites() -> None:
    x = make_sparse(torch.zeros(1, 2), torch.tensor([[0, 3, 3, 3]]), (8, 8, 8), 1)
    found = TorchEngine().convolve(x, torch.ones(1, 3, 3, 3, 2), None, HALF)
    # 3 is an odd coordinate, so on each axis two output cells reach it: 1 and 2.
    assert sorted(map(tuple, found.sites.coords.tolist())) == [(0, z, y, x) for z in (1, 2) for y in (1, 2) for x in (1, 2)]
    assert found.sites.shape_zyx == (4, 4, 4) and not found.features.any()


def test_the_grids_of_the_paper() -> None:
    shape: Triple = (41, 1024, 2048)
    shapes = [shape := geometry.output_shape(shape) for geometry in (HALF, HALF, LAST, FLATTEN)]
    assert shapes == [(21, 512, 1024), (11, 256, 512), (5, 128, 256), (2, 128, 256)]
    with pytest.raises(ValueError, match="does not fit"):
        FLATTEN.output_shape((2, 8, 8))


def test_neighbours_do_not_reach_around_borders() -> None:
    # The last cell of a row and the first cell of the next row are side by side in memory.
    coords = torch.tensor([[0, 7, 0, 0], [0, 0, 0, 1], [0, 7, 7, 7], [1, 0, 0, 0], [0, 0, 1, 0]])
    x = make_sparse(torch.ones(5, 1), coords, (8, 8, 8), 2)
    found = TorchEngine().convolve(x, torch.ones(1, 3, 3, 3, 1), None, SAME)
    values = dict(zip(map(tuple, found.sites.coords.tolist()), found.features[:, 0].tolist(), strict=True))
    assert values == {(0, 7, 0, 0): 1, (0, 0, 0, 1): 2, (0, 7, 7, 7): 1, (1, 0, 0, 0): 1, (0, 0, 1, 0): 2}


@pytest.mark.parametrize("geometry", [SAME, HALF], ids=["same", "half"])
def test_threads_change_nothing(geometry: ConvGeometry) -> None:
    x = random_map(5, sites=2500, dtype=torch.float32)
    weight, _ = weights(6, geometry, torch.float32)

    def run() -> list[Tensor]:
        features, kernel = x.features.clone().requires_grad_(), weight.clone().requires_grad_()
        found = TorchEngine().convolve(SparseMap(features, x.sites), kernel, None, geometry)
        found.features.square().sum().backward()
        assert features.grad is not None and kernel.grad is not None
        return [found.features.detach(), features.grad, kernel.grad]

    with threads(1):
        alone = run()
    with threads(4):
        together = [run() for _ in range(3)]
    for again in together:
        for ours, first, expected in zip(again, together[0], alone, strict=True):
            assert torch.equal(ours, first)
            torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-4)


def test_the_order_of_voxels_changes_nothing() -> None:
    x = random_map(7)
    order = torch.randperm(len(x.sites), generator=torch.Generator().manual_seed(8))
    shuffled = make_sparse(x.features[order], x.sites.coords[order], SHAPE, CLOUDS)
    assert torch.equal(shuffled.features, x.features) and torch.equal(shuffled.sites.coords, x.sites.coords)


def test_layers_of_one_resolution_share_a_rulebook() -> None:
    sites = random_map(9).sites
    assert rulebook(sites, SAME) is rulebook(sites, SAME)
    assert rulebook(sites, SAME).sites is sites
    assert rulebook(sites, HALF) is not rulebook(sites, SAME)


def test_cells_outside_or_given_twice_are_refused() -> None:
    with pytest.raises(ValueError, match="outside"):
        make_sparse(torch.ones(1, 1), torch.tensor([[0, 0, 8, 0]]), (8, 8, 8), 1)
    with pytest.raises(ValueError, match="twice"):
        make_sparse(torch.ones(2, 1), torch.tensor([[0, 1, 2, 3], [0, 1, 2, 3]]), (8, 8, 8), 1)
    with pytest.raises(ValueError, match="odd"):
        ConvGeometry((2, 3, 3), submanifold=True)


def test_a_map_without_sites() -> None:
    x = make_sparse(torch.zeros(0, 5), torch.zeros(0, 4, dtype=torch.long), SHAPE, CLOUDS)
    for geometry in GEOMETRIES.values():
        layer = SparseLayer(5, 7, geometry)
        found = layer(x)
        found.features.sum().backward()
        assert found.to_bev().shape == (CLOUDS, 7 * found.sites.shape_zyx[0], *found.sites.shape_zyx[1:])
        assert found.features.shape == (0, 7)


def test_statistics_are_those_of_the_sites() -> None:
    x = random_map(10, dtype=torch.float32)
    layer = SparseLayer(5, 7, SAME)
    conv, norm = layer[0], layer[1]
    assert isinstance(conv, SparseConv) and isinstance(norm, torch.nn.BatchNorm1d)
    before = conv(x).features
    scaled = (before - before.mean(0)) / torch.sqrt(before.var(0, unbiased=False) + 1e-3)
    torch.testing.assert_close(layer(x).features, F.relu(scaled), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norm.running_mean, 0.01 * before.mean(0), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(norm.running_var, 0.99 + 0.01 * before.var(0), rtol=1e-4, atol=1e-6)


def test_evaluation_uses_the_running_statistics_and_passes_gradients() -> None:
    x = random_map(11, dtype=torch.float32)
    layer = SparseLayer(5, 7, HALF).eval()
    conv, norm = layer[0], layer[1]
    torch.nn.init.normal_(norm.running_mean)
    torch.nn.init.uniform_(norm.running_var, 0.5, 2.0)
    torch.nn.init.normal_(norm.weight)
    expected = F.relu(norm(conv(x).features))
    found = layer(x).features
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    parameters = list(layer.parameters())
    for ours, theirs in zip(
        torch.autograd.grad(found.square().sum(), parameters),
        torch.autograd.grad(expected.square().sum(), parameters),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


def test_a_single_site_has_no_statistics_of_its_own() -> None:
    x = make_sparse(torch.ones(1, 5), torch.tensor([[0, 3, 3, 3]]), SHAPE, 1)
    layer = SparseLayer(5, 7, SAME)
    trained = layer.train()(x).features
    assert torch.equal(trained, layer.eval()(x).features) and layer[1].num_batches_tracked == 0


def test_autocast_does_not_change_results_on_the_cpu() -> None:
    x = random_map(12, dtype=torch.float32)
    layer = SparseLayer(5, 7, SAME)
    expected = layer(x).features
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = layer(x).features
    found.sum().backward()
    assert torch.equal(found, expected)


def small_network() -> SparseStages:
    """Return a network whose running statistics keep the values at about one."""
    torch.manual_seed(13)
    network = SparseStages(SecondConfig(channels=(8, 8, 12, 16), map_channels=8))
    for _ in range(60):
        network(scattered(13))
    return network.eval()


def scattered(seed: int, device: str = "cpu") -> SparseMap:
    """Return the voxels of two clouds, dense enough to have neighbours."""
    random = torch.Generator().manual_seed(seed)
    coords = torch.unique(torch.randint(0, 20, (1500, 4), generator=random) % torch.tensor([2, 20, 20, 20]), dim=0)
    return make_sparse(torch.randn(len(coords), 4, generator=random).to(device), coords.to(device), (21, 24, 24), 2)


def test_spconv_on_one_thread_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("spconv.pytorch", reason="spconv is not installed")
    network = small_network()
    with torch.no_grad(), threads(1):
        expected = [part.to_bev() for part in network.levels(scattered(14))]
        spconv = SpconvEngine("spconv")
        monkeypatch.setattr(sparse_layers, "engine_for", lambda device_type: spconv)
        found = [part.to_bev() for part in network.levels(scattered(14))]
    for ours, theirs in zip(expected, found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * float(theirs.abs().max()))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU here")
@pytest.mark.parametrize("engine", ["of the device", "torch"])
def test_the_gpu_gives_the_same(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = engine_for("cuda") if engine == "of the device" else TorchEngine()
    results = {}
    for device in ("cpu", "cuda"):
        network = small_network().to(device).train()
        monkeypatch.setattr(sparse_layers, "engine_for", lambda device_type: chosen if device_type == "cuda" else TorchEngine())
        output = network(scattered(14, device)).to_bev()
        output.square().mean().backward()
        evaluated = network.eval()(scattered(14, device)).to_bev()
        gradients = [parameter.grad for parameter in network.parameters()]
        results[device] = [part.detach().cpu() for part in (output, evaluated, *gradients) if part is not None]
        monkeypatch.undo()
    for ours, theirs in zip(results["cuda"], results["cpu"], strict=True):
        assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max() + 1e-7
