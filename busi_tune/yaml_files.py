"""YAML files of people: read without code in them, and with nothing that is written twice."""

from pathlib import Path
from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """PyYAML's own takes the last of two equal keys without a word."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                mark = key.start_mark
                raise ValueError(
                    f"{mark.name}, line {mark.line + 1}: {key.value} is written twice in one "
                    "place; keep one of them"
                )
            seen.add(key.value)
        return node


def read_yaml(path: Path) -> Any:
    """Read a YAML file.

    Raises:
        ValueError: a key is written twice; says the file and the line.
        yaml.YAMLError: it is no YAML.
    """
    loader = _Loader(path.read_text())
    loader.name = str(path)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()
