"""The error that weights raise."""


class WeightsError(ValueError):
    """A weights file that cannot be used; says which and why."""
