"""A module that cannot be imported: the reason must reach the user."""

raise RuntimeError("the reason")
