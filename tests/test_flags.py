from pathlib import Path

import pytest

from busi_tune.command_line import BAD_INPUT, Command, parse, run_command
from busi_tune.config import Config
from busi_tune.flags import source_of_setting, typed_override
from busi_tune.search_space import compile_space
from busi_tune.settings import to_yaml

COMMAND = Command("search", "Search.")


def write(path: Path, text: str) -> str:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    ("flags", "classes"),
    [
        (["--data.classes", "benign"], ["benign"]),
        (["--data.classes=benign,malignant"], ["benign", "malignant"]),
        (["--data.classes", "benign, malignant"], ["benign", "malignant"]),
        (["--data.classes", "[benign, malignant]"], ["benign", "malignant"]),
        (["--data.classes=1,2"], ["1", "2"]),
        (["--data.classes="], []),
        (["--data.classes", "[]"], []),
        (["--data.classes", "a", "--data.classes+", "b"], ["a", "b"]),
    ],
)
def test_a_list_is_written_with_or_without_brackets(flags: list[str], classes: list[str]) -> None:
    assert parse(COMMAND, flags).config.data.classes == classes


@pytest.mark.parametrize("text", ["benign", "[benign]", "\n- benign"])
def test_a_list_in_a_file_may_be_a_word(tmp_path: Path, text: str) -> None:
    file = write(tmp_path / "c.yaml", f"data.classes: {text}\n")
    assert parse(COMMAND, ["--config", file]).config.data.classes == ["benign"]
    assert typed_override(Config(), {"data.classes": "benign,b"}, "").data.classes == [
        "benign",
        "b",
    ]


@pytest.mark.parametrize("flags", [["--data.classes"], ["--data.classes", "[a"]])
def test_a_list_without_a_value_is_refused(
    flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(COMMAND, lambda options: 0, flags) == BAD_INPUT
    assert "data.classes" in capsys.readouterr().err


def test_a_value_of_the_wrong_type_is_refused_with_its_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "c.yaml", "optimizer: {lr: fast}\n")
    assert run_command(COMMAND, lambda options: 0, ["--config", file]) == BAD_INPUT
    said = capsys.readouterr().err
    assert file in said and "optimizer.lr" in said


@pytest.mark.parametrize("in_file", [False, True])
def test_a_word_that_is_no_choice_is_refused_with_the_choices(
    in_file: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "c.yaml", "search: {sampler: cmaes}\n")
    flags = ["--config", file] if in_file else ["--search.sampler", "cmaes"]
    assert run_command(COMMAND, lambda options: 0, flags) == BAD_INPUT
    said = capsys.readouterr().err
    source = f"{file}: " * in_file
    expected = f"error: {source}search.sampler must be one of tpe, gp, nsga2, random, not cmaes\n"
    assert said.endswith(expected)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seed: 1\nsearch: {num_trials: 3}\n\nseed: 2\n", ", line 4: seed is written twice"),
        ("search:\n  sampler: gp\n  sampler: tpe\n", ", line 3: sampler is written twice"),
        ("search.space:\n  optimizer.lr: [1]\n  optimizer.lr: [2]\n", ", line 3: optimizer.lr is"),
        ("search: {seed: 1, seed: 2}\n", ", line 1: seed is written twice in one place; keep one"),
        ("optimizer: {lr: 1}\noptimizer.lr: 2\n", ": optimizer.lr is written twice, in two ways"),
    ],
)
def test_a_setting_that_is_written_twice_is_refused_with_its_file_and_line(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "c.yaml", text)
    assert run_command(COMMAND, lambda options: 0, ["--config", file]) == BAD_INPUT
    assert f"error: {file}{said}" in capsys.readouterr().err


def test_the_source_of_a_setting_is_the_last_file_that_names_it(tmp_path: Path) -> None:
    first = write(tmp_path / "a.yaml", "search: {start: [x.yaml], num_trials: 3}\n")
    second = write(tmp_path / "b.yaml", "search: {num_trials: 4}\n")
    flags = ["--config", first, f"--config={second}", "--seed", "1"]
    assert source_of_setting("search.start", flags) == first
    assert source_of_setting("search.num_trials", flags) == second
    assert source_of_setting("seed", flags) == ""
    assert source_of_setting("search.num_trials", [*flags, "--search.num-trials", "5"]) == ""
    assert source_of_setting("search.space", flags) == ""


def test_starts_and_baselines_are_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "search: {start: [report, near/a.yaml], baselines: [b.yaml, report]}\n"
    file = write(tmp_path / "own" / "c.yaml", text)
    monkeypatch.chdir(tmp_path)
    search = parse(COMMAND, ["--config", "own/c.yaml"]).config.search
    assert search.start == ["report", str(tmp_path / "own/near/a.yaml")]
    assert search.baselines == [str(tmp_path / "own/b.yaml"), "report"]
    search = parse(COMMAND, ["--config", file, "--search.start", "best.yaml"]).config.search
    assert search.start == [str(tmp_path / "best.yaml")]
    added = ["--search.start+", "more.yaml"]
    search = parse(COMMAND, ["--config", file, *added]).config.search
    near = str(tmp_path / "own/near/a.yaml")
    assert search.start == ["report", near, str(tmp_path / "more.yaml")]


WEIGHTS = "model.encoder_weights"


@pytest.mark.parametrize("word", ["none", "imagenet", "package:name", "absent.pth"])
def test_files_of_weights_are_found_from_anywhere_and_words_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    here = write(tmp_path / "here" / "w.pth", "weights")
    monkeypatch.chdir(tmp_path / "here")
    lr = f"{{choices: [1, 2], when: {{{WEIGHTS}: [w.pth, {word}]}}}}"
    text = f"{WEIGHTS}: w.pth\nsearch.space:\n  optimizer.lr: {lr}\n  {WEIGHTS}: "
    for entry in (f"[w.pth, {word}]", f"{{choices: [w.pth, {word}]}}"):
        file = write(tmp_path / "c.yaml", text + entry)
        config = parse(COMMAND, ["--config", file]).config
        assert config.model.encoder_weights == here
        weights, rate = compile_space(config.search.space)
        assert weights.choices == (here, word)
        assert rate.when == ((WEIGHTS, (here, word)),)
        write(tmp_path / "run" / "config.yaml", to_yaml(config))
    write(tmp_path / "run" / "environment.json", '{"job": "search"}')
    assert parse(COMMAND, [f"--{WEIGHTS}", "w.pth"]).config.model.encoder_weights == here
    assert parse(COMMAND, [f"--{WEIGHTS}", word]).config.model.encoder_weights == word
    monkeypatch.chdir(tmp_path)
    assert parse(COMMAND, ["--resume", "run"]).config == config
    monkeypatch.chdir(tmp_path / "here")
    assert parse(COMMAND, ["--resume", "../run", f"--{WEIGHTS}", "w.pth"]).config == config
