from pathlib import Path

import pytest

from busi_tune import run_directory
from busi_tune.config import Config
from busi_tune.search_space import compile_space
from busi_tune.settings import override
from busi_tune.study.starts import keep_known, read_baselines, read_known

SPACE = {"optimizer.lr": [0.01, 0.1]}


@pytest.mark.parametrize("word", ["none", "Report", "nofile.yaml"])
def test_a_word_that_names_no_file_is_refused_with_its_setting(tmp_path: Path, word: str) -> None:
    said = "there is no file .*; name a YAML file or the word report"
    words = [str(tmp_path / word)]
    for name in ("search.start", "search.baselines"):
        config = override(Config(), {"search.start": [], name: words})
        with pytest.raises(ValueError, match=f"{name}: {said}"):
            read_known(config, compile_space(SPACE), tmp_path / "run")


@pytest.mark.parametrize("name", ["trial 3", "trial 12"])
def test_a_baseline_does_not_pass_for_a_trial(tmp_path: Path, name: str) -> None:
    file = tmp_path / f"{name}.yaml"
    file.write_text("model.base_width: 8\n")
    with pytest.raises(ValueError, match=rf"{name}.yaml: a trial of the search has this name"):
        read_baselines(override(Config(), {"search.baselines": [str(file)]}))


@pytest.mark.parametrize("length", [0, 20, 40, 400])
def test_a_truncated_record_of_them_is_set_aside_and_made_anew(
    tmp_path: Path, length: int, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "small.yaml"
    file.write_text("model.base_width: 8\n")
    config = override(Config(), {"search.start": [], "search.baselines": [str(file)]})
    space = compile_space(SPACE)
    known = read_known(config, space, tmp_path)
    keep_known(known, tmp_path)
    path = tmp_path / run_directory.KNOWN
    whole = path.read_text()
    assert len(whole) > 400
    path.write_text(whole[:length])
    again = read_known(config, space, tmp_path)
    assert again.baselines == known.baselines
    assert path.read_text() == whole[:length], "only who holds the run's lock sets it aside"
    keep_known(again, tmp_path)
    assert f"{path.name} is damaged" in caplog.text
    assert path.with_name(f"{path.name}.damaged").read_text() == whole[:length]
    assert path.read_text() == whole
