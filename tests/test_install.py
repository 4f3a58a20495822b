"""The wheel works where there is no checkout: built, installed into an empty environment, run from another folder."""

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    source = out / "source"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(source)], check=True)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    return next(out.glob("*.whl"))


def test_the_wheel_holds_every_folder_and_the_shipped_weights(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for expected in (
        "heal/py.typed",
        "heal/agents/agent.py",
        "heal/datasets/opv2v/source.py",
        "heal/datasets/town/source.py",
        "heal/tools/cli.py",
    ):
        assert expected in names
    configs = {f"heal/{path.relative_to(ROOT)}" for path in (ROOT / "configs").rglob("*") if path.is_file()}
    assert "heal/configs/demo/alliance/base/base.safetensors" in configs and configs <= set(names)
    assert all(name.startswith(("heal/", "heal_perception-")) for name in names)


def test_the_installed_command_runs_from_another_folder(wheel: Path, tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    # The heavy dependencies (torch is several GB) come from this environment; the package itself only from the wheel.
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    site = subprocess.run(
        [python, "-c", "import site; print(site.getsitepackages()[0])"], check=True, capture_output=True, text=True
    )
    paths = [entry for entry in sys.path if entry.endswith("site-packages")]
    Path(site.stdout.strip(), "dependencies.pth").write_text("\n".join(paths) + "\n", encoding="utf-8")
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", "--force-reinstall", wheel], check=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for arguments in (["--help"], ["info"]):
        result = subprocess.run(
            [environment / "bin" / "heal", *arguments], cwd=elsewhere, capture_output=True, text=True, check=True
        )
        assert "heal" in result.stdout
    where = subprocess.run(
        [python, "-c", "import heal.agents.agent as a; print(a.__file__)"],
        cwd=elsewhere,
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(environment) in where.stdout
