"""The commands of README and docs, pasted page by page into a shell, as a reader does; `make pasted` runs them.

Each runs in a short form: few frames and towns, one epoch. With HEAL_PASTE=whole they run as they stand there, which takes hours.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real_data import real_root

ROOT = Path(__file__).resolve().parents[2]
DAIR_ROOT = real_root() / "dair_v2x_example"
WHOLE = os.environ.get("HEAL_PASTE") == "whole"

# In this order, as some pages use what earlier ones have made.
PAGES = (
    "README.md",
    "docs/jobs/evaluate.md",
    "docs/jobs/train.md",
    "docs/jobs/compare.md",
    "docs/new_agent_type.md",
    "docs/new_fusion.md",
    *(
        f"docs/{name}.md"
        for name in (
            "data",
            "doctor",
            "your_data",
            "models",
            "guard",
            "lying_senders",
            "links",
            "cluster",
            "door",
            "security",
            "runtime",
            "seeing",
            "outputs",
            "performance",
            "robustness",
        )
    ),
)

# These use what README has made, or what one of them has.
AFTER_README = (
    "README.md",
    *(f"docs/{name}.md" for name in ("jobs/evaluate", "jobs/train", "data", "models", "runtime", "outputs")),
)

# `reproduce.md` needs the whole of OPV2V and days, the results need hours.
PAGES_LEFT_OUT = {"docs/reproduce.md", "docs/results/attacks.md", "docs/results/town_small.md"}

# What is not pasted: a pattern of the command, and why.
LEFT_OUT = {
    r"^make (demo|test)\b": "CI runs it by itself",
    r"^\. \.venv": "the environment of the tests is on PATH",
    r"^heal view\b": "serves until Ctrl-C, or opens a window; the viewer has tests of its own",
    r"--address|^ray (start|status)|RAY_AUTH_MODE": "needs a cluster; tests/agents/on_ray runs on one",
    r"metrics_port|:8085": "runs for ten minutes; the metrics have a test of their own",
    r"^docker\b": "needs Docker",
    r"--device cuda\b": "needs a GPU",
    r"^heal (--plugin \S+ )?bench\b": "measures for an hour; the benches have tests of their own",
    r"^heal sweep attacks\b": "tells every lie twice, which takes minutes; tests/tools/sweeps tells some",
    r"^heal import LOGS": "LOGS stands for run folders of HEAL, which tests/heal/opencood reads",
    r"^heal export runs/(detectors|baselines)": "exports what is imported from LOGS",
    r"^heal assign DATA\b": "DATA stands for any data set",
    r"^python -m tests\.long": "needs a clone of the repository; tests/long tests it",
}

_DAIR = re.compile(r"DAIR_ROOT|runs/dair")  # commands that read real data, and what was made of it
_VIEW = re.compile(r" --view (web|native)")  # is pasted without, for the same reason as `heal view`
_BLOCK = re.compile(r"^( *)```sh\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"^```\w+ (runs/\S+)\n(.*?)^```", re.MULTILINE | re.DOTALL)  # a file that the reader writes


def commands(page: str) -> Iterator[str]:
    """Yield the commands of a page's shell blocks; a loop is one command."""
    for block in _BLOCK.finditer(page):
        lines = block[2].replace("\\\n", " ").splitlines()
        command = ""
        for line in lines:
            command += line.strip() + "\n"
            if not re.match(r"for .*", command) or line.strip() == "done":
                yield command.strip()
                command = ""
        assert not command, f"a loop without its end: {command}"


def shortened(command: str) -> str:
    """Return the short form of a command."""
    command = re.sub(r"--frames \d+", "--frames 4", command)
    command = re.sub(r"training\.epochs=\d+", "training.epochs=1", command)
    command = re.sub(r"--towns \d+ --ticks \d+", "--towns 1 --ticks 1", command)
    command = re.sub(r"(heal alliance statistics .*)--towns \d+", r"\1--towns 8", command)
    command = re.sub(r"(heal simulate (?!.*--fault)[^#]*)", r"\1 --ticks 4 ", command)  # the last counts; faults have their ticks
    return re.sub(r"^(\s*heal train .*)$", r"\1 --set training.epochs=1", command, flags=re.MULTILINE)


def is_pasted(command: str) -> bool:
    """Return whether a command is run: it is not left out, and its data are there."""
    return not any(re.search(pattern, command) for pattern in LEFT_OUT) and (DAIR_ROOT.exists() or not _DAIR.search(command))


@pytest.fixture(scope="class")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the shipped configs, in which the commands of pages run one after the other."""
    made = tmp_path_factory.mktemp("clone")
    shutil.copytree(ROOT / "configs", made / "configs")
    return made


# Two classes, as pytest-xdist's `loadscope` keeps the tests of a class in one process, in their order.
@pytest.mark.pasted
class TestPagesAfterReadme:
    """README and the pages that use what it has made."""

    @pytest.mark.parametrize("page", AFTER_README)
    def test_the_commands_of_a_page_work_as_pasted(self, page: str, folder: Path) -> None:
        _paste_page(page, folder)


@pytest.mark.pasted
class TestOtherPages:
    """All other pages."""

    @pytest.mark.parametrize("page", [page for page in PAGES if page not in AFTER_README])
    def test_the_commands_of_a_page_work_as_pasted(self, page: str, folder: Path) -> None:
        _paste_page(page, folder)


def _paste_page(page: str, folder: Path) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for path, content in _FILE.findall(text):
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(content, encoding="utf-8")
    for command in commands(text):
        if is_pasted(command):
            done = _paste(command, folder)
            assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


def _paste(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    text = _VIEW.sub("", command if WHOLE else shortened(command)).replace("DAIR_ROOT", str(DAIR_ROOT))
    bin_folder = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    return subprocess.run(["sh", "-ec", text], cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_every_page_is_pasted_and_every_exception_is_used() -> None:
    pages = {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")} | {"README.md"}
    with_commands = {page for page in pages if "```sh" in (ROOT / page).read_text(encoding="utf-8")}
    assert with_commands - set(PAGES) == PAGES_LEFT_OUT
    everything = [command for page in PAGES for command in commands((ROOT / page).read_text(encoding="utf-8"))]
    assert len(everything) > 40
    for pattern in LEFT_OUT:
        assert any(re.search(pattern, command) for command in everything), f"no command is left out by {pattern}"
