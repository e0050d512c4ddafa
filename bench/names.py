"""What people call a solver or a dataset: the name of the configuration that it was built from."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

CONF = Path(__file__).parent / "conf"


def solver_name(config: Mapping[str, Any]) -> str:
    """The name of its configuration, else its module: `mypackage.foo.Foo` is foo."""
    name, _ = _configured("solver", config)
    return name or config["_target_"].split(".")[-2:][0]


def dataset_name(config: Mapping[str, Any]) -> str:
    """The name of its configuration, with the dimension where that sets one; else its class in lower case."""
    name, given = _configured("dataset", config)
    name = name or config["_target_"].split(".")[-1].lower()
    return f"{name} d={config['dim']}" if "dim" in given and "dim" in config else name


def _configured(group: str, config: Mapping[str, Any]) -> tuple[str | None, Mapping[str, Any]]:
    """Name and contents of the configuration in `group` with the target of `config` that agrees with it most."""
    same = {name: given for name, given in _known(group).items() if given.get("_target_") == config["_target_"]}
    agreement = {name: sum(config.get(key) == value for key, value in given.items()) for name, given in same.items()}
    name = max(agreement, key=lambda name: agreement[name], default=None)
    return name, same.get(name or "", {})


@cache
def _known(group: str) -> Mapping[str, Mapping[str, Any]]:
    from omegaconf import OmegaConf

    loaded = {path.stem: OmegaConf.to_container(OmegaConf.load(path)) for path in sorted((CONF / group).glob("*.yaml"))}
    return {name: {str(k): v for k, v in given.items()} for name, given in loaded.items() if isinstance(given, dict)}
