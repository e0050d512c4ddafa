"""Command lines: name=value words, as most commands of this package take them, and options."""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Collection, Mapping, Sequence


class Usage(ValueError):
    """A command line that there is nothing to do with; the message says what can be given."""


def words(arguments: Sequence[str], defaults: Mapping[str, str]) -> dict[str, str]:
    """`defaults` with the name=value words among `arguments` in their place. Raises Usage for any other word."""
    given = {name: value for name, _, value in (word.partition("=") for word in arguments)}
    if wrong := [name for name, value in given.items() if name not in defaults or not value]:
        raise Usage(f"cannot use {', '.join(wrong)}: give {', '.join(f'{name}=...' for name in defaults)}")
    return {**defaults, **given}


def apart(arguments: Sequence[str], own: Collection[str]) -> tuple[dict[str, str], list[str]]:
    """The name=value words among `arguments` whose name is one of `own`, and all others."""
    given = {name: value for name, _, value in (word.partition("=") for word in arguments) if name in own}
    return given, [word for word in arguments if word.partition("=")[0] not in own]


def options(module: str, doc: str | None) -> ArgumentParser:
    """The parser of `python -m module`, which tells all of its docstring."""
    return ArgumentParser(prog=f"python -m {module}", description=doc, formatter_class=RawDescriptionHelpFormatter)
