"""Images of more than 8 bits are scaled or refused, never cut off; images are found under other endings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from heal.datasets.dataset import DatasetError
from heal.datasets.files import read_depth, read_grey, read_image, write_depth
from heal.datasets.opv2v.source import Opv2vSource
from heal.errors import UserError
from tests.datasets.opv2v.opv2v_tree import metadata, write_frame


def saved(path: Path, pixels: npt.NDArray[Any]) -> Path:
    Image.fromarray(pixels).save(path)
    return path


def test_grey_images_of_16_bits_are_scaled(tmp_path: Path) -> None:
    values = np.arange(256, dtype=np.uint16)[None] * 257
    read = read_image(saved(tmp_path / "deep.png", values))
    np.testing.assert_array_equal(read, np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2))


def test_a_mark_of_a_deep_visibility_map_is_kept(tmp_path: Path) -> None:
    marks = read_grey(saved(tmp_path / "map.png", np.array([[0, 1, 255, 256, 65535]], np.uint16)))
    np.testing.assert_array_equal(marks > 0, [[False, True, True, True, True]])


def test_depth_of_8_bits_is_read_in_metres(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_depth(saved(tmp_path / "depth.png", np.array([[0, 5, 255]], np.uint8))), [[0, 5, 255]])


def test_depth_in_whole_metres_is_written_as_opv2v_h_has_it(tmp_path: Path) -> None:
    write_depth(tmp_path / "depth.png", np.array([[0.4, 7.6, 300.0]], np.float32))
    with Image.open(tmp_path / "depth.png") as image:
        assert image.mode == "L" and np.asarray(image).tolist() == [[0, 8, 255]]


@pytest.mark.parametrize("step_m", [0.01, 0.05, 0.3, 0.5])
def test_finer_depth_is_read_back_exactly(tmp_path: Path, step_m: float) -> None:
    depth = np.random.default_rng(5).uniform(0, 120, (9, 11)).astype(np.float32)
    depth[0, :2] = 0.0, 1e6
    write_depth(tmp_path / "depth.png", depth, step_m)
    read = read_depth(tmp_path / "depth.png")
    assert read.dtype == np.float32 and read[0, 1] == np.float32(65535 * step_m)
    np.testing.assert_allclose(read.ravel()[2:], depth.ravel()[2:], atol=0.5001 * step_m)
    write_depth(tmp_path / "again.png", read, step_m)
    np.testing.assert_array_equal(read_depth(tmp_path / "again.png"), read)


@pytest.mark.parametrize("step", ["0", "-0.1", "nan", "metre", "2"])
def test_a_depth_image_with_a_senseless_step_is_named(tmp_path: Path, step: str) -> None:
    entries = PngInfo()
    entries.add_text("depth_step_m", step)
    Image.fromarray(np.ones((2, 2), np.uint16)).save(tmp_path / "depth.png", pnginfo=entries)
    with pytest.raises(DatasetError, match=r"depth\.png: expected a step of depth"):
        read_depth(tmp_path / "depth.png")


@pytest.mark.parametrize("step_m", [0.0, 0.001, 2.0])
def test_a_step_of_depth_that_cannot_be_written_is_refused(tmp_path: Path, step_m: float) -> None:
    with pytest.raises(UserError, match=r"expected a step of depth from 0\.01 to 1 m"):
        write_depth(tmp_path / "depth.png", np.ones((2, 2), np.float32), step_m)


@pytest.mark.parametrize(
    ("pixels", "mode"),
    [
        (np.array([[5, 255, 256, 40000]], np.uint16), "I;16"),
        (np.array([[[5, 1, 0], [5, 0, 1]]], np.uint8), "RGB"),
        (np.array([[[5, 1, 0, 255]]], np.uint8), "RGBA"),
    ],
)
def test_depth_of_another_kind_is_refused_by_name(tmp_path: Path, pixels: npt.NDArray[Any], mode: str) -> None:
    with pytest.raises(DatasetError, match=rf"depth\.png: expected 8-bit grey values \(mode L\), got mode {mode}"):
        read_depth(saved(tmp_path / "depth.png", pixels))


@pytest.mark.parametrize("read", [read_image, read_grey, read_depth])
@pytest.mark.parametrize("ending", ["tif", "bmp", "gif"])
def test_other_formats_than_png_and_jpeg_are_refused(tmp_path: Path, read: Any, ending: str) -> None:
    path = saved(tmp_path / f"image.{ending}", np.full((2, 2), 9, np.uint8)).rename(tmp_path / "image.png")
    with pytest.raises(DatasetError, match=r"image\.png: not a readable image: cannot identify image file, expected PNG or JPEG"):
        read(path)


@pytest.mark.parametrize("read", [read_image, read_grey, read_depth])
def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path: Path, read: Any) -> None:
    with pytest.raises(DatasetError, match=r"image\.png: expected at most 8388608 pixels, got 8193 x 1024"):
        read(saved(tmp_path / "image.png", np.zeros((1024, 8193), np.uint8)))


def test_a_jpeg_of_very_many_scans_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"
    Image.fromarray(np.full((16, 16), 90, np.uint8)).save(path, progressive=True)
    data = path.read_bytes()
    assert 1 < data.count(b"\xff\xda") < 20 and read_grey(path)[0, 0] == 90
    path.write_bytes(data[:-2] + data[data.rfind(b"\xff\xda") : -2] * 100 + data[-2:])
    with pytest.raises(DatasetError, match=r"image\.jpg: expected at most 50 scans, got 1\d\d"):
        read_image(path)


@pytest.mark.parametrize(
    "damage", [lambda data: data[: len(data) // 2], lambda data: data[:40] + b"\0" * 8 + data[48:], lambda _: b""]
)
def test_a_damaged_image_is_named(tmp_path: Path, damage: Any) -> None:
    path = saved(tmp_path / "image.png", np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DatasetError, match=r"image\.png: "):
        read_image(path)


@pytest.mark.parametrize("ending", [".jpg", ".jpeg", ".JPG", ".PNG"])
def test_a_camera_image_is_found_with_another_ending(tmp_path: Path, ending: str) -> None:
    folder = tmp_path / "test" / "scenario" / "641"
    write_frame(folder, "000068", metadata())
    path = folder / "000068_camera0.png"
    with Image.open(path) as image:
        image.load()
        image.save(path.with_suffix(ending))
    path.unlink()
    view = Opv2vSource(tmp_path, "test", {"camera"}).agent_frame(0, "641").cameras[0]
    np.testing.assert_allclose(view.image.mean(axis=(0, 1)), [255, 128, 0], atol=2)


def test_a_jpeg_that_is_called_png_is_read(tmp_path: Path) -> None:
    path = saved(tmp_path / "image.jpg", np.full((8, 8, 3), 90, np.uint8)).rename(tmp_path / "image.png")
    np.testing.assert_allclose(read_image(path), 90, atol=2)


def test_a_missing_image_is_named_with_the_file_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "image.webp").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"image\.png: no such file; image\.webp is there"):
        read_image(tmp_path / "image.png")
