"""The command line of the stages, and how expected errors end a process."""

import runpy
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from src.params import Params
from src.runtime.cli import exit_on_error, exit_with_error, run_stage
from src.runtime.errors import PipelineError
from tests.helpers import ROOT, command_of


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with the params.yaml of the project."""
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_STAGE", raising=False)
    return tmp_path


def set_command_line(monkeypatch: pytest.MonkeyPatch, *options: str) -> None:
    monkeypatch.setattr(sys, "argv", ["stages/count.py", *options])


@pytest.mark.usefixtures("folder")
def test_arguments_of_main_become_options(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def main(params: Params, prepared: Path, model_card: Path) -> None:
        calls.append((params.prepare.seed, prepared, model_card))

    set_command_line(monkeypatch, "--prepared", "data/prepared", "--model-card", "card.md")
    run_stage(main)
    assert calls == [(0, Path("data/prepared"), Path("card.md"))]


def test_missing_option_is_an_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    set_command_line(monkeypatch)
    with pytest.raises(SystemExit) as end:
        run_stage(lambda params, prepared: None)
    assert end.value.code == 2
    assert "python -m stages.count: error: the following arguments are required: --prepared" in capsys.readouterr().err


def test_stage_holds_its_lock(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_command_line(monkeypatch)
    found = []
    run_stage(lambda params: found.append((folder / ".dvc/tmp/count.lock").exists()))
    assert found == [True]


def test_worker_processes_take_no_lock(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under torchrun the main process holds the lock while the others work."""
    set_command_line(monkeypatch)
    monkeypatch.setenv("RANK", "1")
    found = []
    run_stage(lambda params: found.append((folder / ".dvc/tmp/count.lock").exists()))
    assert found == [False]


def test_invalid_params_end_a_stage_before_any_work(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (folder / "params.yaml").read_text()
    (folder / "params.yaml").write_text(text.replace("batch_size:", "batch_siz:"))
    set_command_line(monkeypatch)
    with pytest.raises(SystemExit) as end:
        run_stage(lambda params: pytest.fail("main was called"))
    assert end.value.code == 1
    assert capsys.readouterr().err == (
        "error: params.yaml has 2 mistakes:\n"
        "       train.batch_size: missing\n"
        "       train.batch_siz: unknown key; did you mean batch_size?\n"
        "hint: dvc params diff   # correct the values, then: dvc repro\n"
    )


@pytest.mark.parametrize("stage", ["prepare", "inspect", "train", "evaluate", "plot"])
def test_inspect_and_plot_do_not_check_the_network(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stage: str
) -> None:
    """They build none. They end with another error, because their files are missing."""
    text = (folder / "params.yaml").read_text()
    (folder / "params.yaml").write_text(text.replace("name: dash32", "name: zebra"))
    monkeypatch.setattr(sys, "argv", [f"{stage}.py", *command_of(stage)[3:]])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / f"stages/{stage}.py"), run_name="__main__")
    assert end.value.code == 1
    assert ("unknown model `zebra`" in capsys.readouterr().err) == (stage not in ("inspect", "plot"))


@pytest.mark.parametrize(
    ("error", "status", "printed"),
    [
        (PipelineError("no cake", "make cake"), 1, "error: no cake\nhint: make cake\n"),
        (
            OSError(28, "No space left on device", "it's/a.bin"),
            1,
            "error: it's/a.bin cannot be read or written: No space left on device\n"
            "hint: df -h . && ls -ld 'it'\"'\"'s/a.bin'   # then repeat the command\n",
        ),
        (
            KeyboardInterrupt("the state is saved"),
            130,
            "error: interrupted: the state is saved\nhint: python -m tools.sweep tiny\n",
        ),
    ],
)
def test_expected_errors_are_printed_without_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    error: BaseException, status: int, printed: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(sys, "orig_argv", ["/usr/bin/python3", "-m", "tools.sweep", "tiny"])
    with pytest.raises(SystemExit) as end, exit_on_error():
        raise error
    assert end.value.code == status
    assert capsys.readouterr().err == printed


def test_interrupted_stage_names_dvc_repro(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def main(params: Params) -> None:
        raise KeyboardInterrupt("no output is recorded")

    set_command_line(monkeypatch)
    with pytest.raises(SystemExit) as end:
        run_stage(main)
    assert end.value.code == 130
    assert capsys.readouterr().err == (
        "error: interrupted: no output is recorded\nhint: dvc repro   # a training run resumes from its checkpoint\n"
    )


def test_bugs_keep_their_traceback() -> None:
    with pytest.raises(ZeroDivisionError), exit_on_error():
        _ = 1 / 0


def test_exit_with_error_ignores_further_signals(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        exit_with_error("error: a", status=3)
    assert (end.value.code, capsys.readouterr().err) == (3, "error: a\n")
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN


def test_unsupported_system_is_an_error() -> None:
    code = "import sys; sys.platform = 'win32'; import src.runtime.cli"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: this system is win32, expected Linux or macOS\nhint: wsl --install")
