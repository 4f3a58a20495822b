"""Folders of outputs: what made them is recorded, an output is not overwritten by accident, and nothing else is removed."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

import heal
from heal.errors import UserError
from heal.tools.shared.made_by import MADE_BY as KEY
from heal.tools.shared.made_by import read_made_by
from heal.tools.shared.output import Output, unused_folder
from tests.agents.tiny_run import save_tiny_alliance
from tests.tools.command import MADE_BY, run_command


@pytest.fixture(scope="module")
def alliance(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_alliance(tmp_path_factory.mktemp("alliance"))


def simulate(alliance: Path, out: Path, *more: object) -> str:
    options = ("--preset", "test", "--ticks", 2, "--runtime", "local", "--seed", 4)
    return run_command("simulate", *more, "--alliance", alliance, "--out", out, *options)


def test_a_run_says_what_made_it(alliance: Path, tmp_path: Path) -> None:
    simulate(alliance, tmp_path / "a b", "--link", "delay:20,loss:0.1", "--set", "run.split=pyramid", "--set", "run.adapt=true")
    made_by = read_made_by(tmp_path / "a b")
    assert made_by is not None
    words = shlex.split(made_by.command)
    assert words[:2] == ["heal", "simulate"] and str(tmp_path / "a b") in words and words.count("--set") == 2
    assert "--late" not in words and "--overwrite" not in words  # not given
    assert (made_by.version, made_by.date[-6:]) == (heal.__version__, "+00:00")
    assert (made_by.alliance.path, len(made_by.alliance.hash)) == (str(alliance), 64)
    scenes = made_by.scenes
    assert (scenes.source, scenes.split, scenes.types, scenes.seed) == ("town, preset test", "test", "m1", 4)
    assert made_by.machine.cores >= 1 and made_by.machine.cpu and made_by.machine.torch
    metrics = json.loads((tmp_path / "a b" / "metrics.json").read_text())
    assert metrics[KEY]["command"] == made_by.command and metrics[KEY]["alliance"]["hash"] == made_by.alliance.hash
    page = (tmp_path / "a b" / "report.html").read_text()
    assert made_by.alliance.hash in page and made_by.date in page and "--link delay:20,loss:0.1" in page


def test_the_hash_of_an_alliance_is_that_of_its_content(alliance: Path, tmp_path: Path) -> None:
    other = save_tiny_alliance(tmp_path / "other", seed=1)
    same = save_tiny_alliance(tmp_path / "same")
    hashes = []
    for number, path in enumerate((alliance, same, other)):
        simulate(path, tmp_path / str(number))
        made_by = read_made_by(tmp_path / str(number))
        assert made_by is not None
        hashes.append(made_by.alliance.hash)
    assert hashes[0] == hashes[1] != hashes[2]


def test_an_output_is_refused_or_replaced_and_nothing_else_is_removed(alliance: Path, tmp_path: Path) -> None:
    simulate(alliance, tmp_path, "--pictures")
    made_by, metrics = read_made_by(tmp_path), (tmp_path / "metrics.json").read_bytes()
    assert made_by is not None
    with pytest.raises(UserError) as refused:
        run_command("sweep", "delay", "--alliance", alliance, "--out", tmp_path, "--preset", "test")
    assert str(refused.value) == (
        f"{tmp_path}: already holds the output of `{made_by.command}` of {made_by.date}; "
        "give another --out, or --overwrite to replace it"
    )
    assert (tmp_path / "metrics.json").read_bytes() == metrics
    for name in ("mine.png", "scene_1.png", "notes.txt"):
        (tmp_path / name).write_text("mine")
    run_command(
        *("sweep", "delay", "--alliance", alliance, "--out", tmp_path, "--overwrite", "--preset", "test"),
        *("--towns", 1, "--ticks", 1, "--processes", 1),
    )
    names = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert names == {"run.yaml", "sweep.json", "sweep.png", "mine.png", "scene_1.png", "notes.txt"}


def test_a_wrong_option_costs_no_earlier_output(alliance: Path, tmp_path: Path) -> None:
    simulate(alliance, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    with pytest.raises(ValueError, match="link"):
        simulate(alliance, tmp_path, "--overwrite", "--link", "speed:3")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_a_folder_without_a_result_can_be_used(alliance: Path, tmp_path: Path) -> None:
    (tmp_path / "ticks.jsonl").touch()  # of a run that ended before its first tick
    (tmp_path / "run.yaml").write_text("{}")
    simulate(alliance, tmp_path)
    assert json.loads((tmp_path / "metrics.json").read_text())["frames"] == 2


def test_an_output_of_an_earlier_version_is_refused_too(alliance: Path, tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text("{}")
    with pytest.raises(UserError, match=r"already holds an output \(metrics.json\); give another --out"):
        simulate(alliance, tmp_path)


def test_unused_folders_are_numbered(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    assert unused_folder(folder) == folder
    folder.mkdir()
    assert unused_folder(folder) == folder  # it is empty
    for name in ("demo", "demo-2"):
        Output(tmp_path / name, MADE_BY).write_results({})
    assert unused_folder(folder) == tmp_path / "demo-3"


def test_the_margin_has_two_lines_of_limited_length() -> None:
    assert MADE_BY.margin == f"{MADE_BY.command}\nheal 1.2.3, alliance 0123456789ab, 2030-01-02T03:04:05+00:00"
    long = type(MADE_BY)(**{**vars(MADE_BY), "command": "heal sweep " + "x" * 500})
    first, second = long.margin.splitlines()
    assert len(first) == 140 and first.endswith("...") and second == MADE_BY.margin.splitlines()[1]
