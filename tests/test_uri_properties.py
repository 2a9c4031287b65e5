"""What holds for every text, found by looking for one where it does not."""

from __future__ import annotations

import re
import string
import unicodedata
from ipaddress import IPv6Address
from urllib.parse import quote, unquote

import pytest
from huggingface_hub import parse_hf_uri
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from yarl import URL

from modelcask.digest import Digest
from modelcask.errors import InvalidURIError, PolicyError
from modelcask.relpath import check_relpath
from modelcask.uri import HubRepo, ModelURI, parse_uri

CANARY = "cAnArY7"
WORDS = string.ascii_letters + string.digits
UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}

TOKENS = """
    hf: hf:// https:// http: file:/// huggingface.co/ hf.co models/ datasets org/repo / // : @ # ? % %2F %00 %ff .. . ~
    [::1] localhost :80 main refs/pr/1 blob /tree/ Q4_K_M sha256= s3 token=x& sig= user:pw@ .git C: é ß org
"""

quick = settings(deadline=None, max_examples=60)


def _may_be_path(text: str) -> bool:
    try:
        return bool(check_relpath(text))
    except PolicyError:
        return False


def _seen(text: str) -> bool:
    return not any(unicodedata.category(char) in UNSEEN for char in text)


word = st.from_regex(r"[A-Za-z0-9_]([A-Za-z0-9_]|[.-][A-Za-z0-9_]){0,12}", fullmatch=True).filter(
    lambda text: not text.endswith(".git") and text.lower() not in {"huggingface.co", "hf.co"}
)
kind = st.sampled_from(["models", "datasets", "spaces", "kernels"])
commit = st.text("0123456789abcdef", min_size=40, max_size=40)
branch = st.from_regex(
    r"[A-Za-z0-9é@_#%+=][A-Za-z0-9é@_#%+=-]{1,8}([./-][A-Za-z0-9@_#%+-]{1,4})?", fullmatch=True
).filter(lambda text: text != "refs")
ref = st.one_of(branch, st.from_regex(r"refs/(pr/[0-9]{1,4}|convert/[a-z0-9][a-z0-9-]{0,8})", fullmatch=True))
name_text = st.text(
    st.characters(exclude_categories=("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"), exclude_characters='<>:"|?*/\\'),
    min_size=1,
    max_size=8,
)
path = st.lists(name_text, min_size=1, max_size=3).map("/".join).filter(_may_be_path)
pin = st.builds(Digest, st.sampled_from(["sha256", "blake3"]), st.text("0123456789abcdef", min_size=64, max_size=64))
tag = st.sampled_from(["Q4_K_M", "IQ2_XXS", "UD-Q8_K_XL", "BF16", "latest", "Some.tag"])


@st.composite
def hub_uris(draw: st.DrawFn) -> ModelURI:
    """Any value that a Hub URI can have."""
    repo = HubRepo(draw(kind), f"{draw(word)}/{draw(word)}")
    if repo.kind == "models" and draw(st.integers(0, 9)) == 0:
        repo = HubRepo("models", draw(word))
    source = f"hf://{repo.kind}/{repo.id}"
    if repo.kind == "models" and "/" in repo.id and draw(st.integers(0, 4)) == 0:
        quant = draw(tag)
        return ModelURI("hf", source, "", f":{quant}", None, draw(st.none() | pin), repo, quant)
    inside = draw(st.just("") | path)
    digest = draw(st.none() | pin) if inside else None
    if draw(st.booleans()):
        return ModelURI("hf", source, inside, None, draw(commit), digest, repo)
    return ModelURI("hf", source, inside, draw(ref), None, digest, repo)


label = st.from_regex(r"[a-z]([a-z0-9-]{0,8}[a-z])?", fullmatch=True).filter(lambda text: text[2:4] != "--")
host = st.one_of(
    st.lists(label, min_size=1, max_size=4).map(".".join),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).filter(lambda address: IPv6Address(int(address)).ipv4_mapped is None).map("[{}]".format),
)
url_text = st.text(WORDS + "-._~!$&'()*+,;=:@[]{}|^`\"<>é世", max_size=10)
url_escape = st.integers(0, 255).map("%{:02x}".format)
segment = st.lists(url_text | url_escape, max_size=4).map("".join).filter(lambda text: unquote(text) not in {".", ".."})


