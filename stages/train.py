"""Train the network, evaluate and calibrate it on the validation images, and save it."""

from pathlib import Path

from src.data.dataset import load_split
from src.data.predictions import predictions_table
from src.data.split import split_training_images
from src.device import set_up_device
from src.models.calibration import calibrate
from src.models.model_file import save_model
from src.models.pretrained import build_network
from src.models.summary import model_summary
from src.params.augmentation import AugmentationParams
from src.params.compute import ComputeParams
from src.params.model import ModelParams
from src.params.train import TrainParams
from src.runtime.cli import run_stage
from src.runtime.files import main_checkout, write_csv, write_json
from src.training import loop
from src.training.checkpoint import Checkpoint, describe_run, run_hash
from src.training.distributed import explain_torch_errors, is_main_process, join_process_group, launch_workers


def main(
    model: ModelParams,
    train: TrainParams,
    augmentation: AugmentationParams,
    compute: ComputeParams,
    prepared: Path,
    checkpoints: Path,
    model_path: Path,
    predictions_path: Path,
    metrics_dir: Path,
) -> None:
    pool = load_split(prepared, "train")
    training, held_out = split_training_images(pool, train.validation, train.folds, train.fold)
    train_set, validation_set = pool[training], pool[held_out]
    shape = train_set.image_shape
    train.check(len(train_set), compute.processes)
    setup = set_up_device(compute)
    net = build_network(model, len(train_set.classes), shape, train.seed)
    launch_workers(compute, setup.device)
    # if compute.processes is above 1, torchrun runs this stage again in each process, and all of them continue here
    sections = {"model": model, "train": train, "augmentation": augmentation, "compute": compute}
    run = describe_run(sections, prepared)
    join_process_group(setup, run_hash(run | {"environment": setup.environment}))
    if is_main_process():
        print(f"{model_summary(net, shape)}\n{setup}", flush=True)
    num_params = sum(parameter.numel() for parameter in net.parameters())
    counts = {"train_images": len(train_set), "validation_images": len(validation_set)}

    def write_metrics(history: list[loop.Metrics]) -> None:
        if is_main_process():
            write_csv(metrics_dir / "history.csv", list(history[0]), [list(row.values()) for row in history])
            # a list, because DVC would show each value of a mapping as a metric
            report = {"num_params": num_params, **counts, **history[-1], "environment": list(setup.environment.items())}
            write_json(metrics_dir / "train.json", report)

    checkpoint = Checkpoint(main_checkout(checkpoints), run_hash(run), setup.environment)
    with explain_torch_errors(train.batch_size), checkpoint.exclusive():
        state = loop.create_train_state(net, train_set, train, augmentation, setup, model.pretrained)
        loop.train(state, train_set, validation_set, checkpoint, on_eval=write_metrics)
        if is_main_process():
            classifier = state.classifier
            log_probabilities = calibrate(classifier, validation_set, setup.device)
            save_model(model_path, classifier, train_set, setup.environment, run)
            predictions = predictions_table(validation_set, log_probabilities, held_out)
            write_csv(predictions_path, list(predictions), zip(*predictions.values(), strict=True))
            checkpoint.remove()


if __name__ == "__main__":
    run_stage(main)
