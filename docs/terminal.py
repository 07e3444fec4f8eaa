"""Run commands in this project and draw them with their output as a terminal: docs/terminal.svg.

python -m docs.terminal
"""

import subprocess
from pathlib import Path

from rich.console import Console
from rich.text import Text

COMMANDS = {  # command: which lines of its output to show
    "dvc repro": slice(-4, None),
    "dvc exp run --temp --quiet --force --name one-epoch -S train.epochs=1": slice(-3, None),
    "dvc exp show --only-changed --no-pager --drop '.*' --keep '^accuracy$|^train.epochs$|Experiment'": slice(None),
    "python -m tools.compare HEAD one-epoch": slice(17),
    "python -m tools.predict docs/photo.jpg": slice(None),
}
# rich's own template loads a font from the network
SVG = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: {char_height}px;
  line-height: {line_height}px; }}
{styles}
</style>
<defs>{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})">{backgrounds}<g class="{unique_id}-matrix">{matrix}</g></g>
</svg>
"""


def main() -> None:
    console = Console(record=True, width=110, force_terminal=True)
    for command, shown in COMMANDS.items():
        done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)  # noqa: S602
        lines = done.stdout.rstrip().splitlines()
        console.print(Text(f"$ {command}", style="bold"))
        if shown.start:
            console.print(Text("...", style="dim"))
        console.print(Text("\n".join(lines[shown])))
        if shown.stop:
            console.print(Text("...", style="dim"))
    subprocess.run(["dvc", "exp", "remove", "--quiet", "one-epoch"], check=True)
    Path("docs/terminal.svg").write_text(console.export_svg(title="mnist-dvc-pipeline", code_format=SVG))


if __name__ == "__main__":
    main()
