"""What strangers wrote cannot move a cursor, forge a line or carry a secret when it is shown."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelcask.printable import SafeURL, display

HOSTILE = [
    "\x1b[2J\x1b[31mred",
    "a\rb",
    "line\nforged",
    "tab\there",
    "\u202egpj.exe",
    "\u2066isolate\u2069",
    "zero\u200bwidth",
    "\ufeffmark",
    "\u2028separator",
    "\u2029paragraph",
    "nul\0",
    "\x7f\x80\x9b2J",
    "lone \udc80 surrogate",
    "\U000e0041tag",
    "\ue000private",
    "\U0010ffff",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_that_a_terminal_obeys_is_left(text: str) -> None:
    """Controls, bidi marks, invisible and private characters and lone surrogates appear escaped."""
    shown = display(text)
    assert shown != text
    assert all(unicodedata.category(char)[0] != "C" for char in shown)
    shown.encode()


@given(st.text(st.characters(), max_size=400), st.integers(1, 300))
def test_what_is_shown_is_printable_and_bounded(text: str, limit: int) -> None:
    """Whatever comes in: no control or format character goes out, and not much more than was allowed."""
    shown = display(text, limit)
    assert all(unicodedata.category(char) not in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"} for char in shown)
    assert len(shown) <= max(limit + 1, len(text) * 10)
    shown.encode()


@pytest.mark.parametrize("text", ["", "model-Q4_K_M.gguf", "modèle.gguf", "模型.safetensors", "a b", "ünï/çödé"])
def test_ordinary_names_are_shown_as_they_are(text: str) -> None:
    """Letters of any script are not a danger."""
    assert display(text) == text


def test_a_long_text_is_cut_with_a_mark() -> None:
    """The reader sees that there was more."""
    assert display("a" * 500, 10) == "a" * 10 + "…"
    assert display("a" * 10, 10) == "a" * 10


URLS = {
    "https://user:secret@host.example/a/b.gguf?token=secret#secret": "https://host.example/a/b.gguf",
    "https://secret@host:8443/x": "https://host:8443/x",
    "https://a@b@host/x": "https://host/x",
    "https://host/x?X-Amz-Signature=secret": "https://host/x",
    "http://[::1]:80/x": "http://[::1]:80/x",
    "https://host/a b\x1b[0m": "https://host/a%20b%1B[0m",
    "https://host/模é": "https://host/%E6%A8%A1%C3%A9",
    "//host/x?secret": "/x",
    "relative?secret": "relative",
    "https://host/\udc80": "https://host/%3F",
    "https://[broken": "<unreadable URL>",
    "": "",
}


@pytest.mark.parametrize(("url", "shown"), URLS.items())
def test_a_safe_url_holds_no_secret(url: str, shown: str) -> None:
    """Userinfo, query and fragment are where secrets travel; none is printed or stored."""
    assert SafeURL(url) == shown
    assert "secret" not in SafeURL(url)


@given(st.text(max_size=100), st.text(max_size=100), st.text("abc/%é\n\x1b", max_size=30))
def test_no_url_shows_what_it_should_not(user: str, query: str, path: str) -> None:
    """Any user and any query: neither is in what is shown, and that is printable ASCII of bounded length."""
    user = "".join(char for char in user if char not in "/?#[]\\@")
    shown = SafeURL(f"https://u5er{user}:pa55@host/{path}?qu3ry{query}#fra9")
    assert shown.isascii()
    assert shown == "" or shown.isprintable()
    assert not any(secret in shown for secret in ("u5er", "pa55", "qu3ry", "fra9"))
    assert len(shown) <= 12 * 500
