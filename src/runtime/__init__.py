"""How a stage runs."""

import sys

if sys.platform not in ("linux", "darwin"):
    message = f"error: this system is {sys.platform}, expected Linux or macOS"
    raise SystemExit(f"{message}\nhint: wsl --install   # Linux on Windows; then repeat the command there")
