"""The house rules: style, types, sizes, and who may import Ray."""

import ast
import importlib
import pkgutil
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import busi_tune
from busi_tune.command_line import Command, parse
from busi_tune.config import Config, ModelConfig
from busi_tune.flags import load_settings
from busi_tune.settings import check_config, override

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "tool",
    [
        ["ruff", "check"],
        ["ruff", "format", "--check"],
        pytest.param(["mypy"], marks=pytest.mark.slow),
    ],
    ids=" ".join,
)
def test_style_and_types(tool: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", *tool], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_file_is_too_long() -> None:
    files = [
        f for part in ("busi_tune", "tests", "experiments") for f in (ROOT / part).rglob("*.py")
    ]
    long = {str(f): n for f in files if (n := len(f.read_text().splitlines())) >= 300}
    assert not long


def test_no_function_is_too_long() -> None:
    lengths = {
        f"{path.relative_to(ROOT)} {node.name}": _lines_of_code(node)
        for part in ("busi_tune", "tests")
        for path in (ROOT / part).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
    }
    assert len(lengths) > 500
    assert not {name: length for name, length in lengths.items() if length > 40}


def _lines_of_code(function: ast.FunctionDef) -> int:
    """Count the lines of a function without its docstring."""
    assert function.end_lineno is not None
    lines = function.end_lineno - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function) is not None and first.end_lineno is not None:
        lines -= first.end_lineno - first.lineno + 1
    return lines


def test_only_the_orchestration_imports_ray() -> None:
    walked = pkgutil.walk_packages(busi_tune.__path__, "busi_tune.")
    names = [
        module.name
        for module in walked
        if not module.name.startswith("busi_tune.orchestration")
        and not module.name.endswith("__main__")
    ]
    program = (
        f"import importlib, sys\nfor name in {names}: importlib.import_module(name)\n"
        "found = [m for m in sys.modules if m.partition('.')[0] == 'ray']\n"
        "assert not found, found"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(names) > 30


def test_only_the_orchestration_names_ray() -> None:
    """Imports inside of functions count, and __main__ modules."""
    package = ROOT / "busi_tune"
    files = [f for f in package.rglob("*.py") if "orchestration" not in f.parts]
    importing = [
        str(file.relative_to(package))
        for file in files
        for node in ast.walk(ast.parse(file.read_text()))
        for name in _imported(node)
        if name.partition(".")[0] == "ray"
    ]
    assert not importing
    assert len(files) > 100


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else []


WITHOUT_RAY = """
import sys; sys.modules['ray'] = None
from busi_tune import kfold, search
from busi_tune.train import main
codes = [main([*sys.argv[1:], *more]) for more in (["--dry_run"], ["--resources.num_workers=2"])]
codes += [command.main(sys.argv[1:]) for command in (kfold, search)]
sys.exit(main(sys.argv[1:]) or codes != [0, 2, 2, 2])
"""


def test_training_works_where_ray_is_not_installed(tmp_path: Path) -> None:
    arguments = ["--data.phantom_images=40", "--data.image_size=32", "--training.epochs=1"]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_RAY, *arguments, f"--run_dir={tmp_path / 'run'}"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "expected time" in done.stdout
    for wish in ("resources.num_workers 2", "kfold", "search"):
        assert f"error: {wish} needs Ray, which is not installed: pip" in done.stderr
    assert (tmp_path / "run" / "folds.csv").exists()


@pytest.mark.parametrize(
    "path",
    [ROOT / "busi_tune" / "demo.yaml", *sorted((ROOT / "experiments").glob("*.yaml"))],
    ids=lambda path: path.name,
)
def test_every_configuration_in_the_project_is_valid(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load_settings(path)
    config = override(Config(), settings)
    check_config(config)
    repeated = [name for name, value in settings.items() if value == _default(name)]
    assert not repeated, "a configuration names only what differs from the defaults"
    if config.search.space:
        from busi_tune.jobs.space import check_space
        from busi_tune.models import encoder_decoder
        from busi_tune.search_space import compile_space

        def build_from_scratch(model: ModelConfig) -> Any:
            return encoder_decoder._build(model, weights=None, in_channels=3)

        monkeypatch.setattr(encoder_decoder, "_build_downloaded", build_from_scratch)
        # Every network of the largest space takes a minute.
        monkeypatch.setattr("busi_tune.jobs.space.MOST_NETWORKS", 20)
        monkeypatch.setattr("busi_tune.jobs.space.LEAST_SAMPLES", 20)
        space = compile_space(config.search.space)
        seen = {example.model.architecture for example in check_space(space, config).values()}
        every = next((d.choices for d in space if d.name == "model.architecture"), ())
        assert len(seen) >= 0.8 * len(every)
    if config.kfold.models:
        from busi_tune.kfold_models import resolve_models

        for model in resolve_models(config).values():
            check_config(model)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "experiments").glob("search*.yaml")), ids=lambda path: path.name
)
def test_the_known_configurations_of_every_search_lie_in_its_space(path: Path) -> None:
    from busi_tune.search_space import compile_space
    from busi_tune.study.starts import find_starts, read_baselines

    config = parse(Command("search", ""), ["--config", str(path)]).config
    assert len(find_starts(config, compile_space(config.search.space))) >= 2
    assert len(read_baselines(config)) >= 2


def _default(name: str) -> object:
    from busi_tune.settings import flatten

    return flatten(Config())[name]


def _expand(word: str) -> list[str]:
    """Expand a pattern as a shell in the checkout does."""
    return [str(path) for path in sorted(ROOT.glob(word))] if "*" in word else [word]


def test_every_command_of_the_readme_parses(tmp_path: Path) -> None:
    text = "\n".join((ROOT / name).read_text() for name in ("README.md", "CONTRIBUTING.md"))
    lines = re.findall(r"python -m busi_tune\.(\w+) ?([^`\n|]*)", text)
    assert {name for name, _ in lines} == {
        "search", "kfold", "train", "predict", "report", "data",
    }  # fmt: skip
    best = tmp_path / "best.yaml"
    best.write_text("seed: 1\n")
    for name, rest in lines:
        if name in ("predict", "report", "data"):
            module = "busi_tune.data.__main__" if name == "data" else f"busi_tune.{name}"
            importlib.import_module(module).build_parser().parse_args(shlex.split(rest))
            continue
        command = importlib.import_module(f"busi_tune.{name}").COMMAND
        words = [str(best) if "runs/" in word else word for word in rest.split()]
        arguments = [name for word in words for name in _expand(word)]
        if "--resume" not in arguments:
            parse(command, arguments)