@st.composite
def web_urls(draw: st.DrawFn) -> str:
    """Any http or https URL that is well formed enough to be read."""
    text = draw(st.sampled_from(["http", "https", "HTTP", "Https"])) + "://" + draw(host)
    port = draw(st.none() | st.integers(1, 65535))
    text += "" if port is None else f":{port}"
    segments = draw(st.lists(segment, max_size=4))
    text += "".join(f"/{one}" for one in segments)
    query = draw(st.none() | st.lists(segment, max_size=3).map("&".join))
    text += "" if query is None else f"?{query}"
    return text


local_urls = st.lists(st.binary(min_size=1, max_size=8), min_size=1, max_size=4).map(
    lambda parts: (
        "file:///" + "/".join("".join(f"%{byte:02X}" for byte in part if byte not in b"/\0") for part in parts)
    )
)
other_urls = st.builds(
    lambda scheme, rest: f"{scheme}://{rest}",
    st.sampled_from(["s3", "ollama", "ms", "oci", "x+y.z-1"]),
    st.lists(segment.filter(lambda text: "@" not in text), min_size=1, max_size=4).map("/".join).filter(bool),
)

pieces = st.sampled_from(TOKENS.split()) | st.sampled_from(
    ["\\", " ", "\n", "\x1b", "\u202e", "\ud800", "\xa0", "0" * 40, "a" * 64]
)
any_text = st.one_of(st.text(max_size=60), st.lists(pieces, max_size=9).map("".join))


def _check_accepted(uri: ModelURI) -> None:
    canonical = uri.canonical
    assert canonical.isascii()
    assert canonical.isprintable()
    assert " " not in canonical
    again = parse_uri(canonical)
    assert again == uri
    assert hash(again) == hash(uri)
    assert again.canonical == canonical
    assert all(_seen(note) for note in uri.notes)


def _check_refused(error: InvalidURIError) -> None:
    assert _seen(str(error))
    assert _seen(error.text)
    assert error.part is not None
    assert _seen(error.part)
    if error.suggestion is not None:
        assert error.suggestion.isascii()
        parse_uri(error.suggestion)


@quick
@given(hub_uris())
def test_every_value_of_the_hub_has_a_canonical_uri_that_means_it(uri: ModelURI) -> None:
    """Printing and reading gives back each repository, revision, path, tag and pin."""
    _check_accepted(uri)


@quick
@given(kind, word, word, st.just("") | path, commit | ref)
def test_a_revision_may_stand_after_the_repository_or_at_the_end(
    kind: str, org: str, name: str, inside: str, rev: str
) -> None:
    """``@REV`` and ``#REV`` say the same in each spelling of the scheme."""
    tail = "/" + quote(inside) if inside else ""
    uri = parse_uri(f"hf://{kind}/{org}/{name}@{quote(rev, safe='')}{tail}")
    assert (uri.repo, uri.path, uri.revision or uri.ref) == (HubRepo(kind, f"{org}/{name}"), inside, rev)
    for prefix in ("hf:", "hf://", "huggingface:", "HuggingFace://"):
        assert parse_uri(f"{prefix}{kind}/{org}/{name}{tail}#{quote(rev, safe='/')}") == uri


@quick
@given(hub_uris())
def test_huggingface_hub_reads_our_canonical_uris_alike(uri: ModelURI) -> None:
    """The Hub's own library finds the same repository and revision in what we print."""
    assume(uri.quant is None and uri.pin is None and uri.repo is not None and "/" in uri.repo.id)
    assert uri.repo is not None
    theirs = parse_hf_uri(uri.canonical)
    assert (f"{theirs.type}s", theirs.id) == (uri.repo.kind, uri.repo.id)
    assert theirs.revision == (uri.revision or uri.ref)
    assert unquote(theirs.path_in_repo) == uri.path


@quick
@given(web_urls() | local_urls | other_urls)
def test_every_url_has_a_canonical_uri_that_means_it(text: str) -> None:
    """A well-formed URL is either read for good or refused with all that a refusal promises."""
    try:
        _check_accepted(parse_uri(text))
    except InvalidURIError as error:
        _check_refused(error)


@quick
@given(web_urls())
def test_every_well_formed_web_url_is_read(text: str) -> None:
    """No URL with a proper host and port is refused, so that the other properties are about something."""
    assert parse_uri(text).scheme in {"http", "https"}


