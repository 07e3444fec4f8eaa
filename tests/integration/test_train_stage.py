"""Start-up of the stage `train`."""

from pathlib import Path

from tests.helpers import ROOT, command_of, run


def test_training_with_the_default_recipe_does_not_import_dynamo(prepared: Path) -> None:
    """It takes as long to import as the rest of torch."""
    _, *words = command_of("train")
    done = run(["python", "-X", "importtime", *words], prepared, PYTHONPATH=str(ROOT))
    assert "torch.optim" in done.stderr
    assert "torch._dynamo" not in done.stderr
