"""The exception whose message is meant to be read without a traceback, and the library's warning."""

from __future__ import annotations


class InputError(Exception):
    """An input from outside (a key, a file, a flag or an argument) is wrong.

    The message says where the mistake is (the path of the key or file), what was found, and what is allowed or what to
    do.
    """


class CurvatureWarning(UserWarning):
    """Curvature is used although it is inaccurate: it did not converge, or it comes from wrong products."""
