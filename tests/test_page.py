"""The page of `dvc plots` in a real browser that reaches no network."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import run

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
OFFLINE = ["--host-resolver-rules=MAP * ~NOTFOUND", "--disable-background-networking", "--disable-component-update"]


@pytest.fixture(scope="module")
def page(clone: Path) -> Path:
    """The clone, set up as `make` does it, with an experiment of another learning rate."""
    run(["python", "-m", "tools.page"], clone)
    run(["dvc", "exp", "run", "--name", "slow", "-S", "train.learning_rate=0.001"], clone)
    return clone


def rendered(file: Path) -> tuple[str, list[str]]:
    """The page after its scripts ran, and the errors on the browser's console; Vega warns of DVC's own templates."""
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if not browser and not os.environ.get("CI"):
        pytest.skip(f"no browser: {', '.join(BROWSERS)}")
    assert browser, "CI has to bring a browser"
    command = [
        browser,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        *OFFLINE,
        f"--user-data-dir={file.parent}/profile",
    ]
    command += ["--enable-logging=stderr", "--virtual-time-budget=20000", "--dump-dom", file.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return done.stdout, [line for line in console if '"WARN ' not in line and "uses Vega v5" not in line]


@pytest.mark.parametrize("command", [["show"], ["diff", "HEAD", "slow"]])
def test_every_chart_is_drawn_without_network(page: Path, command: list[str], count: Callable[[str], None]) -> None:
    """As many drawings as specifications, every picture's file is there, and no error."""
    shutil.rmtree(page / "dvc_plots", ignore_errors=True)
    run(["dvc", "plots", *command], page)
    file = page / "dvc_plots/index.html"
    charts = file.read_text().count("vegaEmbed('#")
    pictures = re.findall(r'<img src="(static/[^"]+)"', file.read_text())
    dom, console = rendered(file)
    assert not console
    assert dom.count('class="marks"') == charts >= 5
    assert len(pictures) == 7 * (2 if "diff" in command else 1)
    assert all((file.parent / picture).exists() for picture in pictures)
    count(f"dvc plots {command[0]}: {charts} of {charts} charts and {len(pictures)} pictures without network")
