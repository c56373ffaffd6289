"""Mistakes in configuration files, which are collected so that a person sees all of them at once."""

from __future__ import annotations

from sharpflat.errors import InputError


class Mistakes:
    """Lines `<file>: <key>: <message>` in order, without repetitions."""

    def __init__(self) -> None:
        self._lines: dict[str, None] = {}  # the members of a family share their mistakes

    def add(self, file: str, key: str, message: str) -> None:
        """Add one line."""
        self._lines[f"{file}: {key}: {message}"] = None

    def extend(self, error: InputError) -> None:
        """Add the lines of an error."""
        self._lines |= dict.fromkeys(str(error).splitlines())

    def stop(self) -> None:
        """Raises the collected mistakes.

        Raises:
            InputError: there are mistakes. The message has all lines.
        """
        if self._lines:
            raise InputError("\n".join(self._lines))
