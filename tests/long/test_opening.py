"""A large data set opens fast, and at once from its cache: seconds of one core, and memory of the process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.nightly

ENDINGS = (".yaml", ".pcd", "_camera0.png", "_camera1.png", "_camera2.png", "_camera3.png")
OPEN = """
import json, re, sys, time
from pathlib import Path
from heal.datasets.open import open_dataset
begin = time.process_time()
scenes = len(open_dataset(Path(sys.argv[1]), "train", cache=Path(sys.argv[2])))
seconds = time.process_time() - begin
kilobytes = re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]
print(json.dumps([scenes, seconds, int(kilobytes) / 1024]))
"""


def test_a_split_of_20_000_agent_frames_opens_fast(tmp_path: Path) -> None:
    for scenario in range(100):
        for agent in range(4):
            folder = tmp_path / "data" / "train" / f"2021_08_{scenario:03d}" / str(100 + agent)
            folder.mkdir(parents=True)
            for frame in range(50):
                for ending in ENDINGS:
                    (folder / f"{2 * frame:06d}{ending}").touch()
    for most_s in (3.0, 0.3):
        command = [sys.executable, "-c", OPEN, str(tmp_path / "data"), str(tmp_path / "cache")]
        scenes, seconds, megabytes = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        assert scenes == 5000 and seconds < most_s and megabytes < 300, (most_s, seconds, megabytes)
