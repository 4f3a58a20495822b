"""The radio measurements of CooperScene as recorded links."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from heal.agents.network.trace import Trace
from heal.datasets.cooperscene.radio import write_traces
from heal.datasets.dataset import DatasetError

mcap_writer = pytest.importorskip("mcap.writer")
pytest.importorskip("mcap_ros2")

START_NS = 1_759_000_000_000_000_000
MEASURED = {
    "/1_Throughput_from_agent_0": [(0, 1.6), (500, 0.0), (1000, 2.25)],
    "/0_Throughput_from_agent_1": [(250, 0.4), (750, 0.8)],
    "/1_Camera": [(0, 9.0)],
}


def write_recording(path: Path, measured: dict[str, list[tuple[int, float]]], *, as_json: bool = False) -> Path:
    """Write a recording, in messages of ROS 2 or as JSON: by topic the times in ms and the values."""
    with path.open("wb") as file:
        writer = mcap_writer.Writer(file)
        writer.start()
        kind = ("json", "jsonschema", b"{}") if as_json else ("cdr", "ros2msg", b"float64 x\nfloat64 y\nfloat64 z")
        schema = writer.register_schema("geometry_msgs/msg/Vector3", kind[1], kind[2])
        for topic, values in measured.items():
            channel = writer.register_channel(topic, kind[0], schema)
            for time_ms, value in values:
                data = json.dumps({"x": value}).encode() if as_json else b"\0\1\0\0" + struct.pack("<ddd", value, 0.0, 0.0)
                time_ns = START_NS + time_ms * 1_000_000
                writer.add_message(channel, time_ns, data, time_ns)
        writer.finish()
    return path


@pytest.mark.parametrize("as_json", [False, True])
def test_every_link_becomes_a_recorded_link_of_a_run(tmp_path: Path, as_json: bool) -> None:
    paths = write_traces(write_recording(tmp_path / "1.mcap", MEASURED, as_json=as_json), tmp_path / "traces")
    assert [path.name for path in paths] == ["0-from-1.csv", "1-from-0.csv"]
    later, first = map(Trace.read, paths)
    assert [(row.time_s, row.rate_mbit_s, row.loss) for row in first.rows] == [(0, 1.6, 0), (0.5, None, 1), (1, 2.25, 0)]
    assert [(row.time_s, row.rate_mbit_s) for row in later.rows] == [(0, 0.4), (0.25, 0.4), (0.75, 0.8)]
    assert all(row.delay_ms == 0 for row in first.rows)
    # 100 kB begin at 0 s at 1.6 Mbit/s, so 0.5 s pass until everything is lost.
    assert first.finish_ns(0, 100_000) == 500_000_000


def test_a_recording_without_measurements_and_a_file_that_is_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no topic such as /1_Throughput_from_agent_0"):
        write_traces(write_recording(tmp_path / "1.mcap", {"/1_Camera": [(0, 9.0)]}), tmp_path)
    other = tmp_path / "other.mcap"
    other.write_bytes(b"no recording")
    with pytest.raises(DatasetError, match=r"other\.mcap: expected a recording of measured throughput"):
        write_traces(other, tmp_path)
    with pytest.raises(DatasetError, match=r"missing\.mcap"):
        write_traces(tmp_path / "missing.mcap", tmp_path)
