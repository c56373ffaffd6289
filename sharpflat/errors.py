"""The one exception whose message a person is meant to read without a traceback, and the one warning."""

from __future__ import annotations


class InputError(Exception):
    """Something given from outside (a key, a file, a flag) is wrong.

    The message says where (the path of the key or file), what was found, and what is allowed or to be done.
    """


class CurvatureWarning(UserWarning):
    """Curvature that is used although it is not what was asked for: not converged, or from products that are wrong."""
