"""Experiments in a copy of the tree, failed experiments, a damaged cache, model versions, and the run cache."""

import os
import re
import shutil
from pathlib import Path

from tests.helpers import ROOT, recorded_outputs, run, stages_run

MODEL = "data/model/model.safetensors"


def test_experiment_in_a_copy_imports_the_code_of_the_copy_and_finds_the_raw_files(clone: Path) -> None:
    """Another split needs the raw files. The copy of the tree has no data/raw, and there is no network."""
    marker, code = clone / "imported.txt", clone / "src/data/dataset.py"
    code.write_text(f"{code.read_text()}\n\nimport pathlib\n\npathlib.Path({str(marker)!r}).write_text(__file__)\n")
    run(["dvc", "exp", "run", "--temp", "--name", "other-split", "-S", "prepare.test=0.2", "prepare"], clone)
    assert "other-split" in run(["dvc", "exp", "show", "--csv", "--only-changed"], clone).stdout
    assert "other-split" not in run(["git", "status", "--porcelain"], clone).stdout
    assert clone / ".dvc/tmp/exps" in Path(marker.read_text()).parents


def test_failed_experiment_is_named_in_its_hint_and_is_undone_as_written(clone: Path) -> None:
    command = ["dvc", "exp", "run", "--name", "odd", "-S", "train.batch_size=93"]
    done = run(command, clone, check=False)
    assert "hint: dvc exp run --name odd -S train.batch_size=94   # or" in done.stderr
    (undo,) = re.findall("`(touch params.yaml [^`]*)`", (ROOT / "docs/workflow.md").read_text())
    run(["bash", "-c", undo], clone)
    assert not run(["git", "status", "--porcelain"], clone).stdout


def test_flipped_bit_in_the_cache_is_noticed(clone: Path) -> None:
    """DVC does not notice it, because size and time of the file stay the same. The stage that reads the file does."""
    digest = recorded_outputs(clone)[MODEL]
    cached = clone / ".dvc/cache/files/md5" / digest[:2] / digest[2:]
    stat, content = cached.stat(), bytearray(cached.read_bytes())
    content[len(content) // 2] ^= 1
    run(["dvc", "status"], clone)  # DVC remembers the intact files by size and time
    cached.chmod(0o644)
    cached.write_bytes(content)
    os.utime(cached, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    cached.chmod(stat.st_mode)
    (clone / MODEL).unlink()
    run(["dvc", "checkout", "--force", MODEL], clone)
    assert (clone / MODEL).read_bytes() == content
    done = run(["dvc", "repro", "--force", "--single-item", "evaluate"], clone, check=False)
    assert done.returncode
    assert f"error: {MODEL} is not" in done.stderr
    assert "the content has SHA-256" in done.stderr
    assert "hint: dvc repro --force --single-item" in done.stderr


def test_model_version_is_fetched_by_its_tag(clone: Path, tmp_path: Path) -> None:
    """`gto register` adds a git tag, and `dvc artifacts get` needs only the repository and its remote."""
    run(["dvc", "remote", "add", "--local", "--default", "store", str(tmp_path / "store")], clone)
    run(["dvc", "push"], clone)
    run(["gto", "register", "mnist-net", "--version", "v1.0.0"], clone)
    assert "v1.0.0" in run(["gto", "show"], clone).stdout
    run(["dvc", "artifacts", "get", str(clone), "mnist-net", "--rev", "v1.0.0", "-o", "got"], tmp_path)
    assert (tmp_path / "got").read_bytes() == (clone / MODEL).read_bytes()


def test_changing_a_parameter_back_restores_results_from_the_run_cache(finished_clone: Path, experiment: Path) -> None:
    shutil.copy(finished_clone / "params.yaml", experiment)
    done = run(["dvc", "repro"], experiment)
    assert stages_run(done.stdout) == ["plot"]  # the model card is in git, and DVC's run cache is for its own outputs
    assert recorded_outputs(experiment) == recorded_outputs(finished_clone)
    assert not run(["git", "status", "--porcelain", "dvc.lock", "metrics"], experiment).stdout
