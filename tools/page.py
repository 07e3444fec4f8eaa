"""Create the page template of `dvc plots` with its scripts inlined, so that it works offline.

python -m tools.page      `make` runs this when it creates .venv
"""

import subprocess
from pathlib import Path

import vl_convert

from src.runtime.files import write_text

TEMPLATE, PAGE = Path(__file__).with_suffix(".html"), Path(".dvc/plots/page.html")


def main() -> None:
    # Vega, Vega-Embed, and Vega-Lite in the version of DVC's chart templates
    scripts = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version="5.20")
    write_text(PAGE, TEMPLATE.read_text().replace("SCRIPTS", scripts))
    subprocess.run(["dvc", "config", "--local", "plots.html_template", "plots/page.html"], check=True)


if __name__ == "__main__":
    main()
