"""One file per network. `src/models/registry.py` imports all of them."""
