"""Hydra's sweeper `suites`: several cartesian products in one sweep."""

from collections.abc import Mapping, Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf

from bench.names import CONF
from bench.record import flat


class SuiteSweeper(BasicSweeper):
    """The basic sweeper, over each of `products` in turn; `params` belong to all of them.

    `suites` names other suites, whose products follow, each with the settings of its suite. A list on the command line
    replaces those of the suite, and cells that several products name run once. Raises HydraException where products are
    written on the command line and a name of theirs beside them, one of which would be lost.
    """

    def __init__(
        self,
        max_batch_size: int | None = None,
        params: Mapping[str, Any] | None = None,
        products: Sequence[Mapping[str, Any]] | None = None,
        suites: Sequence[str] | None = None,
    ) -> None:
        super().__init__(max_batch_size=max_batch_size, params=dict(params or {}))
        others = [product for name in suites or () for product in products_of(name)]
        self.own = list(products or ())
        self.products = [*(products or ([] if others else [{}])), *others]

    def sweep(self, arguments: list[str]) -> Any:
        assert self.hydra_context is not None
        assert self.launcher is not None
        from bench.run import lenient

        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        jobs: dict[tuple[str, ...], None] = {}
        for product in self.products:
            named = [f"{name}={value}" for name, value in {**self.params, **product}.items()]
            own = [word for given in named for word in lenient(given)]  # as on the command line
            overrides = parser.parse_overrides([*own, *arguments])
            if product in self.own:
                self._refuse_twice(product, [one.key_or_group for one in overrides[len(own) :]])
            if any(one.get_key_element() == "suite" and one.is_sweep_override() for one in overrides):
                raise HydraException("suite takes one name: run the suites one after the other")
            jobs.update(dict.fromkeys(tuple(job) for job in self.split_arguments(overrides, None)[0]))
        return [self.launcher.launch(list(jobs), initial_job_idx=0)]

    def _refuse_twice(self, product: Mapping[str, Any], written: Sequence[str]) -> None:
        assert self.config is not None
        hydras = [word.lstrip("+").partition("=")[0] for word in self.config.hydra.overrides.hydra]
        names = {name.lstrip("+") for name in product}
        if "hydra.sweeper.products" in hydras and (twice := [name for name in written if name in names]):
            raise HydraException(f"{twice[0]} is in hydra.sweeper.products and beside it: write it once")


def products_of(suite: str) -> list[dict[str, Any]]:
    """The products of a suite, each with the suite's settings and params. Raises HydraException where there is none."""
    path = CONF / "suite" / f"{suite}.yaml"
    if not path.exists():
        raise HydraException(
            f"no suite {suite}: choose from {', '.join(sorted(p.stem for p in path.parent.glob('*')))}"
        )
    given = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(given, dict)
    sweeper = given.pop("hydra")["sweeper"]
    own = {**flat({str(name): value for name, value in given.items()}), **sweeper.get("params", {})}
    return [{**own, **product} for product in sweeper["products"]]
