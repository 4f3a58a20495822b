"""Files of settings that are like other files: what counts, where names are looked up, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from heal.config import ConfigError, load_yaml
from heal.tools.shared.paths import CONFIGS
from heal.tools.shared.setting_files import laid_over, load_settings, load_type, read_agent_type


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_file_has_the_settings_of_the_file_that_it_is_like_and_its_own_agents(tmp_path: Path) -> None:
    write(tmp_path / "first.yaml", "base: {in_channels: 8, shrink_channels: [4]}\nagents: {m1: {lidar_beams: 64}}\n")
    second = write(tmp_path / "second.yaml", "like: first.yaml\nbase: {in_channels: 16}\ntraining: {epochs: 2}\n")
    third = write(tmp_path / "third.yaml", "like: second.yaml\ntraining: {seed: 1}\nagents: {m3: {lidar_beams: 32}}\n")
    base = {"in_channels": 16, "shrink_channels": [4]}
    assert load_settings(second) == {"base": base, "training": {"epochs": 2}, "agents": {"m1": {"lidar_beams": 64}}}
    assert load_settings(third) == {"base": base, "training": {"epochs": 2, "seed": 1}, "agents": {"m3": {"lidar_beams": 32}}}


def test_an_agent_type_may_be_like_another_in_a_file_and_in_an_entry(tmp_path: Path) -> None:
    m3 = load_yaml(CONFIGS / "agents" / "m3.yaml")
    own = write(tmp_path / "own.yaml", "like: m3\nlidar_beams: 16\naligner: {kind: identity}\n")
    assert load_type(own) == {**m3, "lidar_beams": 16, "aligner": {"kind": "identity"}}
    given = write(tmp_path / "base.yaml", "agents:\n  one: own\n  two: {like: own.yaml, encoder: {max_points: 7}}\n  m1: m1\n")
    agents = load_settings(given)["agents"]
    assert agents["one"] == load_type(own) and agents["m1"] == load_yaml(CONFIGS / "agents" / "m1.yaml")
    assert agents["two"] == {**load_type(own), "encoder": {**m3["encoder"], "max_points": 7}}


def test_a_file_of_the_working_directory_takes_no_shipped_file_s_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = read_agent_type("dair_m2"), load_settings(CONFIGS / "recipes" / "opv2v" / "stage1_m1.yaml")
    for name in ("m1", "m1.yaml", "m2", "m2.yaml", "base.yaml"):
        write(Path(name), "lidar_beams: 16\n")
    assert (read_agent_type("dair_m2"), load_settings(CONFIGS / "recipes" / "opv2v" / "stage1_m1.yaml")) == before
    write(Path("mine/other.yaml"), "like: sensors/narrow.yaml\n")
    write(Path("sensors/narrow.yaml"), "lidar_beams: 32\n")
    assert load_type(Path("mine/other.yaml")) == {"lidar_beams": 32}


def test_a_section_of_another_kind_is_replaced_and_one_of_the_same_kind_joined() -> None:
    under = {"aligner": {"kind": "convnext", "blocks": 3}}
    assert laid_over(under, {"aligner": {"kind": "identity"}}) == {"aligner": {"kind": "identity"}}
    assert laid_over(under, {"aligner": {"kind": "convnext", "blocks": 1}}) == {"aligner": {"kind": "convnext", "blocks": 1}}
    assert laid_over(under, {"aligner": {"blocks": 2}}) == {"aligner": {"kind": "convnext", "blocks": 2}}


@pytest.mark.parametrize("load", [load_settings, load_type])
def test_files_that_are_like_themselves_or_like_no_file_are_refused(load: object, tmp_path: Path) -> None:
    assert callable(load)
    one = write(tmp_path / "one.yaml", "like: two.yaml\n")
    write(tmp_path / "two.yaml", "like: one.yaml\n")
    with pytest.raises(ConfigError, match=r"one\.yaml: like: the file is like itself, by way of one\.yaml and two\.yaml"):
        load(one)
    with pytest.raises(ConfigError, match=r"lost\.yaml: like: expected the name of a YAML file in one of .*; there is no 'nobody'"):
        load(write(tmp_path / "lost.yaml", "like: nobody\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("agents: [m1]", r"agents: expected a mapping of names to agent types, got \['m1'\]"),
        ("agents: {m1: 3}", r"agents\.m1: expected the name of a type's file, or a section of its settings, got 3"),
    ],
)
def test_agents_in_another_form_are_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        load_settings(write(tmp_path / "wrong.yaml", text))
