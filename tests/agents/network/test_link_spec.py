"""Networks as text: `str` and `parse` are inverse, and options that do not fit are refused with the possible ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heal.agents.network.network import LinkNetwork, PerfectNetwork
from heal.agents.network.spec import LinkSpec, Outages
from heal.agents.network.transit import Transmission

POSITIVE = st.floats(0.01, 1e6)
SHARE = st.floats(0, 1)


@st.composite
def specs(draw: st.DrawFn) -> LinkSpec:
    """Draw any combination of options that fit together."""
    carrier = draw(st.sampled_from(["none", "rate", "trace"]))
    shared = draw(st.none() | POSITIVE)
    queues = carrier != "none" or shared is not None
    return LinkSpec(
        delay=draw(POSITIVE),
        jitter=draw(st.floats(0, 1e6)),
        loss=draw(SHARE),
        spread=draw(st.sampled_from(["uniform", "normal", "gamma", "lognormal", "pareto"])),
        packet_loss=draw(SHARE),
        rate=draw(POSITIVE) if carrier == "rate" else None,
        outages=draw(st.none() | st.builds(Outages, POSITIVE, POSITIVE)),
        trace=Path("runs/drive 1.csv") if carrier == "trace" else None,
        shared=shared,
        queue=draw(st.floats(0, 1e6)) if queues else 100.0,
    )


@given(specs())
def test_parse_reads_what_str_writes(spec: LinkSpec) -> None:
    assert LinkSpec.parse(str(spec)) == spec


@given(st.floats(0, 1e4), st.floats(0, 1e4), SHARE)
def test_options_set_their_fields(delay: float, jitter: float, loss: float) -> None:
    assert LinkSpec.parse(f"delay:{delay!r}, jitter:{jitter!r},loss:{loss!r}") == LinkSpec(delay, jitter, loss)


def test_a_network_without_options_is_perfect() -> None:
    assert LinkSpec.parse("perfect") == LinkSpec() and str(LinkSpec()) == "perfect"
    network = LinkSpec.parse(" perfect ").network(0)
    assert isinstance(network, PerfectNetwork)
    assert [transit.arrival_ns for transit in network.send(3, [Transmission("a", 7, 10**9), Transmission("b", 8, 1)])] == [7, 8]


def test_dsrc_is_27_mbit_for_all() -> None:
    spec = LinkSpec.parse("dsrc,loss:0.1")
    assert spec == LinkSpec(loss=0.1, shared=27.0) == LinkSpec.parse("shared:27,loss:0.1")
    assert isinstance(spec.network(0), LinkNetwork)


def test_outage_takes_two_means() -> None:
    assert LinkSpec.parse("outage:20/0.5").outages == Outages(20, 0.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "perfect, dsrc, delay:..."),
        ("delay", "'delay' is not one of perfect, dsrc, delay:..."),
        ("speed:3", "'speed:3' is not one of"),
        ("loss:1,loss:1", "each at most once"),
        ("dsrc:3", "'dsrc:3' is not one of"),
        ("perfect,loss:0.1", "perfect stands alone"),
        ("dsrc,shared:6", "dsrc is shared:27"),
        ("delay:x", "expected a number after delay:, got 'x'"),
        ("delay:nan", "expected a finite number after delay:, got 'nan'"),
        ("delay:inf", "expected a finite number"),
        ("delay:-1", "milliseconds from 0 to 1e+09; got delay:-1"),
        ("loss:2", "probabilities in [0, 1]; got loss:2"),
        ("packet_loss:-0.1", "probabilities in [0, 1]"),
        ("delay:50,spread:cauchy", "uniform, normal, gamma, lognormal, pareto, got 'cauchy'"),
        ("spread:gamma", "name delay or jitter too"),
        ("jitter:5,spread:gamma", "a delay of more than 0"),
        ("rate:0", "Mbit/s >= 0.001; got rate:0"),
        ("shared:-27", "Mbit/s >= 0.001"),
        ("queue:50", "nothing queues without a rate"),
        ("outage:20", "expected a number after outage:, got ''"),
        ("outage:20/0", "as in outage:20/2; got 20/0"),
        ("trace:a.csv,rate:6", "name rate or trace, not both"),
    ],
)
def test_bad_options_are_refused_with_the_possible_ones(text: str, message: str) -> None:
    with pytest.raises(ValueError, match="link") as refusal:
        LinkSpec.parse(text)
    assert message in str(refusal.value)


def test_a_missing_trace_is_named() -> None:
    with pytest.raises(ValueError, match=r"trace nowhere\.csv: cannot be read: No such file"):
        LinkSpec.parse("trace:nowhere.csv").network(0)
