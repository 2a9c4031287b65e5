"""The Hugging Face Hub's own grammar: repositories, revisions, paths, quantisation tags and web pages.

It is the grammar of huggingface_hub (``hf://[TYPE/]ORG/NAME[@REVISION][/PATH]``) together with the tag of
Ollama, llama.cpp and node-llama-cpp (``ORG/NAME:TAG``). Three rules keep double meanings out of the union:
the type word comes first, ``@`` and ``:`` count only directly after the repository's name, and in every
other place they are percent-encoded when printed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from modelcask.errors import PolicyError
from modelcask.refusal import Refusal
from modelcask.relpath import check_relpath
from modelcask.url import decode, encode

HUB_HOSTS: Final = frozenset({"huggingface.co", "www.huggingface.co", "hf.co"})
DEFAULT_REF: Final = "main"

_KINDS = frozenset({"models", "datasets", "spaces", "kernels"})
_ONE_WORD_KINDS = frozenset({"models", "datasets"})
_SINGULAR = {"model": "models", "dataset": "datasets", "space": "spaces", "kernel": "kernels", "bucket": "buckets"}
_ROUTES = frozenset({"blob", "tree", "resolve", "raw", "blame"})
# The Hub's own pages: what stands first in such a path is not the name of an account, ...
_NOT_ACCOUNTS = frozenset(
    {"api", "blog", "changelog", "chat", "collections", "docs", "endpoints", "enterprise", "inference", "join"}
    | {"learn", "login", "new", "notifications", "organizations", "papers", "posts", "pricing", "search"}
    | {"settings", "storage", "tasks"}
)
# ... and what stands third here is not the name of a file.
_NOT_FILES = frozenset(
    {"commit", "commits", "community", "delete", "discussions", "edit", "new", "settings", "upload", "viewer"}
)

_WORD = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?")
_COMMIT = re.compile(r"[0-9A-Fa-f]{40}")
_REFS = "refs"
_SPECIAL_REF = re.compile(r"refs/(?:pr/[0-9]+|convert/[A-Za-z0-9_][A-Za-z0-9_.-]*)(?![^/])")
_REF_FAULT = re.compile(r"\.\.|@\{|//|/\.|\.lock(?:/|\Z)|[\s~^:?*\[\\]|\A[-./]|[./]\Z|\A@\Z")
_MAX_REF_BYTES = 255
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,127}")
_QUANT = re.compile(
    r"(?:UD-)?(?:I?Q[1-8](?:_[0-9A-Z]{1,3}){0,3}|TQ[12]_0|B?F16|F32|FP(?:8|16|32)|MXFP4(?:_MOE)?|NVFP4)", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class HubRepo:
    """One repository of the Hub."""

    kind: str
    """``models``, ``datasets``, ``spaces`` or ``kernels``."""
    id: str
    """``org/name``, or a legacy id of one word."""


@dataclass(frozen=True, slots=True)
class HubPlace:
    """What a body names: a repository, and a revision, path or tag in it."""

    repo: HubRepo
    path: str = ""
    folder: bool = False
    """Whether the path was written as a folder's."""
    revision: str | None = None
    """A commit (40 hex digits, lower case) or a ref, decoded and checked; None where none is named."""
    quant: str | None = None


def read_body(body: str) -> HubPlace:
    """Read ``[TYPE/]ID[@REVISION][/PATH]`` or ``[TYPE/]ID:TAG``."""
    if "?" in body:
        raise Refusal("the Hub's URIs have no query; a '?' in a name is written %3F", "?", _hub(body.partition("?")[0]))
    if "://" in body:
        raise Refusal("it holds a second scheme", "://", body)
    if ":/" in body:
        raise Refusal("a place to mount at is not part of the URI", ":/", _hub(body.partition(":/")[0]))
    kind, rest = _read_kind(body)
    first, _, after = rest.partition("/")
    if after == "" or "@" in first or ":" in first:
        return _read_one_word(kind, rest, body)
    if kind is None and first.lower() in HUB_HOSTS:
        raise Refusal("the Hub's host name is not part of an hf:// URI", first, _hub(after))
    kind = kind or "models"
    name, mark, tail = (*re.split("([/@:])", after, maxsplit=1), "", "")[:3]
    repo = HubRepo(kind, f"{_read_word(first, body)}/{_read_word(name, body)}")
    return _read_tag(repo, tail) if mark == ":" else _read_tail(repo, mark, tail)


def read_page(path: str, *, direct: bool) -> HubPlace:
    """Read the path of a page of the Hub's web site.

    Args:
        path: percent-encoded, from the first ``/``, without query and fragment.
        direct: whether a file may stand directly after the name, as node-llama-cpp has it for text without a scheme.
    """
    segments = path.removeprefix("/").removesuffix("/").split("/")
    if "" in segments:
        raise Refusal("it names no repository, or has an empty segment", path)
    prefix = ""
    if segments[0] in _KINDS or segments[0] == "buckets":
        prefix = f"{segments.pop(0)}/"
    elif segments[0] in _NOT_ACCOUNTS:
        raise Refusal("this page of the Hub is not a repository", segments[0])
    words = 1 if _is_one_word(prefix, segments) else 2
    if len(segments) < words:
        raise Refusal("this page shows an account or a list, not a repository", path)
    repo, rest = prefix + "/".join(segments[:words]), segments[words:]
    if not rest:
        return read_body(repo)
    if rest[0] not in _ROUTES:
        whole = f"{repo}/{'/'.join(rest)}"
        if direct and rest[0] not in _NOT_FILES:
            return read_body(whole)
        reason = f"the Hub has no files under /{rest[0]}; they are under /blob, /tree, /resolve, /raw and /blame"
        raise Refusal(reason, rest[0], _hub(repo if rest[0] in _NOT_FILES else whole))
    if "@" in segments[words - 1] or ":" in segments[words - 1]:
        raise Refusal("the revision of a page stands after its route", segments[words - 1])
    if len(rest) == 1:
        raise Refusal(f"a revision stands after /{rest[0]}/", rest[0], _hub(repo))
    slash = "/" if rest[0] == "tree" and len(rest) > 2 else ""  # noqa: PLR2004 - route, revision, path
    return read_body(f"{repo}@{'/'.join(rest[1:])}{slash}")


