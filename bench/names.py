"""What people call a solver or a dataset: the name of the configuration that it was built from."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

CONF = Path(__file__).parent / "conf"


def solver_name(config: Mapping[str, Any]) -> str:
    """The name of its configuration, else its module: `mypackage.foo.Foo` is foo."""
    return _configured("solver", config) or config["_target_"].split(".")[-2:][0]


def dataset_name(config: Mapping[str, Any]) -> str:
    """The name of its configuration, else its class in lower case, with the dimension where it takes one."""
    name = _configured("dataset", config) or config["_target_"].split(".")[-1].lower()
    return f"{name} d={config['dim']}" if "dim" in config else name


def _configured(group: str, config: Mapping[str, Any]) -> str | None:
    """The name of the configuration in `group` with the target of `config` that agrees with it most."""
    same = [(name, given) for name, given in _known(group) if given.get("_target_") == config["_target_"]]
    agreement = {name: sum(config.get(key) == value for key, value in given.items()) for name, given in same}
    return max(agreement, key=lambda name: agreement[name]) if agreement else None


@cache
def _known(group: str) -> list[tuple[str, dict[str, Any]]]:
    from omegaconf import OmegaConf

    files = sorted((CONF / group).glob("*.yaml"))
    loaded = [(path.stem, OmegaConf.to_container(OmegaConf.load(path))) for path in files]
    return [(name, {str(k): v for k, v in given.items()}) for name, given in loaded if isinstance(given, dict)]
