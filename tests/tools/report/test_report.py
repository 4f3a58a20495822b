"""Tests of the report: it shows the run's numbers, it loads nothing from elsewhere, and no text of a run becomes HTML."""

from __future__ import annotations

import pickle
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from heal.agents.faults import Fault
from heal.agents.options import RunOptions
from heal.agents.records import AgentView, GuardReport, TickResult
from heal.detection.metrics import ApAccumulator
from heal.detection.visibility import SceneVisibility
from heal.tools.report.charts import (
    BOTTOM_PT,
    FULL_WIDTH_PT,
    HEIGHT_PT,
    LEFT_PT,
    MOST_POINTS,
    RIGHT_PT,
    TOP_PT,
    Frame,
    Series,
    bin_means,
    line_chart,
    stacked_chart,
    tick_bins,
    y_ticks,
)
from heal.tools.report.colors import COLORS, agent_color
from heal.tools.report.history import ReportData
from heal.tools.report.page import Report, flat_settings, page_of, render_page, write_report
from heal.tools.report.sections import STATUS_COLORS, faults, messages, traffic
from heal.tools.shared.run_log import RunLog
from heal.types import Float64
from tests.agents.made_ticks import RANGE_M, made_tick, pose_of, troubled_tick
from tests.tools.command import MADE_BY

VOID = {"meta", "img"}
NASTY = '<script>alert("1")</script>&\''


class Reader(HTMLParser):
    """Parser that collects the text and the tags of a page; fails at a tag that is closed out of order.

    Attributes:
        tags: number of elements by tag.
        texts: all text outside of style and title elements.
        links: addresses that the browser would load.
        identifiers: the `id` of every element that has one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tags: dict[str, int] = {}
        self.texts: list[str] = []
        self.links: list[str] = []
        self.identifiers: list[str] = []
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags[tag] = self.tags.get(tag, 0) + 1
        self.links += [value or "" for key, value in attributes if key in ("src", "href", "xlink:href")]
        self.identifiers += [value or "" for key, value in attributes if key == "id"]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("style", "title"):
            self.texts.append(data)

    @staticmethod
    def of(text: str) -> Reader:
        """Read a whole page."""
        reader = Reader()
        reader.feed(text)
        reader.close()
        assert reader._open == []
        return reader


def html_of(report: Report) -> str:
    return render_page(page_of(report))


def reported(*results: TickResult, title: str = "a run", picture: Path | None = None) -> Report:
    log, data = RunLog.of(RunOptions(), RANGE_M), ReportData()
    for result in results:
        log.add(result)
        data.add(result)
    return Report(title, MADE_BY, log, data, {"link": "loss:0.1", "run": {"late": "weigh", "codec": {"kind": "float16"}}}, picture)


def test_a_report_is_one_page_that_loads_nothing(tmp_path: Path) -> None:
    Image.new("RGB", (3000, 1000), "#3fb950").save(tmp_path / "last.png")
    report = reported(*(made_tick(i) for i in range(5)), troubled_tick(5), picture=tmp_path / "last.png")
    write_report(tmp_path / "sub" / "report.html", report)
    text = (tmp_path / "sub" / "report.html").read_text(encoding="utf-8")
    read = Reader.of(text)
    assert [link[:23] for link in read.links] == ["data:image/webp;base64,"]
    assert "url(" not in text and "@import" not in text and "script" not in read.tags and not read.identifiers
    assert read.tags["svg"] == 4 and read.tags["section"] == 9
    assert "prefers-color-scheme: dark" in text and 'name="viewport"' in text


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours, 1 to 21, as WCAG 2 defines it."""
    levels = np.array([[int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)] for color in (one, other)])
    linear = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    dark, light = sorted((linear @ [0.2126, 0.7152, 0.0722]).tolist())
    return float((light + 0.05) / (dark + 0.05))


