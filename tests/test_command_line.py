import errno
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from busi_tune import run_directory
from busi_tune.command_line import (
    BAD_INPUT,
    CLUSTER_FAILED,
    INTERRUPTED,
    ClusterError,
    Command,
    Options,
    parse,
    run_command,
)
from busi_tune.config import Config
from busi_tune.flags import typed_override
from busi_tune.settings import override, to_yaml

COMMAND = Command("kfold", "Compare models.", compares_models=True)


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_flags_go_over_the_file_and_the_file_over_defaults(tmp_path: Path) -> None:
    file = write(tmp_path / "c.yaml", "training: {epochs: 7, batch_size: 4}\nseed: 5\n")
    assert parse(COMMAND, ["--config", str(file)]).config.training.epochs == 7
    for flags in (["--training.epochs", "9", "--config", str(file)],
                  [f"--config={file}", "--training.epochs", "9"]):  # fmt: skip
        config = parse(COMMAND, flags).config
        assert (config.training.epochs, config.training.batch_size, config.seed) == (9, 4, 5)
        assert config.model == Config().model


def test_dashes_are_taken_as_underscores() -> None:
    options = parse(COMMAND, ["--training.batch-size=3", "--run-dir", "x-y"])
    assert options.config.training.batch_size == 3
    assert options.run_dir == Path("x-y").absolute()


def test_without_data_and_configuration_the_demo_runs() -> None:
    options = parse(COMMAND, ["--training.epochs", "2"])
    assert options.demo
    assert options.config.data.image_size == 64
    assert options.config.training.epochs == 2
    assert not parse(COMMAND, ["--data.root", "/images"]).demo


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--training.epohcs", "3"], "did you mean training.epochs"),
        (["--training.epochs", "many"], "training.epochs"),
        (["--optimizer.name", "adma"], "optimizer.name"),
        (["--training.epochs", "0"], "training.epochs must be at least 1"),
        (["--training.epochs", "null"], "training.epochs"),
        (["--config", "missing.yaml"], "missing.yaml"),
        (["--resume", "missing"], "missing is no run directory"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(COMMAND, lambda options: 0, arguments) == BAD_INPUT
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said


def test_an_unknown_key_in_a_file_is_refused_with_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "c.yaml", "training: {epohcs: 7}\n")
    assert run_command(COMMAND, lambda options: 0, ["--config", str(file)]) == BAD_INPUT
    said = capsys.readouterr().err
    assert str(file) in said and "did you mean training.epochs" in said


def test_debug_shows_the_trace(capsys: pytest.CaptureFixture[str]) -> None:
    run_command(COMMAND, lambda options: 0, ["--debug", "--training.epochs", "0"])
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ValueError("x"), BAD_INPUT),
        (OSError("x"), BAD_INPUT),
        (ClusterError("x"), CLUSTER_FAILED),
        (KeyboardInterrupt(), INTERRUPTED),
    ],
)
def test_errors_become_exit_codes(error: BaseException, code: int) -> None:
    def body(options: Options) -> int:
        raise error

    assert run_command(COMMAND, body, []) == code


def test_a_full_disk_is_said_with_what_is_left_and_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = tmp_path / "run"

    def body(options: Options) -> int:
        stored_run(run_dir, {})
        try:
            raise OSError(errno.ENOSPC, "No space left on device", str(run_dir / "x" / "last.ckpt"))
        except OSError as error:
            raise ClusterError("the run broke off") from error

    assert run_command(COMMAND, body, ["--run_dir", str(run_dir)]) == CLUSTER_FAILED
    said = capsys.readouterr().err
    assert re.search(rf"the disk is full: [\d,.]+ MB are free at {run_dir}; make space", said)
    assert said.count("\n") == 1
    assert f"python -m busi_tune.kfold --resume {run_dir}" in said


def test_a_defect_is_not_hidden() -> None:
    def body(options: Options) -> int:
        raise KeyError("defect")

    with pytest.raises(KeyError):
        run_command(COMMAND, body, [])


def test_an_interrupt_says_how_to_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_dir = tmp_path / "run"

    def body(options: Options) -> int:
        run_dir.mkdir()
        write(run_dir / run_directory.CONFIG, to_yaml(options.config))
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)
        return 0

    assert run_command(COMMAND, body, ["--run_dir", str(run_dir)]) == INTERRUPTED
    assert f"python -m busi_tune.kfold --resume {run_dir}" in capsys.readouterr().err


def stored_run(folder: Path, settings: dict[str, Any]) -> Path:
    folder.mkdir()
    write(folder / run_directory.CONFIG, to_yaml(override(Config(), settings)))
    write(folder / run_directory.ENVIRONMENT, '{"job": "kfold"}')
    return folder


def test_resume_takes_the_stored_configuration(tmp_path: Path) -> None:
    folder = stored_run(tmp_path / "run", {"seed": 7, "search.num_trials": 5})
    options = parse(COMMAND, ["--resume", str(folder), "--search.num_trials", "8"])
    assert options.resume and options.run_dir == folder
    assert (options.config.seed, options.config.search.num_trials) == (7, 8)


def test_the_time_of_a_search_may_grow_to_no_limit_and_not_back(tmp_path: Path) -> None:
    run = f"--resume={stored_run(tmp_path / 'timed', {'search.budget': '1h'})}"
    for budget in ("60m", "61m", ""):
        assert parse(COMMAND, [run, f"--search.budget={budget}"]).config.search.budget == budget
    run = f"--resume={stored_run(tmp_path / 'endless', {})}"
    with pytest.raises(ValueError, match="it was without limit, not 2h"):
        parse(COMMAND, [run, "--search.budget=2h"])


