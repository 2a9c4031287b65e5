"""A canonical URI holds no secret of a query, and all that chooses the file."""

from __future__ import annotations

import random
import string

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from modelcask.errors import InvalidURIError
from modelcask.uri import parse_uri

CANARY = "cAnArY7"

KEPT = [
    # what chooses the file, or says nothing of who asks
    "id=7&file=m.gguf&versionId=3",
    "key=path/to/model.gguf",
    "key=path%2Fto%2Fmodel",
    "key=model.gguf",
    "Key=model.safetensors&download=1",
    "keyword=a&keys=b&design=c&author=d&encoding=e&zipcode=f&session_type=g&ticketing=h",
    "expires=1&policy=2&se=3&sp=4&sv=5&sr=6&algorithm=7&response-content-type=8",
    "md5=0123",
    "url=https%3A%2F%2Fmirror%2Fm.gguf%3Fid%3D7",
    "a&b=&;c",
]

LEFT_OUT = [
    # the query, and what of it is kept
    *((f"a=1&{name}=v", "a=1") for name in ("key", "session", "sid", "sas", "code", "ticket", "auth", "pass", "otp")),
    *((f"{name}=v&a=1", "a=1") for name in ("apikey", "api_key", "x-api-key", "access_key", "subscription-key")),
    *((f"{name}=v&a=1", "a=1") for name in ("jwt", "sig", "signature", "token", "sastoken", "PHPSESSID", "session_id")),
    *((f"{name}=v&a=1", "a=1") for name in ("auth_code", "Session-Key", "sig2", "token_v2", "__token__")),
    *((f"{name}=v&a=1", "a=1") for name in ("auth%5Btoken%5D", "user%5Bpwd%5D%5B%5D", "token%5B0%5D")),
    ("key=AbC/dEf%3D%3D&a=1", "a=1"),
    ("key=hunter2&key=model.gguf", "key=model.gguf"),
    ("Expires=1&Policy=P&Signature=S&Key-Pair-Id=K&v=2", "v=2"),
    ("se=1&sp=r&sv=2&sr=b&rscd=x&rsct=y&sig=S&snapshot=2020", "snapshot=2020"),
    ("X-Amz-Date=D&X-Amz-Signature=S&x-id=GetObject&response-content-type=x&versionId=3", "versionId=3"),
    ("X-Goog-Algorithm=A&X-Goog-Expires=1&X-Goog-Signature=S&generation=3", "generation=3"),
    ("q-sign-algorithm=sha1&q-ak=A&q-sign-time=T&q-signature=S&a=1", "a=1"),
    ("md5=0123&expires=9&a=1", "a=1"),
    ("token=T&expires=9&id=1", "id=1"),
    ("url=https%3A%2F%2Fcdn%2Fm.gguf%3Fid%3D7%26X-Amz-Signature%3DS", "url=https://cdn/m.gguf%3Fid%3D7"),
    ("url=https://cdn/m.gguf?sig=S&a=1", "url=https://cdn/m.gguf&a=1"),
]


def _ids(row: object) -> str:
    return ascii(row)[:50]


@pytest.mark.parametrize("query", KEPT, ids=_ids)
def test_what_may_choose_the_file_is_kept(query: str) -> None:
    """Without it two files would be one."""
    uri = parse_uri(f"https://host/get?{query}")
    assert uri.canonical == f"https://host/get?{query}"
    assert uri.notes == ()


@pytest.mark.parametrize(("query", "kept"), LEFT_OUT, ids=_ids)
def test_secrets_and_what_belongs_to_them_are_left_out(query: str, kept: str) -> None:
    """They are sent, told by name, and in nothing that is stored."""
    uri = parse_uri(f"https://host/get?{query}")
    assert uri.canonical == f"https://host/get?{kept}"
    assert uri.fetch_url == f"https://host/get?{query}"
    assert any("neither stored nor shown" in note for note in uri.notes)
    assert parse_uri(uri.canonical).canonical == uri.canonical


