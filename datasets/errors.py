"""The error of every dataset, apart from datasets/base.py so that the downloader starts without torch."""


class DataError(ValueError):
    """Data that is missing or not what it should be. The message says what to do about it."""
