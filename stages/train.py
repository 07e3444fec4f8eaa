"""Train the network, evaluate it on the validation set, and save its weights."""

from pathlib import Path

from src.data.dataset import load_split
from src.device import prepare_compute
from src.models.build import build_network
from src.models.model_file import ModelMetadata, save_model
from src.models.summary import model_summary
from src.params import Params
from src.runtime.cli import run_stage
from src.runtime.files import main_checkout, write_csv, write_json
from src.training.checkpoint import Checkpoints, describe_run, run_hash
from src.training.checks import check_train_set
from src.training.distributed import exit_workers, join_process_group, launch_workers
from src.training.loop import train
from src.training.progress import log_training_time, print_once
from src.training.state import HistoryRow, create_train_state


def main(params: Params, prepared: Path, checkpoints: Path, model: Path, metrics: Path) -> None:
    settings, data = params.train, [prepared / "train.safetensors", prepared / "validation.safetensors"]
    train_set, validation_set = load_split(prepared, "train"), load_split(prepared, "validation")
    check_train_set(train_set, params)
    compute = prepare_compute(settings)
    net = build_network(params, len(train_set.classes), train_set.image_shape)
    launch_workers(settings, compute.device)
    # if train.processes is above 1, torchrun runs this stage again in each process, and all of them continue here
    run = describe_run(params, data)
    hash_of_run = run_hash(run)
    join_process_group(compute, hash_of_run)
    fingerprint = compute.fingerprint
    print_once(f"{model_summary(net, train_set.image_shape)}\n{compute}")

    state = create_train_state(net, train_set, settings, compute)
    parameters = sum(weight.numel() for weight in net.parameters())

    def write_metrics(history: list[HistoryRow]) -> None:
        write_csv(metrics / "history.csv", list(history[0]), [list(row.values()) for row in history])
        # a list, because DVC would show each value of a mapping as a metric
        values = {"parameters": parameters, **history[-1], "fingerprint": list(fingerprint.items())}
        write_json(metrics / "train.json", values)

    root = main_checkout(checkpoints)  # the copy of a killed experiment is not used again
    run_checkpoints = Checkpoints(root, hash_of_run, fingerprint, settings.checkpoint_seconds)
    with run_checkpoints.exclusive():
        train(state, train_set, validation_set, run_checkpoints, on_row=write_metrics)
        exit_workers()
        # only the main process continues here
        metadata = ModelMetadata(
            network=params.model.name,
            classes=train_set.classes,
            input_shape=train_set.image_shape,
            dataset=params.prepare.dataset,
            fit=params.prepare.fit,
            normalize=state.normalize,
            test_time_augmentation=settings.test_time_augmentation,
            fingerprint=fingerprint,
            run=run,
        )
        save_model(model, net, metadata)
        log_training_time(state)
        run_checkpoints.remove()


if __name__ == "__main__":
    run_stage(main)
