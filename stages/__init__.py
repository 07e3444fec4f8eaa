"""The stages of the pipeline. Without the garbage collector, their imports take a fifth less time."""

import gc
import sys

if sys.argv[0] == "-m":  # python -m stages.train
    gc.disable()  # until `run_stage`
