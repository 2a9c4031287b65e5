"""The one reader of URIs: what a person writes becomes the one canonical URI that the catalog is keyed by.

Read are the Hub's spellings (``hub_uri.py``), http, https and file URLs, and any other ``scheme://…`` for the
sources that plug-ins bring. Nothing is guessed: a text that could mean two things is refused, with the
nearest right form. A canonical URI is printable ASCII, holds no secret, and reads back as itself.

::

    hf://models/ORG/NAME@REVISION[/PATH][#sha256=HEX]      hf://models/ORG/NAME:TAG[#sha256=HEX]
    https://host[:port]/path[?query][#sha256=HEX]          file:///path[#sha256=HEX]

Pure and light: no I/O, no environment, the standard library only, because every lookup begins here.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Final

from modelcask.digest import Digest
from modelcask.errors import InvalidURIError
from modelcask.hub_uri import (
    DEFAULT_REF,
    HUB_HOSTS,
    HubPlace,
    HubRepo,
    encode_revision,
    is_commit,
    read_body,
    read_page,
    read_revision,
    tag_and_revision,
)
from modelcask.pin import read_pin
from modelcask.printable import SafeURL, display
from modelcask.refusal import Refusal, password_refusal
from modelcask.slips import check_scheme, without_scheme
from modelcask.url import URL, encode, read_file_url, read_url

__all__ = ["HubRepo", "ModelURI", "parse_uri"]

MAX_LENGTH: Final = 8192

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_HUB_SCHEMES = frozenset({"hf", "huggingface"})


@dataclass(frozen=True, slots=True)
class ModelURI:
    """What one URI means. Two spellings of one thing are equal.

    The constructor trusts its arguments; :func:`parse_uri` checks. ``dataclasses.replace`` keeps the canonical form
    right, for example to name the commit that a ref was resolved to.
    """

    scheme: str
    source: str
    """The catalog's key of the source: no revision, path, secret or fragment. For http and file the URL itself."""
    path: str = ""
    """The path inside the source; empty for all of it. For http and file the file's name."""
    ref: str | None = None
    """The movable name that was asked for: a branch or tag, ``latest``, or ``:TAG``; None beside ``revision``."""
    revision: str | None = None
    """The immutable revision that was asked for: a commit in lower case."""
    pin: Digest | None = None
    repo: HubRepo | None = None
    quant: str | None = None
    fetch_url: str | None = field(default=None, repr=False, compare=False)
    """What to request, signed parameters included, so never shown or stored. None for the Hub."""
    notes: tuple[str, ...] = field(default=(), compare=False)
    """How the text was read, one sentence each; safe to show."""

    @property
    def canonical(self) -> str:
        """The one spelling of this meaning: printable ASCII, without secrets."""
        text = self.source
        if self.repo is not None:
            if self.quant is not None:
                text += f":{self.quant}"
            else:
                text += f"@{encode_revision(self.revision or self.ref or DEFAULT_REF)}"
                text += f"/{encode(self.path)}" if self.path else ""
        return text if self.pin is None else f"{text}#{self.pin.algorithm}={self.pin.hex}"

    def __str__(self) -> str:
        return self.canonical


def parse_uri(text: str, *, hub_hosts: Collection[str] = ()) -> ModelURI:
    """Read one URI.

    Args:
        text: what a person wrote.
        hub_hosts: further hosts (``host`` or ``host:port``) whose pages are read like those of huggingface.co.

    Raises:
        InvalidURIError: with the part that is wrong and, where one is likely, a suggestion that can be read. Neither
            it nor the message repeats a password, a query or a fragment of a URL; of a pin, its digits.
        TypeError: it is no text.
    """
    if not isinstance(text, str):
        raise _no_text(text)
    hosts = HUB_HOSTS.union(host.lower() for host in hub_hosts) if hub_hosts else HUB_HOSTS
    try:
        return _read(text, hosts)
    except Refusal as refused:
        refusal = refused
    # Raised out here, so that no traceback goes on to show the parts that were left out.
    shown, hidden = _shown(text)
    if hidden:
        # The reason and the part may hold a piece of what the text must not show.
        refusal = password_refusal(refusal.suggestion)
    part = shown if refusal.part == text else display(refusal.part)
    suggestion = _right_form(refusal.right_form_of(text), hosts)
    raise InvalidURIError(shown, display(refusal.reason, 1000), part=part, suggestion=suggestion)


