"""`heal compare` end to end with tiny networks: report, tables, cache, a broken method, a kill in the middle."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from heal.agents.fusion.tick_fusion import MapFusion
from heal.errors import UserError
from heal.tools.comparing.data import folder_of, write_town
from heal.tools.comparing.evaluating import EvaluationTask, Networks
from heal.tools.comparing.plan import plan_comparison
from heal.tools.comparing.results import RESULTS_NAME
from heal.tools.comparing.spec import TownData, load_spec
from heal.tools.comparing.training import DONE
from heal.tools.comparing.work import Workshop
from heal.tools.shared.paths import CONFIGS
from tests.tools.command import generate_town, run_command
from tests.tools.comparing.micro import micro, save_spec

pytestmark = pytest.mark.ray
PATIENCE_S = 300.0
BROKEN = {"stage1": {"training": {"learning_rate": 1.0e30}}}
DEMO = CONFIGS / "demo" / "alliance"


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with scenes of a tiny town."""
    path = tmp_path_factory.mktemp("compared") / "town"
    generate_town(path)
    return path


@pytest.fixture(scope="module")
def done(town: Path) -> Path:
    """Return the folder of a comparison in which one method has failed."""
    values = micro(town, methods={**micro(town)["methods"], "broken": BROKEN})
    run_command("compare", save_spec(town.parent / "spec.yaml", values), "--workers", 2, "--out", town.parent / "out")
    return town.parent / "out"


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / RESULTS_NAME).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_report_has_all_methods_and_says_what_failed(done: Path) -> None:
    text = (done / "report.html").read_text(encoding="utf-8")
    assert "<svg" in text and "http" not in text.replace("http://www.w3.org", "")
    written = json.loads((done / "compare.json").read_text())
    found = {(row["method"], row["condition"]): row["seeds"] for row in written["rows"]}
    assert found == {(method, condition): 2 for method in ("pyramid", "f_cooper") for condition in ("perfect", "noisy")}
    assert {name.partition(":")[0] for name in written["failures"]} == {"broken"}
    assert "the loss is nan" in text and all(cause.startswith("the loss is nan") for cause in written["failures"].values())


def test_the_tables_have_every_run_and_every_method(done: Path) -> None:
    runs = {(row["method"], row["condition"], row["seed"]) for row in table(done)}
    assert runs == {(m, c, s) for m in ("pyramid", "f_cooper") for c in ("perfect", "noisy") for s in ("0", "1")}
    sizes = {(row["condition"], float(row["value"])) for row in table(done) if row["measure"] == "bytes per message"}
    perfect, noisy = ([size for name, size in sizes if name == condition] for condition in ("perfect", "noisy"))
    assert min(perfect) > 8 * 32 * 16 * 4 and max(noisy) < min(perfect) / 3  # float32 without a codec, int8 with one
    with (done / "costs.csv").open(encoding="utf-8") as file:
        costs = {row["method"]: row for row in csv.DictReader(file)}
    assert costs["pyramid"]["trained_at_once"] == costs["f_cooper"]["trained_at_once"] != costs["pyramid"]["parameters"]
    assert float(costs["pyramid"]["gflop"]) > float(costs["f_cooper"]["gflop"]) > 0


def test_what_is_done_is_not_done_again(done: Path) -> None:
    spec = done.parent / "spec.yaml"
    with pytest.raises(UserError, match=r"already holds .*compare\.json|already holds the output of `heal compare"):
        run_command("compare", spec, "--out", done)
    before, times = (done / RESULTS_NAME).read_bytes(), {path: path.stat().st_mtime_ns for path in done.rglob("*.safetensors")}
    methods = ["--set", "methods={pyramid: {}, f_cooper: {stage1: {base: {fusion: {kind: f_cooper}}}}}"]
    planned = run_command("compare", spec, *methods, "--out", done, "--dry-run")
    assert "8 trainings: 8 there, 0 missing" in planned and "8 evaluations: 8 there, 0 missing" in planned
    run_command("compare", spec, *methods, "--out", done, "--overwrite")
    assert (done / RESULTS_NAME).read_bytes() == before
    assert {path: path.stat().st_mtime_ns for path in done.rglob("*.safetensors")} == times
    assert json.loads((done / "compare.json").read_text())["failures"] == {}