def read_revision(text: str) -> str:
    """Return a decoded revision after the rules of git-check-ref-format; a commit in lower case."""
    name = decode(text)
    if _COMMIT.fullmatch(name):
        return name.lower()
    if name in {"", _REFS} or not name.isprintable() or _REF_FAULT.search(name) or len(name.encode()) > _MAX_REF_BYTES:
        raise Refusal("this cannot be the name of a branch, tag or commit", name)
    return name


def is_commit(revision: str) -> bool:
    """Say whether a checked revision is immutable."""
    return _COMMIT.fullmatch(revision) is not None


def encode_revision(revision: str) -> str:
    """Write a revision so that :func:`read_body` finds its end: a slash as %2F, but in the Hub's own refs."""
    return revision if _SPECIAL_REF.fullmatch(revision) else encode(revision, plain="!$&'()*+,;=")


def _hub(body: str) -> str:
    return f"hf://{body}"


def _read_kind(body: str) -> tuple[str | None, str]:
    first, slash, rest = body.partition("/")
    if first == "buckets":
        raise Refusal("buckets have no revisions, so nothing in them can be cached as a version", first)
    if first in _SINGULAR and slash:
        plural = _SINGULAR[first]
        raise Refusal(f"the type is written {plural!r}", first, _hub(f"{plural}/{rest}"))
    if first in _KINDS:
        if not rest:
            raise Refusal("no repository is named after the type", first)
        return first, rest
    return None, body


def _read_one_word(kind: str | None, rest: str, body: str) -> HubPlace:
    """Read a legacy id: only where nothing else, ``@`` or the end follows the first word."""
    word, mark, tail = rest.removesuffix("/").partition("@")
    kind = kind or "models"
    if ":" in word:
        raise Refusal("a quantisation tag stands after org/name", word)
    if kind not in _ONE_WORD_KINDS:
        raise Refusal("a repository here is named org/name", word)
    return _read_tail(HubRepo(kind, _read_word(word, body)), mark, tail)


def _is_one_word(prefix: str, segments: list[str]) -> bool:
    """Say whether a page's path begins with a legacy id, so that no org/name can be meant."""
    if len(segments) == 1:
        return prefix == "datasets/"
    return len(segments) > 2 and segments[1] in _ROUTES and segments[2] not in _ROUTES  # noqa: PLR2004 - name, route, revision


def _read_word(text: str, body: str) -> str:
    word = decode(text)
    if word.endswith(".git"):
        raise Refusal("the name of a repository is written without .git", word, _hub(body.replace(text, text[:-4])))
    if _WORD.fullmatch(word) is None or "--" in word or ".." in word:
        reason = (
            "the name of an account or repository has up to 96 of A-Z a-z 0-9 _ . - "
            "and neither begins nor ends with '-' or '.', nor holds '--' or '..'"
        )
        raise Refusal(reason, word)
    return word


def _read_tag(repo: HubRepo, tag: str) -> HubPlace:
    if "@" in tag:
        raise _tag_and_revision(repo, *tag.split("@", 1))
    if _TAG.fullmatch(tag) is None:
        raise Refusal("a quantisation tag has letters, digits, '_', '.', '-' and ends the URI", tag)
    if repo.kind != "models":
        raise Refusal("only models have quantisation tags", f":{tag}", _hub(f"{repo.kind}/{repo.id}"))
    return HubPlace(repo, quant=tag.upper() if _QUANT.fullmatch(tag) else tag)


def _tag_and_revision(repo: HubRepo, tag: str, revision: str) -> Refusal:
    bare = f"{repo.kind}/{repo.id}"
    revision = revision.partition("/")[0]
    reason = (
        "the Hub keeps quantisation tags for the newest revision only: name the tag, "
        f"or the revision and a file of it ({_hub(f'{bare}@{revision}/FILE')})"
    )
    return Refusal(reason, f":{tag}", _hub(f"{bare}:{tag}"))


def tag_and_revision(place: HubPlace, revision: str) -> Refusal:
    """Refuse a tag together with a revision, and show both right forms."""
    return _tag_and_revision(place.repo, place.quant or "", encode_revision(revision))


def _read_tail(repo: HubRepo, mark: str, tail: str) -> HubPlace:
    """Read ``@REVISION[/PATH]`` or ``/PATH``."""
    revision, path = None, tail
    if mark == "@":
        special = _SPECIAL_REF.match(tail)
        text = special[0] if special else tail.partition("/")[0]
        path = tail[len(text) :].removeprefix("/")
        if not text:
            raise Refusal("no revision follows '@'", "@", _hub(f"{repo.kind}/{repo.id}/{path}"))
        if ":" in text:
            raise _tag_and_revision(repo, text.partition(":")[2], text.partition(":")[0])
        if text == _REFS:
            raise Refusal("a '/' in a revision is written %2F", tail)
        revision = read_revision(text)
    folder = path.endswith("/")
    path = decode(path.removesuffix("/"))
    if path or folder:
        try:
            check_relpath(path)
        except PolicyError as error:
            # The advice at the end of the message is for files that a repository brings, not for a URI.
            raise Refusal(str(error).rpartition("; ")[0], path) from error
    return HubPlace(repo, path, folder, revision)
