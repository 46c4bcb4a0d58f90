from pathlib import Path

import pytest

from busi_tune.config import Config
from busi_tune.search_space import compile_space
from busi_tune.settings import override
from busi_tune.study.starts import find_starts, read_baselines

SPACE = {"optimizer.lr": [0.01, 0.1]}


@pytest.mark.parametrize("word", ["none", "Report", "nofile.yaml"])
def test_a_word_that_names_no_file_is_refused_with_its_setting(tmp_path: Path, word: str) -> None:
    said = "there is no file .*; name a YAML file or the word report"
    words = [str(tmp_path / word)]
    with pytest.raises(ValueError, match=f"search.start: {said}"):
        find_starts(override(Config(), {"search.start": words}), compile_space(SPACE))
    with pytest.raises(ValueError, match=f"search.baselines: {said}"):
        read_baselines(override(Config(), {"search.baselines": words}))


@pytest.mark.parametrize("name", ["trial 3", "trial 12"])
def test_a_baseline_does_not_pass_for_a_trial(tmp_path: Path, name: str) -> None:
    file = tmp_path / f"{name}.yaml"
    file.write_text("model.base_width: 8\n")
    with pytest.raises(ValueError, match=rf"{name}.yaml: a trial of the search has this name"):
        read_baselines(override(Config(), {"search.baselines": [str(file)]}))