@pytest.mark.parametrize("lost", [1, 2, 300, 1500])
def test_a_configuration_that_breaks_off_does_not_pass_for_a_whole_one(
    tmp_path: Path, lost: int
) -> None:
    folder = stored_run(tmp_path / "run", {"seed": 12})
    stored = folder / run_directory.CONFIG
    stored.write_text(stored.read_text()[:-lost])
    with pytest.raises(ValueError, match=r"config\.yaml is damaged.*restore it .* a new run"):
        parse(COMMAND, ["--resume", str(folder)])


def test_a_damaged_environment_is_named(tmp_path: Path) -> None:
    folder = stored_run(tmp_path / "run", {})
    write(folder / run_directory.ENVIRONMENT, '{"job": "kf')
    with pytest.raises(ValueError, match=r"environment\.json is damaged.*restore it"):
        parse(COMMAND, ["--resume", str(folder)])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--optimizer.lr", "0.5"], "optimizer.lr: 0.001 -> 0.5"),
        (["--resources.num_workers", "2"], "resources.num_workers: 1 -> 2"),
        (["--search.num_trials", "3"], "may only grow"),
        (["--search.budget", "59m"], "budget may only grow on --resume: it was 1h, not 59m"),
    ],
)
def test_resume_with_other_settings_is_refused_with_the_difference(
    tmp_path: Path, flags: list[str], message: str
) -> None:
    folder = stored_run(tmp_path / "run", {"search.budget": "1h"})
    (folder / "trainings" / "key").mkdir(parents=True)
    write(folder / "trainings" / "key" / run_directory.EPOCHS, "epoch\n1\n")
    with pytest.raises(ValueError, match=message):
        parse(COMMAND, ["--resume", str(folder), *flags])


def test_a_run_for_which_there_was_no_place_goes_on_with_fewer_workers(tmp_path: Path) -> None:
    folder = stored_run(tmp_path / "run", {"resources.num_workers": 4, "training.batch_size": 8})
    config = parse(COMMAND, ["--resume", str(folder), "--resources.num_workers=1"]).config
    assert config.resources.num_workers == 1


def test_models_are_read_from_files(tmp_path: Path) -> None:
    small = write(tmp_path / "small.yaml", "model: {base_width: 8}\n")
    dotted = write(tmp_path / "dotted.yaml", "model.architecture: report_cnn\n")
    options = parse(COMMAND, ["--models", str(small), str(dotted)])
    assert options.config.kfold.models == {
        "small": {"model.base_width": 8},
        "dotted": {"model.architecture": "report_cnn"},
    }


def test_a_flag_goes_over_the_files_of_models(tmp_path: Path) -> None:
    best = write(tmp_path / "best.yaml", "training: {epochs: 60}\nmodel: {base_width: 8}\n")
    config = parse(COMMAND, ["--models", str(best), "--training.epochs=5"]).config
    assert config.kfold.models == {"best": {"model.base_width": 8}}
    assert config.training.epochs == 5


def test_a_run_of_another_command_is_refused_with_its_line(tmp_path: Path) -> None:
    folder = stored_run(tmp_path / "run", {})
    write(folder / run_directory.ENVIRONMENT, '{"job": "search"}')
    with pytest.raises(ValueError, match=f"busi_tune.search --resume {folder}"):
        parse(COMMAND, ["--resume", str(folder)])


@pytest.mark.parametrize("more", [["--models", "a.yaml"], ["--run_dir", "elsewhere"]])
def test_resume_takes_no_flags_of_a_new_run(tmp_path: Path, more: list[str]) -> None:
    folder = stored_run(tmp_path / "run", {})
    with pytest.raises(ValueError, match="leave --run_dir, --models out"):
        parse(COMMAND, ["--resume", str(folder), *more])


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    files = []
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
        files.append(str(write(tmp_path / folder / "best.yaml", "seed: 1\n")))
    models = parse(COMMAND, ["--models", *files]).config.kfold.models
    assert list(models) == ["first-best", "second-best"]
    with pytest.raises(ValueError, match="two files have the same name"):
        parse(COMMAND, ["--models", files[0], files[0]])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model.base_width": "wide"}, "model a: .*model.base_width"),
        ({"model.base_widht": 8}, "model a: unknown setting model.base_widht"),
        ({"training.epochs": 0}, "model a: training.epochs must be at least 1"),
    ],
)
def test_settings_in_files_are_checked_like_flags(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        typed_override(Config(), settings, "model a")


def test_settings_in_files_get_their_types() -> None:
    assert typed_override(Config(), {"optimizer.lr": "1e-3"}, "a").optimizer.lr == 1e-3


def test_the_printed_configuration_is_one_that_config_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(COMMAND, lambda options: 1, ["--print_config", "--seed", "3"]) == 0
    printed = write(tmp_path / "printed.yaml", capsys.readouterr().out)
    config = parse(COMMAND, ["--config", str(printed)]).config
    assert config.seed == 3
    assert config == parse(COMMAND, ["--seed", "3"]).config


@pytest.mark.parametrize("command", ["search", "kfold", "train", "report"])
def test_help_needs_neither_torch_nor_ray(command: str) -> None:
    program = (
        "import sys, runpy; sys.argv = ['x', '--help']\n"
        f"try: runpy.run_module('busi_tune.{command}', run_name='__main__')\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "assert not {'torch', 'ray', 'optuna'} & set(sys.modules), 'slow imports'"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "example" in done.stdout.lower()
