"""A refusal: which part of a text is wrong and why, before anybody has decided what of the text may be repeated."""

from __future__ import annotations


class Refusal(Exception):  # noqa: N818 - not yet an error: parse_uri makes it one, and takes the secrets out of the text
    """Say which part of a text is wrong and why, and the nearest right form where one is likely.

    A ``suggestion`` that begins with ``#`` stands for the text with that fragment in place of its own.
    """

    def __init__(self, reason: str, part: str, suggestion: str | None = None) -> None:
        self.reason = reason
        self.part = part
        self.suggestion = suggestion
        super().__init__(reason)

    def right_form_of(self, text: str) -> str | None:
        """Return the suggestion as a whole, made for ``text``; None where there is none."""
        if self.suggestion is None or not self.suggestion.startswith("#"):
            return self.suggestion
        return text.partition("#")[0] + self.suggestion


def password_refusal(suggestion: str | None) -> Refusal:
    """Refuse a user name or password without repeating it."""
    reason = "a user name or password in a URI would be stored and shown; leave it out"
    return Refusal(reason, "user name or password", suggestion)
