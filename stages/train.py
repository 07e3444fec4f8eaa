"""Train the network, evaluate and calibrate it on the validation images, and save it."""

from pathlib import Path

from torchinfo import summary

from src.data.dataset import load_split
from src.data.predictions import margins_table, predictions_table
from src.data.tensor_file import save_tensors
from src.device import set_up_device
from src.models.build import build_network
from src.models.calibration import calibrate
from src.models.model_file import save_model
from src.params.augmentation import AugmentationParams
from src.params.compute import ComputeParams
from src.params.model import ModelParams
from src.params.train import TrainParams
from src.runtime.cli import run_stage
from src.runtime.files import main_checkout, write_csv, write_json, write_table
from src.training import loop
from src.training.checkpoint import Checkpoint, describe_run, run_hash
from src.training.distributed import explain_torch_errors, is_main_process, join_process_group, replace_with_torchrun
from src.training.hold_out import split_training_images
from src.training.state import Metrics, TrainState

SHOWN = 40  # images in metrics/augmented.png


def main(
    model: ModelParams,
    train: TrainParams,
    augmentation: AugmentationParams,
    compute: ComputeParams,
    prepared: Path,
    checkpoints: Path,
    model_dir: Path,
    metrics_dir: Path,
) -> None:
    pool = load_split(prepared, "train")
    train_set, validation_set = split_training_images(pool, train)
    train.check(len(train_set), compute.processes)
    setup = set_up_device(compute)
    net = build_network(model, len(pool.classes), pool.image_shape, train.seed)
    # with several processes, torchrun runs this stage again in each of them; the checks above come first, to fail once
    replace_with_torchrun(compute, setup.device)
    sections = {"model": model, "train": train, "augmentation": augmentation, "compute": compute}
    run = describe_run(sections, prepared)
    key = run_hash(run, setup.environment)
    join_process_group(setup, key)
    print(summary(net, (1, *pool.image_shape), depth=2, device="cpu", verbose=0, row_settings=("ascii_only", "depth")))
    print(setup, flush=True)
    sizes = {
        "num_params": sum(weight.numel() for weight in net.parameters()),
        "train_images": len(train_set),
        "validation_images": len(validation_set),
    }

    def write_metrics(history: list[Metrics]) -> None:
        if is_main_process():
            write_csv(metrics_dir / "history.csv", list(history[0]), [list(row.values()) for row in history])
            write_json(metrics_dir / "train.json", {**sizes, **history[-1]})

    checkpoint = Checkpoint(main_checkout(checkpoints), key)
    with explain_torch_errors(train.batch_size), checkpoint.exclusive():
        state = TrainState(net, train_set, train, augmentation, setup, model.pretrained)
        first_batch = loop.first_batch(state, train_set, SHOWN)
        loop.train(state, train_set, validation_set, checkpoint, on_eval=write_metrics)
        margins, rivals = state.margins.mean()
        if is_main_process():
            log_probabilities = calibrate(state.classifier, validation_set, setup.device)
            save_model(model_dir / "model.safetensors", state.classifier, train_set, setup.environment, run)
            write_table(model_dir / "validation.csv", predictions_table(validation_set, log_probabilities))
            write_table(model_dir / "margins.csv", margins_table(train_set, margins, rivals))
            save_tensors(model_dir / "first_batch.safetensors", first_batch, {})
            checkpoint.remove()


if __name__ == "__main__":
    run_stage(main)
