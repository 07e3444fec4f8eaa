"""The page of `dvc plots` in a real browser that has no network."""

import os
import re
import shutil
from pathlib import Path

import pytest

from tests.helpers import run

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
OFFLINE = ["--host-resolver-rules=MAP * ~NOTFOUND", "--disable-background-networking", "--disable-component-update"]


def render(file: Path) -> tuple[str, list[str]]:
    """Return the page after its scripts ran, and the messages on the browser's console but for Vega's warnings."""
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if not browser and not os.environ.get("CI"):
        pytest.skip(f"no browser: {', '.join(BROWSERS)}")
    assert browser, "CI has to install a browser"
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", *OFFLINE]
    command += [f"--user-data-dir={file.parent}/profile", "--enable-logging=stderr", "--virtual-time-budget=20000"]
    done = run([*command, "--dump-dom", file.as_uri()], file.parent)
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return done.stdout, [line for line in console if '"WARN ' not in line and "uses Vega v5" not in line]


@pytest.mark.parametrize(("command", "revisions"), [(["show"], 1), (["diff", "HEAD", "short"], 2)])
def test_every_plot_is_drawn_without_network(experiment: Path, command: list[str], revisions: int) -> None:
    """There are as many drawings as specifications, every picture exists, and the console shows no error."""
    run(["python", "-m", "tools.page"], experiment)  # as `make` does
    run(["dvc", "plots", *command], experiment)
    file = experiment / "dvc_plots/index.html"
    page = file.read_text()
    charts, pictures = page.count("vegaEmbed('#"), re.findall(r'<img src="(static/[^"]+)"', page)
    dom, console = render(file)
    assert not console
    styled = re.findall(r"^#(\w+)", (experiment / "tools/page.html").read_text(), re.MULTILINE)
    assert all(f'id="{name}"' in dom for name in styled)
    assert dom.count('class="marks"') == charts >= 5
    assert len(pictures) == revisions * len(list((experiment / "metrics").glob("*.png")))
    assert all((file.parent / picture).exists() for picture in pictures)