@pytest.mark.parametrize("ground", ["page", "panel"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_and_marks_stand_out_in_both_themes(theme: str, ground: str) -> None:
    # The least contrasts that WCAG 2.1 asks for: 4.5 for text, 3 for graphics.
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    for name in COLORS.keys() - {"page", "panel", "edge"}:
        least = 4.5 if name in ("ink", "faint") else 3.0
        assert contrast(getattr(COLORS[name], theme), getattr(COLORS[ground], theme)) >= least, name


def test_equal_runs_give_equal_pages() -> None:
    first, second = (html_of(reported(made_tick(0), troubled_tick(1))) for _ in range(2))
    assert first == second


def test_it_shows_what_the_ego_finds_alone_and_what_the_guard_did() -> None:
    plain = made_tick(0)
    guarded = [replace(plain, alone=plain.detections.select(torch.arange(1)), guard=GuardReport(3, 2, 1, ("b",)))] * 2
    page = page_of(reported(*guarded))
    assert [row.ap for row in page.ap] == ["1.000"] * 3 and [row.alone for row in page.ap] == ["0.333"] * 3
    assert page.guard == (
        "Confident boxes of the ego alone: 6; the fusion did not find 4 of them again; "
        "a guard put back 2 and left out b in 2 ticks."
    )
    assert {page.guard, "ego alone", "0.333"} <= set(Reader.of(render_page(page)).texts)
    without = page_of(reported(plain))
    assert without.guard == "" and "Confident" not in render_page(without)


def test_its_headline_has_the_vehicles_hidden_from_the_ego() -> None:
    tick = made_tick(0, found=2)
    ids = tick.ground_truth.ids.numpy()
    visible = replace(tick, visibility=SceneVisibility(ids, ids * 0, ids * 0 + 30), alone=tick.detections.select(torch.arange(1)))
    read = Reader.of(html_of(reported(visible)))
    label = "of 3 vehicles hidden from the ego found, IoU 0.5; by the ego alone 33 %"
    assert read.texts[read.texts.index(label) - 1] == "67 %"
    assert "hidden" not in html_of(reported(tick)).partition("</style>")[2]


def test_its_headline_is_the_runs_score() -> None:
    report = reported(made_tick(0), made_tick(1, found=1), troubled_tick(2))
    read = Reader.of(html_of(report))
    ap = report.log.score.results().ap
    assert [f"{value:.3f}" for value in ap.values()] == [read.texts[read.texts.index(f"AP@{iou:g}") - 1] for iou in ap]
    # Five of nine cars were found; of six messages one came late and one was rejected.
    assert "56 %" in read.texts and "67 %" in read.texts and "of 6 messages used" in read.texts
    assert {"link", "loss:0.1", "run.late", "run.codec.kind", "float16"} <= set(read.texts)


def test_text_from_outside_stays_text() -> None:
    tick = made_tick(0)
    records = tuple(replace(r, agent_id=NASTY, agent_type=NASTY, reason=NASTY, status="rejected", own=False) for r in tick.messages)
    report = reported(replace(tick, messages=records, scene_id=NASTY, faults=(Fault("agent hung", NASTY),)), title=NASTY)
    text = html_of(replace(report, settings={NASTY: NASTY}))
    read = Reader.of(text)
    assert "script" not in read.tags and "alert(" in text
    # Heading, two settings, two cells and a legend entry of traffic, two cells of messages, a reason's agent, a lane, a fault.
    assert sum(text == NASTY for text in read.texts) == 11


@given(st.text(min_size=1))
def test_any_text_is_shown_as_it_is(text: str) -> None:
    shown = Reader.of(render_page(replace(page_of(reported()), title=text, settings=((text, "value"),))))
    assert "".join(shown.texts).count(text) >= 2 and shown.tags == Reader.of(html_of(replace(reported(), settings={"a": 1}))).tags


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
    report = reported(made_tick(0), made_tick(1, b="lost"), troubled_tick(2))
    ego, b, roadside = report.data.agents()
    assert ego.counts.sent == 0
    assert (b.counts.used, b.counts.lost, b.counts.late, b.held, b.counts.bytes) == (1, 1, 1, 1, 6000)
    assert b.reasons == {"lost: on the link": 1, "rejected when it came late: stale": 1}
    assert roadside.reasons == {"rejected: wrong base": 1}
    read = Reader.of(html_of(report))
    cells = [text for text in read.texts[read.texts.index("on board") :] if text.strip()]
    assert cells[1:10] == ["b", "m2", "3", "1", "1", "1", "0", "0", "0"]
    assert report.data.bytes_of("b").tolist() == [2000.0] * 3 and np.isnan(report.data.bytes_of("ego")).all()


def test_a_message_that_was_not_sent_is_no_traffic() -> None:
    died = replace(made_tick(1, b="not sent").messages[1], size_bytes=0, arrival_ns=None, reason="agent crashed")
    ticks = [made_tick(0), replace(made_tick(1), messages=(made_tick(1).messages[0], died, made_tick(1).messages[2]))]
    report = reported(*ticks)
    _, b, _ = messages(report.data).agents
    assert (b.sent, b.on_board, dict(zip(STATUS_COLORS, b.counts, strict=True))["not sent"]) == (1, False, 1)
    assert [(part.width, part.color) for part in b.bar] == [(50.0, "green"), (50.0, STATUS_COLORS["not sent"])]
    section = traffic(report.data)
    assert section is not None and [(row.agent_id, row.messages, row.mean_kb) for row in section.agents] == [
        ("b", 1, 2.0),
        ("-1", 2, 0.5),
    ]
    read = Reader.of(html_of(report))
    assert {"not sent", "not sent: agent crashed"} <= set(read.texts) and "of 3 messages used" in read.texts


def test_bars_of_messages_are_the_shares_of_each_status() -> None:
    _, b, roadside = messages(reported(made_tick(0), made_tick(1, b="lost"), made_tick(2), made_tick(3)).data).agents
    assert [(part.start, part.width, part.color) for part in b.bar] == [(0.0, 75.0, "green"), (75.0, 25.0, "red")]
    assert [(part.start, part.width, part.color) for part in roadside.bar] == [(0.0, 100.0, "green")]


def test_faults_last_until_the_recovery() -> None:
    ticks = [made_tick(i) for i in range(10)]
    ticks[2] = replace(ticks[2], faults=(Fault("agent crashed", "b"), Fault("fusion node hung"), Fault("fusion node restarted")))
    ticks[6] = replace(ticks[6], faults=(Fault("agent rejoined", "b"),))
    ticks[8] = replace(ticks[8], faults=(Fault("agent hung", "b"),))
    b, node = faults(reported(*ticks).data).lanes
    assert [(part.start, part.width, part.color) for part in b.bar] == [(20.0, 40.0, "red"), (80.0, 20.0, "red")]
    assert [(part.start, part.width, part.color) for part in node.bar] == [(20.0, 10.0, "red")]
    assert faults(reported(made_tick(0)).data).rows == ()


def test_runs_without_ticks_messages_or_answers_have_reports_too() -> None:
    assert "Settings" in Reader.of(html_of(reported())).texts
    alone = replace(made_tick(0), messages=made_tick(0).messages[:1], latency=None)
    read = Reader.of(html_of(reported(alone)))
    assert {"No message was sent over a link.", "No faults.", "none"} <= set(read.texts)


def test_traffic_is_written_in_the_unit_that_fits() -> None:
    small, large = made_tick(0), made_tick(0)
    large = replace(large, messages=tuple(replace(record, size_bytes=3_000_000) for record in large.messages))
    sections = [traffic(reported(tick).data) for tick in (small, large)]
    assert [section.chart.frame.title for section in sections if section] == ["kB in each tick", "MB in each tick"]


@given(st.floats(1e-6, 1e12))
def test_axes_end_just_above_the_largest_value_in_few_round_steps(largest: float) -> None:
    values = y_ticks(largest)
    step = float(values[1])
    assert values[0] == 0 and largest * (1 - 1e-6) <= values[-1] <= (largest + step) * (1 + 1e-6)
    assert 2 <= len(values) <= 6 and np.diff(values) == pytest.approx(step)
    assert float(f"{step:.1e}") == pytest.approx(step)


@given(st.integers(0, 2000))
def test_bins_of_a_long_run_hold_every_tick_once(count: int) -> None:
    bins = tick_bins(count)
    assert [i for part in bins for i in range(count)[part]] == list(range(count))
    assert len(bins) == min(count, MOST_POINTS)


def paths(svg: str, color: str) -> list[Float64]:
    """Return the corners (N, 2), x from the left and y from the top in points, of every path in a colour."""
    found = re.findall(rf'<path d="([^"]*)"[^>]*style="[^"]*var\(--{color}\)', svg)
    return [np.array([[float(x), float(y)] for x, y in re.findall(r"[ML] (\S+) (\S+)", path)]) for path in found]


def test_lines_break_where_numbers_are_missing() -> None:
    values = np.array([0.0, 5.0, np.nan, 10.0])
    chart = line_chart(Frame("a chart", 10.0, "kB"), range(4), [Series("a", "red", values)])
    x = LEFT_PT + (np.arange(4) + 0.5) / 4 * (FULL_WIDTH_PT - LEFT_PT - RIGHT_PT)
    bottom, middle = HEIGHT_PT - BOTTOM_PT, (HEIGHT_PT - BOTTOM_PT + TOP_PT) / 2
    [line] = paths(chart.svg, "red")
    # The last number has no neighbour: a line of no length, which round caps turn into a dot.
    assert line == pytest.approx(np.array([[x[0], bottom], [x[1], middle], [x[3], TOP_PT], [x[3], TOP_PT]]), abs=1e-3)
    [commands] = re.findall(r'd="([^"]*)"[^>]*--red', chart.svg)
    assert re.sub(r"[^ML]", "", commands) == "MLML"
    assert [point.text for point in chart.points] == ["tick 0\na: 0 kB", "tick 1\na: 5 kB", "tick 2", "tick 3\na: 10 kB"]
    assert np.isnan(bin_means(values, [slice(2, 3)])).all() and bin_means(values, [slice(1, 4)]).tolist() == [7.5]


def test_layers_add_up_and_reach_both_edges() -> None:
    series = [Series("a", "red", np.full(2, 2.0)), Series("b", "green", np.array([3.0, np.nan]))]
    svg = stacked_chart(Frame("a chart", 10.0), range(2), series).svg
    height = HEIGHT_PT - BOTTOM_PT - TOP_PT
    [lower], [upper] = paths(svg, "red"), paths(svg, "green")
    assert lower[:, 1].min() == pytest.approx(TOP_PT + 0.8 * height) and upper[:, 1].min() == pytest.approx(TOP_PT + 0.5 * height)
    for layer in (lower, upper):
        assert (layer[:, 0].min(), layer[:, 0].max()) == pytest.approx((LEFT_PT, FULL_WIDTH_PT - RIGHT_PT))


def test_agents_have_the_colours_of_the_pictures() -> None:
    colors = [agent_color(position) for position in range(13)]
    assert colors[0] == "agent0" and colors[0] not in colors[1:] and colors[1] == colors[6] == colors[11]
    assert set(colors) <= set(COLORS)


def test_a_colour_of_a_chart_stands_for_one_variable() -> None:
    assert len({color.light for color in COLORS.values()}) == len(COLORS)


def test_it_says_what_made_the_run() -> None:
    texts = set(Reader.of(html_of(reported(made_tick(0)))).texts)
    assert {"Made by", MADE_BY.command, MADE_BY.version, MADE_BY.date, MADE_BY.alliance.hash, "machine.cpu", "a processor"} <= texts


def test_ticks_that_the_wall_clock_has_dropped_are_named() -> None:
    assert page_of(reported(made_tick(0), replace(made_tick(3), dropped=2))).summary.startswith(
        "2 ticks (2 more dropped by the wall"
    )
    assert "dropped" not in page_of(reported(made_tick(0))).summary


def test_settings_are_written_in_words() -> None:
    faults = ({"kind": "crash", "agent": "7"},)
    settings = {"seed": None, "realtime": False, "adapt": True, "faults": (), "list": faults, "text": "", "number": 0, "map": {}}
    shown = dict(page_of(replace(reported(), settings=settings)).settings)
    words = {"seed": "none", "realtime": "off", "adapt": "on", "faults": "none", "text": "none", "number": "0", "map": "none"}
    assert shown == {**words, "list": "kind crash, agent 7"}
    assert not {"None", "True", "False"} & set(Reader.of(html_of(reported(made_tick(0)))).texts)


def test_nested_settings_become_one_list() -> None:
    assert flat_settings({"a": 1, "b": {"c": 2, "d": {"e": None}}, "f": {}}) == [("a", 1), ("b.c", 2), ("b.d.e", None), ("f", {})]
