"""name=value words, as all commands of this package take them."""

from collections.abc import Mapping, Sequence


class Usage(ValueError):
    """A command line that there is nothing to do with; the message says what can be given."""


def words(arguments: Sequence[str], defaults: Mapping[str, str]) -> dict[str, str]:
    """`defaults` with the name=value words among `arguments` in their place. Raises Usage for any other word."""
    given = {name: value for name, _, value in (word.partition("=") for word in arguments)}
    if wrong := [name for name, value in given.items() if name not in defaults or not value]:
        raise Usage(f"cannot use {', '.join(wrong)}: give {', '.join(f'{name}=...' for name in defaults)}")
    return {**defaults, **given}
