"""The report: its numbers are the run's, nothing in it comes from elsewhere, and no text in it becomes HTML."""

from __future__ import annotations

import pickle
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from heal.agents.records import AgentView, Fault, TickResult
from heal.detection.metrics import ApAccumulator
from heal.tools.report.charts import HEIGHT, MOST_POINTS, WIDTH, Scale, Series, binned, line_chart, mean_of, stacked_chart
from heal.tools.report.history import ReportData
from heal.tools.report.html import Markup, element, join
from heal.tools.report.page import Report, flatten, page, write_report
from heal.tools.report.parts import agent_color, faults, messages, traffic
from heal.tools.shared.run_log import RunLog
from heal.tools.shared.scoring import RunScore
from tests.agents.made_ticks import RANGE_M, made_tick, pose_of, troubled_tick

VOID = {"meta", "img"}
NASTY = '<script>alert("1")</script>&\''


class Reader(HTMLParser):
    """Text and tags of a page; fails where tags are not closed in turn.

    Attributes:
        tags: how often each stands there.
        texts: all text outside of style and title.
        links: what the page would fetch.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tags: dict[str, int] = {}
        self.texts: list[str] = []
        self.links: list[str] = []
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags[tag] = self.tags.get(tag, 0) + 1
        self.links += [value or "" for key, value in attributes if key in ("src", "href", "xlink:href")]
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("style", "title"):
            self.texts.append(data)

    @staticmethod
    def of(text: str) -> Reader:
        """A page that has been read."""
        reader = Reader()
        reader.feed(text)
        reader.close()
        assert reader._open == []
        return reader


def reported(*results: TickResult, title: str = "a run", picture: Path | None = None) -> Report:
    log, data = RunLog(RunScore(RANGE_M)), ReportData()
    for result in results:
        log.add(result)
        data.add(result)
    return Report(title, log, data, {"link": "loss:0.1", "run": {"late": "weigh", "codec": {"kind": "float16"}}}, picture)


def test_a_report_is_one_page_that_fetches_nothing(tmp_path: Path) -> None:
    Image.new("RGB", (3000, 1000), "#3fb950").save(tmp_path / "last.png")
    report = reported(*(made_tick(i) for i in range(5)), troubled_tick(5), picture=tmp_path / "last.png")
    write_report(tmp_path / "sub" / "report.html", report)
    text = (tmp_path / "sub" / "report.html").read_text(encoding="utf-8")
    read = Reader.of(text)
    assert [link[:23] for link in read.links] == ["data:image/webp;base64,"]
    assert "url(" not in text and "@import" not in text and "script" not in read.tags
    assert read.tags["svg"] == 4 and read.tags["section"] == 8
    assert "prefers-color-scheme: dark" in text and 'name="viewport"' in text


def test_its_headline_is_the_runs_score() -> None:
    report = reported(made_tick(0), made_tick(1, found=1), troubled_tick(2))
    read = Reader.of(page(report))
    ap = report.log.score.results().ap
    assert [f"{value:.3f}" for value in ap.values()] == read.texts[
        read.texts.index("AP@0.3") - 1 : read.texts.index("AP@0.3") + 5 : 2
    ]
    # Five of nine cars were found; of six messages one came late and one was rejected.
    assert "56 %" in read.texts and "67 %" in read.texts and "of 6 messages used" in read.texts
    assert {"link", "loss:0.1", "run.late", "run.codec.kind", "float16"} <= set(read.texts)


def test_text_from_outside_stays_text() -> None:
    tick = made_tick(0)
    messages_ = tuple(
        replace(r, agent_id=NASTY, agent_type=NASTY, reason=NASTY, status="rejected", own=False) for r in tick.messages
    )
    report = reported(replace(tick, messages=messages_, scene_id=NASTY, faults=(Fault("agent hung", NASTY),)), title=NASTY)
    read = Reader.of(page(replace(report, settings={NASTY: NASTY})))
    assert "script" not in read.tags
    assert sum(text == NASTY for text in read.texts) >= 8


@given(st.text(), st.text())
def test_elements_escape_text_and_nothing_twice(text: str, value: str) -> None:
    inner = element("b", text)
    assert element("p", inner, title=value).count("<") == 4
    assert element("p", inner, text) == join([Markup("<p>"), inner, text, Markup("</p>")])


def test_curves_of_ap_end_at_the_runs_ap_and_at_that_of_the_last_ticks() -> None:
    ticks = [made_tick(i, found=i % 4) for i in range(7)] + [troubled_tick(7)]
    data = reported(*ticks).data
    for window, chosen in ((None, ticks), (3, ticks[-3:])):
        exact = ApAccumulator()
        for tick in chosen:
            exact.add(tick.detections, tick.ground_truth)
        curve = data.ap_over_time(window)
        assert curve.shape == (3, 8) and curve[:, -1] == pytest.approx(list(exact.results().ap.values()))
    assert data.ap_over_time(None)[:, 0].tolist() == [0.0, 0.0, 0.0]


def test_rows_hold_no_clouds_and_no_maps() -> None:
    big = AgentView("ego", pose_of("ego"), np.zeros((100_000, 4), np.float32), np.zeros((256, 256), np.float32))
    data = reported(replace(made_tick(0), views=(big,) * 3)).data
    assert len(pickle.dumps(data.rows)) < 5000


def test_every_agent_is_accounted_for() -> None:
    data = reported(made_tick(0), made_tick(1, b="lost"), troubled_tick(2)).data
    ego, b, roadside = data.agents()
    assert (ego.own, ego.counts.sent, b.own) == (3, 0, 0)
    assert (b.counts.used, b.counts.lost, b.counts.late, b.held, b.counts.bytes) == (1, 1, 1, 1, 6000)
    assert b.reasons == {"lost: on the link": 1, "rejected when it came late: stale": 1}
    assert roadside.reasons == {"rejected: wrong base": 1}
    read = Reader.of(messages(data))
    start = read.texts.index("b", read.texts.index("on board"))
    assert read.texts[start : start + 8] == ["b", "m2", "3", "1", "1", "1", "0", "0"]
    assert data.bytes_of("b").tolist() == [2000.0] * 3 and np.isnan(data.bytes_of("ego")).all()


def test_faults_last_until_something_is_back() -> None:
    ticks = [made_tick(i) for i in range(10)]
    ticks[2] = replace(ticks[2], faults=(Fault("agent crashed", "b"), Fault("fusion node hung"), Fault("fusion node restarted")))
    ticks[6] = replace(ticks[6], faults=(Fault("agent rejoined", "b"),))
    ticks[8] = replace(ticks[8], faults=(Fault("agent hung", "b"),))
    spans = re.findall(r"left:([\d.]+)%;width:([\d.]+)%", faults(reported(*ticks).data))
    assert spans == [("20.00", "40.00"), ("80.00", "20.00"), ("20.00", "10.00")]
    assert "Nothing broke." in faults(reported(made_tick(0)).data)


def test_runs_without_ticks_messages_or_answers_have_reports_too() -> None:
    assert "Settings" in Reader.of(page(reported())).texts
    alone = replace(made_tick(0), messages=made_tick(0).messages[:1], latency=None)
    read = Reader.of(page(reported(alone)))
    assert "Nothing crossed a link." in read.texts and "none" in read.texts


def test_traffic_is_written_in_the_unit_that_fits() -> None:
    small, large = made_tick(0), made_tick(0)
    large = replace(large, messages=tuple(replace(record, size_bytes=3_000_000) for record in large.messages))
    assert "kB in a tick" in traffic(reported(small).data) and "MB in a tick" in traffic(reported(large).data)


@given(st.floats(1e-6, 1e12))
def test_scales_end_above_the_largest_value_in_few_round_steps(largest: float) -> None:
    scale = Scale.up_to(largest)
    assert largest * (1 - 1e-6) <= scale.top <= largest + scale.step
    assert 2 <= len(scale.marks()) <= 6 and scale.marks()[-1] == pytest.approx(scale.top)
    assert float(f"{scale.step:.0e}") == pytest.approx(scale.step)


@given(st.integers(0, 2000))
def test_parts_of_a_long_run_hold_every_tick_once(count: int) -> None:
    parts = binned(count)
    assert [i for part in parts for i in range(count)[part]] == list(range(count))
    assert len(parts) == min(count, MOST_POINTS)


def test_lines_break_where_numbers_are_missing_and_layers_add_up() -> None:
    values = np.array([0.0, 5.0, np.nan, 10.0])
    drawn = line_chart(range(4), [Series("a", "red", values)], Scale(10.0, 5.0))
    step = WIDTH / 4
    path = re.search(r'<path d="([^"]*)"', drawn)
    assert path is not None and path[1] == f"M{step / 2:.1f} 100.00h0 L{1.5 * step:.1f} 50.00 M{3.5 * step:.1f} 0.00h0"
    assert np.isnan(mean_of(values, [slice(2, 3)])).all() and mean_of(values, [slice(1, 4)]).tolist() == [7.5]
    layers = stacked_chart(range(2), [Series("a", "red", np.full(2, 2.0)), Series("b", "blue", np.full(2, 3.0))], Scale(10.0, 5.0))
    upper = re.findall(r'points="0\.0,([\d.]+)', layers)
    assert [float(y) for y in upper] == [0.8 * HEIGHT, 0.5 * HEIGHT]


def test_agents_have_the_colours_of_the_pictures() -> None:
    colors = [agent_color(place) for place in range(13)]
    assert colors[0] == "var(--a0)" and colors[0] not in colors[1:] and colors[1] == colors[6] == colors[11]


def test_settings_within_settings_are_one_list() -> None:
    assert flatten({"a": 1, "b": {"c": 2, "d": {"e": None}}, "f": {}}) == [("a", 1), ("b.c", 2), ("b.d.e", None), ("f", {})]