def test_a_killed_comparison_goes_on_to_the_same_tables(done: Path, town: Path, tmp_path: Path) -> None:
    spec, out = save_spec(tmp_path / "spec.yaml", micro(town, seeds=[0])), tmp_path / "out"
    command = [sys.executable, "-m", "heal.tools.cli", "compare", str(spec), "--workers", "2", "--out", str(out)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
        until = time.monotonic() + PATIENCE_S
        while not list(out.glob(f"trained/*/{DONE}")):
            assert run.poll() is None and time.monotonic() < until
            time.sleep(0.1)
        run.kill()
    assert 0 < len(list(out.glob(f"trained/*/{DONE}"))) < 4 and not (out / RESULTS_NAME).exists()
    run_command("compare", spec, "--workers", 2, "--out", out)
    assert table(out) == [row for row in table(done) if row["seed"] == "0"]


def test_the_numbers_are_those_of_heal_evaluate(town: Path, tmp_path: Path) -> None:
    """On networks that find something: those of the demo."""
    run_command("evaluate", "--alliance", DEMO, "--data", town, "--types", "m1", "--pictures", 0, "--out", tmp_path / "evaluation")
    metrics = json.loads((tmp_path / "evaluation" / "metrics.json").read_text())
    values = micro(town, types={"m1": "demo/agents/m1"}, conditions={"perfect": {}}, methods={"pyramid": {}}, seeds=[0])
    shop = Workshop(plan_comparison(load_spec(save_spec(tmp_path / "spec.yaml", values))), tmp_path)
    [entrant] = shop.plan.entrants
    networks = Networks("joint", (DEMO,), ("m1",), tmp_path / "unused")
    task = EvaluationTask(entrant, entrant.evaluations, networks, shop.data("town"), 0, shop.evaluated, "cpu")
    assert task.run() == {}
    score = json.loads((shop.evaluated / entrant.evaluations[0].key / "score.json").read_text())
    assert score["ap"] == metrics["ap"] and metrics["ap"]["0.5"] > 0.1
    assert score["bytes_per_message"] == metrics["bytes_per_message"]


def test_a_fusion_that_fails_is_no_result(town: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fusion node would fall back to the ego alone."""

    def broken(*_: object) -> object:
        raise RuntimeError("wrong shapes")

    monkeypatch.setattr(MapFusion, "_heads", broken)
    values = micro(town, types={"m1": "demo/agents/m1"}, conditions={"perfect": {}}, methods={"pyramid": {}}, seeds=[0])
    shop = Workshop(plan_comparison(load_spec(save_spec(tmp_path / "spec.yaml", values))), tmp_path)
    [entrant] = shop.plan.entrants
    networks = Networks("joint", (DEMO,), ("m1",), tmp_path / "unused")
    task = EvaluationTask(entrant, entrant.evaluations, networks, shop.data("town"), 0, shop.evaluated, "cpu")
    [cause] = task.run().values()
    assert "was not fused: fusion failed: RuntimeError: wrong shapes" in cause and not shop.evaluated.exists()


def test_a_town_is_written_once_with_both_splits(tmp_path: Path) -> None:
    from rich.console import Console

    data = TownData(preset="test", train_frames=1, test_frames=1)
    folder = folder_of(data, tmp_path)
    write_town(data, folder.root, 1, Console(quiet=True))
    source, ticks = folder.open_test()
    assert len(source) == len(ticks) == 1 and (folder.root / "OPV2V" / "train").is_dir()
    shutil.rmtree(folder.root / "OPV2V")
    write_town(data, folder.root, 1, Console(quiet=True))
    assert not (folder.root / "OPV2V").exists()