def _no_text(value: object) -> TypeError:
    message = f"a URI is a str or a ModelURI, not {type(value).__name__}"
    if isinstance(value, PurePath):
        # as_uri wants a whole path, and a relative one is somebody's to complete.
        shown = display(value.as_uri() if value.is_absolute() else f"file:///…/{value}", 1000)
        return TypeError(f"{message}: write it as {shown}")
    if isinstance(value, (bytes, bytearray)):
        return TypeError(f"{message}: decode it first")
    return TypeError(f"{message}: write hf://org/name, https://… or file:///…")


def _read(text: str, hosts: frozenset[str]) -> ModelURI:
    _check_characters(text)
    host = re.split(r"[/?#]", text, maxsplit=1)[0]
    if host.lower() in hosts:
        return _read_bare_page(text[len(host) :])
    match = _SCHEME.match(text)
    if match is None:
        raise without_scheme(text)
    scheme, rest = match[1].lower(), text[match.end() :]
    if len(scheme) == 1:
        raise Refusal("Windows paths are not read", text[:2])
    if scheme in _HUB_SCHEMES:
        return _read_hub(rest)
    if scheme == "file":
        return _from_url("file", read_file_url(rest))
    check_scheme(scheme, rest)
    url = read_url(scheme, rest[2:])
    if scheme in {"http", "https"} and _is_hub(scheme, url, hosts):
        return _read_web_page(url)
    return _from_url(scheme, url)


def _check_characters(text: str) -> None:
    if not text or text.isspace():
        raise Refusal("it is empty", text)
    if len(text) > MAX_LENGTH:
        raise _too_long(text)
    if text != text.strip():
        raise Refusal("it begins or ends with white space", text[0] if text[0].isspace() else text[-1], text.strip())
    if not text.isprintable():
        bad = next(char for char in text if not char.isprintable())
        raise Refusal(f"it holds the invisible character U+{ord(bad):04X}; write it percent-encoded", bad)


def _too_long(text: str) -> Refusal:
    return Refusal(f"it is longer than {MAX_LENGTH} characters, percent-encoding included", f"{len(text)} characters")


def _read_hub(rest: str) -> ModelURI:
    """Read what follows ``hf:``."""
    slashes = len(rest) - len(rest.lstrip("/"))
    body, mark, fragment = rest[slashes:].partition("#")
    if slashes not in {0, 2}:
        raise Refusal("two slashes, or none, follow hf:", "/" * slashes, f"hf://{rest.lstrip('/')}")
    if not body:
        raise Refusal("no repository is named", rest)
    return _from_hub(read_body(body), fragment if mark else None, ())


def _read_bare_page(rest: str) -> ModelURI:
    """Read what follows the Hub's host name in a text without a scheme."""
    body, mark, fragment = rest.partition("#")
    path, _, query = body.partition("?")
    note = "A host name without a scheme is read as a page of the Hub."
    return _from_hub(read_page(path, direct=True), fragment if mark else None, (note, *_dropped_query(query)))


def _read_web_page(url: URL) -> ModelURI:
    place = read_page(url.path, direct=False)
    pin, dropped = _read_url_fragment(url.fragment)
    notes = ("A page of the Hub is read as what it shows.", *_dropped_query(url.query), *dropped)
    return _from_hub(place, None, notes, pin)


def _dropped_query(query: str) -> tuple[str, ...]:
    return ("The query of the page was dropped.",) if query else ()


def _is_hub(scheme: str, url: URL, hosts: frozenset[str]) -> bool:
    default = ":443" if scheme == "https" else ":80"
    return url.authority in hosts or url.authority + default in hosts


