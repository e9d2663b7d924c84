"""The one place that holds the version of `pilot-core`."""

__version__ = "0.1.0"
