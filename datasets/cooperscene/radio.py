"""What the radios of CooperScene measured, from its MCAP recordings to the recorded links of a run.

A recording `mcap/<take>.mcap` has a topic `/<receiver>_Throughput_from_agent_<sender>` for every pair of agents, whose messages
have the measured throughput in the field `x`. The topics and the field are those of the view that the data set publishes for
these recordings. Its axis ends at 3, and the data set's own model of the network has 1.6 Mbit/s, so the unit is taken to be
Mbit/s. No recording of the data set has been read with this module.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heal.atomic_write import write_text
from heal.datasets.dataset import DatasetError
from heal.errors import UserError

PACKAGES = "mcap mcap-ros2-support"
TOPIC = re.compile(r"/?(\w+)_Throughput_from_agent_(\w+)")
FIELD = "x"
HEADER = "time,delay,loss,rate"
LEAST_MBIT_S = 0.001  # a throughput below it counts as none


@dataclass(frozen=True, order=True)
class RadioLink:
    """A link between two radios: the agent that receives, and the agent that sends."""

    receiver: str
    sender: str


@dataclass(frozen=True)
class Throughput:
    """A measured throughput in Mbit/s, and its time in nanoseconds as the recording has it."""

    time_ns: int
    mbit_s: float


Measurements = Mapping[RadioLink, Sequence[Throughput]]


def write_traces(recording: Path, folder: Path) -> list[Path]:
    """Write the throughput of every link as a file `<receiver>-from-<sender>.csv` for `--link trace:FILE`; return the files.

    Args:
        recording: a take's MCAP recording.
        folder: the folder of the files; it is made if needed.

    Raises:
        DatasetError: the recording cannot be read, or has no measurement.
        UserError: the package that reads recordings is not installed.
    """
    measured = read_throughput(recording)
    paths = [folder / f"{link.receiver}-from-{link.sender}.csv" for link in measured]
    for path, rows in zip(paths, trace_rows(measured), strict=True):
        write_text(path, "\n".join([HEADER, *rows]) + "\n")
    return paths


def read_throughput(recording: Path) -> Measurements:
    """Read the measurements of every link in order of time; the links are in order too. For errors see `write_traces`."""
    try:
        from mcap.exceptions import McapError
        from mcap.reader import make_reader

        decoders = _decoders()
    except ImportError as error:
        raise UserError(f"{recording}: recordings need packages of their own: pip install {PACKAGES}") from error
    measured: dict[RadioLink, list[Throughput]] = defaultdict(list)
    try:
        with recording.open("rb") as file:
            reader = make_reader(file, decoder_factories=decoders)
            summary = reader.get_summary()
            topics = {channel.topic for channel in summary.channels.values()} if summary else set()
            links = {topic: RadioLink(*match.groups()) for topic in topics if (match := TOPIC.fullmatch(topic))}
            if links:  # without any, all messages would be decoded
                for _, channel, message, decoded in reader.iter_decoded_messages(list(links)):
                    measured[links[channel.topic]].append(Throughput(message.log_time, float(_field(decoded, FIELD))))
    except (OSError, McapError, ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise DatasetError(recording, f"expected a recording of measured throughput: {error}") from error
    if not measured:
        raise DatasetError(recording, "no topic such as /1_Throughput_from_agent_0 with a message")
    return dict(sorted(measured.items()))


def _decoders() -> list[Any]:
    """Return the decoders of the messages: those of ROS 2 and JSON, as the data set does not say which it uses."""
    from mcap.decoder import DecoderFactory
    from mcap_ros2.decoder import DecoderFactory as Ros2Decoder

    class JsonDecoder(DecoderFactory):
        def decoder_for(self, message_encoding: str, schema: Any) -> Any:
            return json.loads if message_encoding == "json" else None

    return [Ros2Decoder(), JsonDecoder()]


def _field(message: Any, name: str) -> Any:
    """Return a field of a decoded message; LookupError if it has none."""
    if isinstance(message, Mapping):
        return message[name]
    if not hasattr(message, name):
        raise LookupError(f"a message has no field {name}")
    return getattr(message, name)


def trace_rows(measured: Measurements) -> list[list[str]]:
    """Return the rows of a trace for every link: time in s, delay in ms, probability of a loss, rate in Mbit/s.

    All traces begin at the first measurement of any link, where a link without a measurement yet has its own first one. Where
    nothing arrives, every message is lost and the rate is not limited.
    """
    begin_ns = min(measurements[0].time_ns for measurements in measured.values())
    traces: list[list[str]] = []
    for measurements in measured.values():
        values = {0: measurements[0].mbit_s} | {each.time_ns - begin_ns: each.mbit_s for each in measurements}
        traces.append([f"{time_ns / 1e9:.9g},0,{_loss_and_rate(value)}" for time_ns, value in sorted(values.items())])
    return traces


def _loss_and_rate(mbit_s: float) -> str:
    return f"0,{mbit_s:.9g}" if mbit_s >= LEAST_MBIT_S else "1,"