def _from_hub(place: HubPlace, fragment: str | None, notes: tuple[str, ...], pin: Digest | None = None) -> ModelURI:
    revision = place.revision
    if fragment is not None:
        if not fragment:
            raise Refusal("no revision or digest follows '#'", "#", _from_hub(place, None, ()).canonical)
        # 40 hex digits are a commit here, whatever else they could name.
        pin = None if is_commit(fragment) else read_pin(fragment)
        if pin is None:
            revision = _read_hub_fragment(place, fragment)
    if pin is not None and place.quant is None and (not place.path or place.folder):
        raise Refusal("a digest pins one file, and this names several", f"#{pin.algorithm}=")
    source = f"hf://{place.repo.kind}/{place.repo.id}"
    notes = (*notes, *_explain(place, revision))
    if place.quant is not None:
        return ModelURI("hf", source, "", f":{place.quant}", None, pin, place.repo, place.quant, notes=notes)
    commit = revision if revision is not None and is_commit(revision) else None
    ref = None if commit is not None else revision or DEFAULT_REF
    return ModelURI("hf", source, place.path, ref, commit, pin, place.repo, notes=notes)


def _read_hub_fragment(place: HubPlace, fragment: str) -> str:
    if "#" in fragment:
        raise Refusal("one '#' at most; in a name it is written %23", f"#{fragment}")
    revision = read_revision(fragment)
    if place.quant is not None:
        raise tag_and_revision(place, revision)
    if place.revision not in {None, revision}:
        raise Refusal("it names two revisions", f"#{fragment}")
    return revision


def _explain(place: HubPlace, revision: str | None) -> list[str]:
    notes = []
    if place.quant is not None:
        notes.append(f"The Hub picks the GGUF files for the tag {place.quant}.")
    elif not place.path:
        notes.append("No file is named: the whole repository is meant.")
        if place.repo.kind == "models" and revision is None:
            notes.append("For the GGUF file that the Hub picks, as some tools read it, write :latest after the name.")
    elif place.folder:
        notes.append("The path is a folder: all files below it are meant.")
    if place.quant is None and revision is None:
        notes.append(f"No revision is named: the branch {DEFAULT_REF} is meant.")
    if "/" not in place.repo.id:
        notes.append("The repository has a legacy id of one word.")
    return notes


def _from_url(scheme: str, url: URL) -> ModelURI:
    pin, notes = _read_url_fragment(url.fragment)
    if url.stripped:
        names = ", ".join(display(name, 80) for name in url.stripped)
        notes = (*notes, f"These parameters are sent but neither stored nor shown: {names}.")
    uri = ModelURI(scheme, url.normal, url.name, "latest", None, pin, fetch_url=url.request, notes=notes)
    if len(uri.canonical) > MAX_LENGTH:
        raise _too_long(uri.canonical)
    return uri


def _read_url_fragment(fragment: str | None) -> tuple[Digest | None, tuple[str, ...]]:
    """Return the pin of a URL's fragment; any other fragment was never sent to a server, so it is dropped."""
    pin = read_pin(fragment) if fragment else None
    return pin, () if fragment is None or pin is not None else ("The fragment was dropped: it is not a digest.",)


def _right_form(candidate: str | None, hosts: frozenset[str]) -> str | None:
    """Return the suggestion if it can be read, without secrets; else None."""
    # The first slip may hide a second one: only a form that is right in all is worth showing.
    for _ in range(3):
        if candidate is None:
            return None
        try:
            uri = _read(candidate, hosts)
        except Refusal as refusal:
            candidate = refusal.right_form_of(candidate)
        else:
            return candidate if candidate.startswith("hf://") and candidate.isascii() else uri.canonical
    return None


def _shown(text: str) -> tuple[str, bool]:
    """Return a refused text as a message may repeat it, without query and fragment of a URL.

    The second value says that it may hold a password anywhere, so that only the scheme is left of it.
    """
    text = text.strip()
    match = _SCHEME.match(text)
    prefix = match[0] if match else ""
    rest = text[len(prefix) :]
    body = rest.lstrip("/")
    authority = re.split(r"[/?#]", body, maxsplit=1)[0]
    if prefix[:-1].lower() in _HUB_SCHEMES and "://" not in body:
        hidden, cut = ":" in authority and "@" in body, text.partition("?")[0]
    elif match and rest == f"//{body}" and body.count("@") == authority.count("@") == 1:
        # The usual form, by the rules: any other '@' may end a password that broke them.
        hidden, cut = False, SafeURL(text)
    else:
        hidden, cut = "@" in authority or "@" in body.partition(":")[2], re.split(r"[?#]", text, maxsplit=1)[0]
    return (f"{prefix}…" if hidden else display(cut)), hidden
