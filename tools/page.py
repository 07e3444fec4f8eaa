"""Give `dvc plots` a page that carries its scripts, so that it draws without a network. `make` runs this at set-up."""

import subprocess
from pathlib import Path

import vl_convert

from src.runtime.files import write_text

PAGE = Path(".dvc/plots/page.html")
TEMPLATE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
{refresh_tag}
<title>Plots</title>
<style>
body { margin: 2rem auto; max-width: 80rem; padding: 0 1rem; font: 15px system-ui, sans-serif; color: #24292f; }
body { display: grid; grid-template-columns: repeat(auto-fit, minmax(36rem, 1fr)); gap: 2.5rem; align-items: start; }
body > div, body > div > div { border: 0 !important; margin: 0 !important; text-align: left !important; }
body > div:has(> div:nth-of-type(2) > img) { grid-column: 1 / -1; white-space: normal !important; }
body > div > p { margin: 0; font-weight: 600; }
body > div > div > p { margin: 0.25rem 0; color: #57606a; }
img { max-width: 37rem; height: auto; }
</style>
<script>
SCRIPTS
</script>
</head>
<body>
{plot_divs}
</body>
</html>
"""


def main() -> None:
    # Vega, Vega-Lite in the version that DVC's charts are written for, and Vega-Embed
    scripts = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version="5.20")
    write_text(PAGE, TEMPLATE.replace("SCRIPTS", scripts))
    subprocess.run(["dvc", "config", "--local", "plots.html_template", "plots/page.html"], check=True)


if __name__ == "__main__":
    main()
