"""Errors that a person can act on: each says what was got, what is allowed and what to do next."""


class AvserError(Exception):
    """Base of every error that avser raises on purpose; the command line prints it without a traceback."""


class MediaError(AvserError):
    """A media file cannot be used: missing, unreadable, truncated, without the track asked for, silent."""


class ManifestError(AvserError):
    """A manifest or region table is faulty; the message names the file, the row and the column."""


class SplitError(AvserError):
    """A split is unknown, impossible for this corpus, or would leak speakers."""


class CacheError(AvserError):
    """A cache is missing, damaged, or was made with other settings than asked for."""


class ConfigError(AvserError):
    """A configuration holds an unknown key, a value out of range, or parts that do not fit each other."""


class TrainingError(AvserError):
    """Training cannot go on, e.g. because the loss is no longer finite."""


class CheckpointError(AvserError):
    """A run folder or weight file is missing, damaged, or was not written by avser."""