@quick
@given(web_urls())
def test_yarl_reads_our_canonical_urls_alike(text: str) -> None:
    """The HTTP client asks the host, port and path that were checked here."""
    uri = parse_uri(text)
    assert uri.fetch_url is not None
    for ours in (uri.canonical, uri.fetch_url):
        theirs = URL(ours, encoded=True)
        assert theirs.scheme == uri.scheme
        authority, slash, rest = ours.partition("://")[2].partition("/")
        expected = authority.rsplit("]", 1)[0].strip("[") if authority[0] == "[" else authority.partition(":")[0]
        assert theirs.raw_host == expected
        port = authority.rpartition("]")[2].partition(":")[2]
        assert theirs.port == (int(port) if port else {"http": 80, "https": 443}[uri.scheme])
        assert theirs.raw_path == slash + rest.partition("?")[0]
        assert theirs.user is theirs.password is None
    assert URL(uri.canonical).path == URL(uri.fetch_url).path
    assert URL(uri.canonical).raw_host == URL(uri.canonical, encoded=True).raw_host


@quick
@given(web_urls(), st.sampled_from(["#", "#x", f"#{CANARY}"]), st.booleans())
def test_spellings_that_mean_the_same_are_equal(text: str, fragment: str, upper: bool) -> None:
    """Case of scheme and host, the case of escapes, and a fragment that was never sent make no difference."""
    uri = parse_uri(text)
    scheme, _, rest = text.partition("://")
    authority = re.split("[/?]", rest)[0]
    tail = re.sub("%..", lambda escape: escape[0].upper() if upper else escape[0].lower(), rest[len(authority) :])
    same = f"{scheme.swapcase()}://{authority.upper() if upper else authority}{tail}{fragment}"
    assert parse_uri(same) == uri


@settings(deadline=None, max_examples=300)
@given(any_text)
def test_any_text_is_read_or_refused_as_promised(text: str) -> None:
    """Whatever is typed raises nothing but InvalidURIError, printable, with a suggestion that can be read."""
    try:
        uri = parse_uri(text)
    except InvalidURIError as error:
        _check_refused(error)
    else:
        _check_accepted(uri)


odd = st.text(WORDS + "/?#@\\: %&[]é", max_size=6)


def _all_that_is_said(text: str) -> str:
    try:
        uri = parse_uri(text)
    except InvalidURIError as error:
        return f"{error} {error.text} {error.reason} {error.part} {error.suggestion} {error!r}"
    return f"{uri} {uri!r} {uri.source} {uri.path} {uri.notes}"


@quick
@given(
    st.sampled_from(["https", "http", "s3", "file", "htps", "hf:https", "HTTPS"]),
    odd,
    odd,
    st.sampled_from(["://", ":/", ":"]),
)
def test_a_password_is_never_repeated(scheme: str, before: str, after: str, slashes: str) -> None:
    """A password before the host is in nothing that is kept or said, however odd its characters are."""
    # By the rules these are a port and a path, or the path of a local file.
    assume(re.match(r"\d+[/?#]", before + CANARY) is None)
    assume(scheme != "file" or slashes == "://")
    said = _all_that_is_said(f"{scheme}{slashes}user:{before}{CANARY}{after}@host.example/a?b#c")
    assert CANARY not in said


@quick
@given(
    st.sampled_from(
        ["https://host/a", "http://host:8080", "s3://bucket/a", "htps://host", "https:/host/a b", "host.com/a"]
    ),
    st.sampled_from(
        ["X-Amz-Signature", "x-goog-signature", "sig", "token", "Access_Token", "api-key", "%74oken", "Signature"]
    ),
    odd.map(lambda text: text.translate({ord(char): None for char in "#&%"})),
    st.sampled_from(["", "&b=1", ";c", "#d", f"#{CANARY}"]),
)
def test_a_signature_or_fragment_is_never_repeated(start: str, name: str, value: str, end: str) -> None:
    """A token in the query, or a fragment, is in nothing but the URL to request."""
    assert CANARY not in _all_that_is_said(f"{start}?a=1&{name}={value}{CANARY}{end}")


@pytest.mark.parametrize("text", ["hf:https://user:cAnArY7@h", "hf://user:cAnArY7@o/r", "\x00https://u:cAnArY7@h/"])
def test_a_password_in_other_places_is_never_repeated(text: str) -> None:
    """A password is also found behind another scheme, and behind a character that spoils the scheme."""
    assert CANARY not in _all_that_is_said(text)