SIGNATURES = [
    # names of the parameters that one way of signing adds
    ["X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders", "X-Amz-Signature"],
    ["X-Goog-Algorithm", "X-Goog-Credential", "X-Goog-Date", "X-Goog-Expires", "X-Goog-Signature"],
    ["AWSAccessKeyId", "Signature", "Expires", "response-content-type"],
    ["Expires", "Signature", "Key-Pair-Id"],
    ["Policy", "Signature", "Key-Pair-Id"],
    ["sv", "st", "se", "sr", "sp", "spr", "skoid", "sktid", "skt", "ske", "sks", "skv", "sig"],
    ["OSSAccessKeyId", "Expires", "Signature", "security-token"],
    ["q-sign-algorithm", "q-ak", "q-sign-time", "q-key-time", "q-header-list", "q-url-param-list", "q-signature"],
    ["md5", "expires"],
    ["__token__"],
    ["hdnts"],
    ["token", "expires"],
    *([name] for name in ("key", "code", "session", "sid", "sas", "apikey", "jwt", "access_token", "auth", "password")),
]

word = st.text(string.ascii_letters + string.digits, min_size=1, max_size=8)
plain = st.dictionaries(
    st.sampled_from(["id", "file", "versionId", "generation", "download", "b"]), word.map("v{}".format), max_size=3
)
secret = st.text(string.ascii_letters + string.digits + "-_~", max_size=20).map((CANARY + "{}").format)


@st.composite
def signed_twice(draw: st.DrawFn) -> tuple[str, str, str]:
    """One URL without a signature, and signed in two ways, the parameters in any order."""
    base = f"https://host.example/dir/{draw(word)}.gguf"
    chosen = draw(plain)
    names = draw(st.sampled_from(SIGNATURES))
    order = random.Random(draw(st.integers(0, 1 << 30)))

    def signed() -> str:
        pairs = [f"{name}={value}" for name, value in chosen.items()]
        for name in names:
            spelled = draw(st.sampled_from([name, name.lower(), name.upper(), f"%{ord(name[0]):02x}{name[1:]}"]))
            pairs.insert(order.randint(0, len(pairs)), f"{spelled}={draw(secret)}")
        return f"{base}?{'&'.join(pairs)}"

    return base, signed(), signed()


@settings(deadline=None, max_examples=200)
@given(signed_twice(), st.booleans())
def test_no_value_of_a_signature_is_in_what_is_kept(urls: tuple[str, str, str], nested: bool) -> None:
    """Whatever signed it, in any order and spelling; also inside the URL that another one carries."""
    for url in urls[1:]:
        text = f"https://mirror/get?from={url.replace('%', '%25').replace('&', '%26')}&n=1" if nested else url
        uri = parse_uri(text)
        assert CANARY not in f"{uri} {uri!r} {uri.source} {uri.path} {uri.notes}"
        assert uri.fetch_url == text
        assert parse_uri(uri.canonical).canonical == uri.canonical
        assert parse_uri(uri.canonical) == uri


@settings(deadline=None, max_examples=200)
@given(signed_twice())
def test_two_signed_urls_of_one_file_are_one_key(urls: tuple[str, str, str]) -> None:
    """What changes with each signing goes with the signature; what chooses the file stays."""
    base, one, other = urls

    def chosen(url: str) -> set[str]:
        return set(url.partition("?")[2].split("&")) - {""}

    first, second = parse_uri(one).canonical, parse_uri(other).canonical
    assert chosen(first) == chosen(second) == {pair for pair in chosen(one) if CANARY not in pair}
    assert first.partition("?")[0] == second.partition("?")[0] == base


names = st.one_of(
    st.sampled_from([name for group in SIGNATURES for name in group]),
    st.sampled_from(["md5", "expires", "policy", "x-id", "ts", "url", "a", "a[]", ""]),
    st.text("aeks%[]_.-=", max_size=6),
)
values = st.one_of(
    word,
    st.sampled_from(["a/b.gguf", "a%2Fb", "https://h/x?sig=1", "https%3A%2F%2Fh%3Ftoken%3D1%26b", "%C3%28", "?", "="]),
)
queries = st.lists(
    st.tuples(names, st.sampled_from(["=", ""]), values, st.sampled_from(["&", ";", "&&", "&;"])), max_size=6
).map(lambda pairs: "".join("".join(pair) for pair in pairs))


@settings(deadline=None, max_examples=400)
@given(queries)
def test_what_is_kept_has_nothing_more_to_leave_out(query: str) -> None:
    """The canonical form of a canonical URI is itself, whatever the parameters are."""
    try:
        uri = parse_uri(f"https://host/m?{query}")
    except InvalidURIError:
        assume(False)  # a '%' that leads no two hex digits
        raise
    again = parse_uri(uri.canonical)
    assert again.canonical == uri.canonical
    assert again == uri
    assert not any("neither stored" in note for note in again.notes)
