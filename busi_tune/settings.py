"""What can be done with a configuration: name its fields, change, compare, check and key it."""

import difflib
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, is_dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

import yaml

from busi_tune.config import Config
from busi_tune.rules import rules_of_one_setting, rules_of_several_settings
from busi_tune.search_rules import rules_of_search

# What decides the numbers of a training; the rest is where and how it runs.
_DECIDING = (
    "augment.", "model.", "loss.", "optimizer.", "training.",
    "data.image_size", "data.resize", "resources.num_workers", "seed",
)  # fmt: skip


def flatten(config: Config) -> dict[str, Any]:
    """Return every setting under its dotted name, in the order of the configuration."""
    return dict(_leaves(asdict(config), config))


def _leaves(values: Mapping[str, Any], owner: Any, prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in values.items():
        inner = getattr(owner, name)
        if is_dataclass(inner):
            yield from _leaves(value, inner, f"{prefix}{name}.")
        else:
            yield prefix + name, value


_DEFAULTS = flatten(Config())
FIELDS = frozenset(_DEFAULTS)

_SECTIONS = {name: of for name, of in get_type_hints(Config).items() if is_dataclass(of)}
TYPES = {name: hint for name, hint in get_type_hints(Config).items() if name not in _SECTIONS} | {
    f"{section}.{name}": hint
    for section, of in _SECTIONS.items()
    for name, hint in get_type_hints(of).items()
}
"""The type of every setting."""
CHOICES = {name: get_args(hint) for name, hint in TYPES.items() if get_origin(hint) is Literal}
"""The settings that are one of a few words, and the words."""
LISTS = frozenset(name for name, hint in TYPES.items() if hint == list[str])
"""The settings that are lists of words."""


def unknown_field(name: str, known: Iterable[str] = FIELDS) -> str:
    """Say that a setting does not exist and which one is nearest."""
    known = sorted(known)
    last = {field.rsplit(".", 1)[-1]: field for field in known}
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6) or [
        last[match] for match in difflib.get_close_matches(name.rsplit(".", 1)[-1], last, n=1)
    ]
    hint = f"; did you mean {near[0]}?" if near else "; --help lists every setting"
    return f"unknown setting {name}{hint}"


def refuse_choice(name: str, value: Any) -> str:
    """Say that a setting has no such value, and which it has."""
    return f"{name} must be one of {', '.join(CHOICES[name])}, not {value}"


def dotted(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten settings given nested, dotted or mixed to dotted names.

    Raises:
        ValueError: a name is no setting, or one that has a value already.
    """
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        name = f"{prefix}{key}"
        if name in FIELDS:
            found = {name: value}
        elif isinstance(value, Mapping) and any(f.startswith(f"{name}.") for f in FIELDS):
            found = dotted(value, f"{name}.")
        else:
            raise ValueError(unknown_field(name))
        for double in found.keys() & flat.keys():
            raise ValueError(f"{double} is written twice, in two ways; keep one of them")
        flat |= found
    return flat


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Turn dotted names into the nested form of a YAML file."""
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        *sections, last = name.split(".")
        branch = tree
        for section in sections:
            branch = branch.setdefault(section, {})
        branch[last] = value
    return tree


def override(config: Config, settings: Mapping[str, Any]) -> Config:
    """Return a configuration with some settings replaced; values are taken as they are.

    Raises:
        ValueError: a name is no setting.
    """
    return from_dict(nested(flatten(config) | dotted(settings)))


def from_dict(values: Mapping[str, Any]) -> Config:
    """Rebuild a configuration from its nested dictionary."""
    config = Config()
    for name, value in values.items():
        section: Any = getattr(config, name)
        setattr(config, name, section.__class__(**value) if is_dataclass(section) else value)
    return config


def to_yaml(config: Config) -> str:
    """Return a configuration as the YAML text that `--config` reads."""
    return yaml.safe_dump(asdict(config), sort_keys=False, allow_unicode=True)


def changed_settings(config: Config) -> dict[str, Any]:
    """Return the settings, by their dotted names, that are not at their defaults."""
    return {name: value for name, value in flatten(config).items() if value != _DEFAULTS[name]}


def differences(old: Config, new: Config, ignore: Iterable[str] = ()) -> list[str]:
    """List the settings in which two configurations differ, as `name: old -> new`."""
    before, after, skip = flatten(old), flatten(new), set(ignore)
    changed = [name for name in before if name not in skip and before[name] != after[name]]
    return [line for name in changed for line in _compare(name, before[name], after[name])]


def _compare(name: str, before: Any, after: Any) -> list[str]:
    """Say how a setting differs; of a mapping only the entries that do."""
    if not isinstance(before, Mapping) or not isinstance(after, Mapping):
        return [f"{name}: {before} -> {after}"]
    absent = dict.fromkeys({**before, **after}, "not there")
    old, new = {**absent, **before}, {**absent, **after}
    return [f"{name}, {key}: {old[key]} -> {new[key]}" for key in old if old[key] != new[key]]


def training_key(config: Config, data_hash: str, parts: Mapping[str, list[str]]) -> str:
    """Name a training by what decides its result: settings, images, split, seed and ranks.

    Only settings that are not at their default count, so that a new setting changes no key.

    Args:
        config: the resolved configuration.
        data_hash: hash of the images' content.
        parts: names of the images of train, validation and test.
    """
    changed = {n: v for n, v in changed_settings(config).items() if n.startswith(_DECIDING)}
    decisive = {**changed, "data_hash": data_hash, "parts": dict(parts)}
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:16]


def check_config(config: Config) -> None:
    """Refuse settings that no training could run with.

    Raises:
        ValueError: all broken rules, a line each.
    """
    broken = [
        f"{name} needs a value"
        for name, value in flatten(config).items()
        if value is None and _DEFAULTS[name] is not None
    ]
    broken = broken or [rule for rule, holds in _rules(config) if not holds]
    if broken:
        raise ValueError("\n".join(broken))


def check_setting(name: str, value: Any) -> None:
    """Refuse a value that no training could run with, whatever the other settings are.

    Raises:
        ValueError: the rule that it breaks.
    """
    broken = [rule for rule, holds in _rules_of_values({**_DEFAULTS, name: value}) if not holds]
    if broken:
        raise ValueError(broken[0])


def _rules(config: Config) -> Iterable[tuple[str, bool]]:
    yield from _rules_of_values(flatten(config))
    yield from rules_of_several_settings(config)
    yield from rules_of_search(config)


def _rules_of_values(values: Mapping[str, Any]) -> Iterable[tuple[str, bool]]:
    for name, allowed in CHOICES.items():
        yield refuse_choice(name, values[name]), values[name] in allowed
    yield from rules_of_one_setting(values)
