"""The stages of the pipeline. Their imports take a fifth less time without the garbage collector."""

import gc

gc.disable()  # until `run_stage`
