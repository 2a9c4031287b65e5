"""The decisions of the network layer as tables: no sockets here."""

from __future__ import annotations

import ipaddress
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from modelcask.errors import CacheError, PolicyError, ResponseError
from modelcask.net.policy import (
    SpeedFloor,
    check_plain_http,
    is_loopback,
    is_public_address,
    may_carry,
    next_hop,
    origin_of,
    read_url,
)
from modelcask.types import Credential

PRIVATE_ADDRESSES = [
    *("127.0.0.1", "127.1.2.3", "127.255.255.255", "0.0.0.0", "0.1.2.3"),
    *("10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1", "192.168.255.255"),
    *(
        "169.254.169.254",
        "169.254.0.1",
        "100.64.0.1",
        "100.127.255.255",
        "192.0.0.1",
        "192.0.0.192",
        "192.0.2.1",
        "198.18.0.1",
    ),
    *(
        "198.51.100.1",
        "203.0.113.1",
        "192.88.99.1",
        "168.63.129.16",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
    ),
    *("::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:0:7f00:1"),
    *("64:ff9b::127.0.0.1", "64:ff9b::a00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "2002:808:808::1"),
    *(
        "2001:0:1::1",
        "2001:db8::1",
        "2001:10::1",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "fc00::1",
        "fd12:3456::1",
        "3fff::1",
    ),
    *("ff02::1", "ff0e::1", "100::1", "4000::1", "e000::1", "2606:4700::1111%eth0"),
]
PUBLIC_ADDRESSES = [
    *(
        "1.1.1.1",
        "8.8.8.8",
        "18.154.0.1",
        "172.15.255.255",
        "172.32.0.1",
        "100.63.255.255",
        "100.128.0.1",
        "223.255.255.1",
    ),
    *("2606:4700::1111", "2a00:1450:4001:80b::200e", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"),
]


@pytest.mark.parametrize("address", PRIVATE_ADDRESSES)
def test_an_address_off_the_public_internet_is_seen(address: str) -> None:
    """Loopback, private, shared, reserved, multicast and translated addresses are all not public."""
    assert not is_public_address(address)


@pytest.mark.parametrize("address", PUBLIC_ADDRESSES)
def test_an_address_on_the_public_internet_is_seen(address: str) -> None:
    """Ordinary addresses stay reachable, those that a network translates for IPv6 included."""
    assert is_public_address(address)


@pytest.mark.parametrize("text", ["", "localhost", "127.1", "0x7f.1", "8.8.8.8 ", "[::1]", "1.1.1.1/32", "٨.٨.٨.٨"])
def test_what_is_no_address_is_not_public(text: str) -> None:
    """Only a numeric address in full can be judged."""
    assert not is_public_address(text)


@given(st.integers(0, 2**32 - 1))
def test_an_ipv4_address_is_judged_the_same_in_each_ipv6_dress(number: int) -> None:
    """Mapping an address into IPv6 or behind NAT64 opens nothing."""
    plain = is_public_address(str(ipaddress.IPv4Address(number)))
    assert is_public_address(str(ipaddress.IPv6Address(0xFFFF << 32 | number))) == plain
    assert is_public_address(str(ipaddress.IPv6Address((0x0064FF9B << 96) | number))) == plain
    assert not is_public_address(str(ipaddress.IPv6Address((0x2002 << 112) | (number << 80) | 1)))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://host/a", "https://host:443/b?c"),
        ("http://host/", "http://host:80"),
        ("https://HOST/", "https://host/"),
        ("https://[::1]/", "https://[::1]:443/x"),
    ],
)
def test_one_origin_has_one_name(one: str, other: str) -> None:
    """Default ports, letter case and paths make no second origin."""
    assert origin_of(one) == origin_of(other)


ORIGIN = "https://hub.example"


@pytest.mark.parametrize(
    ("url", "goes"),
    [
        ("https://hub.example/x", True),
        ("https://hub.example:443/x", True),
        ("https://HUB.example/x", True),
        ("http://hub.example/x", False),
        ("http://hub.example:443/x", False),
        ("https://hub.example:8443/x", False),
        ("https://hub.example./x", False),
        ("https://hub.example.evil/x", False),
        ("https://cdn.hub.example/x", False),
        ("https://example/x", False),
    ],
)
def test_a_credential_goes_to_its_own_origin_only(url: str, *, goes: bool) -> None:
    """Scheme, host and port must all be equal."""
    assert may_carry(Credential(ORIGIN, (("Authorization", "Bearer s"),)), read_url(url)) is goes


def test_a_credential_travels_in_the_clear_to_this_machine_only() -> None:
    """Plain http to another machine never carries a secret, even to the right origin."""
    assert may_carry(
        Credential("http://127.0.0.1:8080", (("Authorization", "Bearer s"),)), read_url("http://127.0.0.1:8080/x")
    )
    assert not may_carry(
        Credential("http://mirror.lan", (("Authorization", "Bearer s"),)), read_url("http://mirror.lan/x")
    )


@pytest.mark.parametrize("host", ["localhost", "a.localhost", "127.0.0.1", "127.9.9.9", "::1"])
def test_loopback_is_seen(host: str) -> None:
    """Names and addresses that can only be this machine are loopback."""
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["", "localhost.evil", "notlocalhost", "127.0.0.1.nip.io", "10.0.0.1", "127.1", "0.0.0.0"]
)
def test_what_only_looks_like_loopback_is_not(host: str) -> None:
    """A name that somebody else can point anywhere is not this machine."""
    assert not is_loopback(host)


def test_plain_http_needs_a_reason() -> None:
    """Plain http to another machine is refused with the ways out; loopback and an allowance pass."""
    with pytest.raises(PolicyError, match=r"https://.*#sha256=.*--allow-http"):
        check_plain_http(read_url("http://host/file?sig=secret"), allowed=False)
    for url, allowed in [("http://host/", True), ("https://host/", False), ("http://localhost:80/", False)]:
        check_plain_http(read_url(url), allowed=allowed)


@pytest.mark.parametrize("url", ["https://h/a%2Fb/%7E?sig=a%2Bb+c%3D&x=%22", "https://h/a/../b", "https://[::1]:8/"])
def test_a_url_is_requested_exactly_as_spelled(url: str) -> None:
    """A signature covers the spelling, so nothing is decoded, encoded or tidied."""
    assert str(read_url(url)) == url
    assert str(next_hop(URL("https://other/"), url, status=302)) == url


@pytest.mark.parametrize(
    "url",
    [
        *("ftp://h/x", "file:///etc/passwd", "javascript:alert(1)", "h/x", "", "//h/x", "https:///x", "https://"),
        *("https://u@h/", "https://u:p@h/", "https://:p@h/", "https://h:0/", "https://h:99999/", "https://h:x/"),
        *("https://h\\@evil/", "https://h evil/", "https://hé/", "https://h%2eevil/", "https://[::1", "https://[1.2]/"),
        *("https://[fe80::1%25eth0]/", "https://-h/", "https://h\n/"),
    ],
)
def test_what_may_not_be_requested_is_refused(url: str) -> None:
    """Anything but a plain absolute http(s) URL ends before a socket exists, and its secrets are not repeated."""
    with pytest.raises(PolicyError) as caught:
        read_url(url)
    assert "u:p" not in str(caught.value)


@pytest.mark.parametrize(
    ("location", "leads_to"),
    [
        ("/b", "https://h.example/b"),
        ("b?x=1", "https://h.example/dir/b?x=1"),
        ("?x=1", "https://h.example/dir/a?x=1"),
        ("../b", "https://h.example/b"),
        ("//other.example/b", "https://other.example/b"),
        (" https://other.example/b ", "https://other.example/b"),
        ("HTTPS://other.example:8443/b#part", "https://other.example:8443/b"),
        ("/a b", "https://h.example/a%20b"),
        ("/caf\u00e9", "https://h.example/caf%C3%A9"),
        ("/\udcff", "https://h.example/%FF"),
        ("/a\\b", "https://h.example/a%5Cb"),
        ("https:\\\\evil/", "https://h.example/dir/%5C%5Cevil/"),
        ("https:/b", "https://h.example/b"),
        ("https:b", "https://h.example/dir/b"),
        ("///b", "https://h.example/b"),
    ],
)
def test_a_location_is_resolved_as_browsers_do(location: str, leads_to: str) -> None:
    """Relative forms are joined to the hop they came from; what no URL may hold is percent-encoded."""
    assert str(next_hop(URL("https://h.example/dir/a?q=1"), location, status=302)) == leads_to


@pytest.mark.parametrize(
    ("location", "error"),
    [
        *((text, ResponseError) for text in (None, "", "  ", "https://[", "https://h:99999/", "https://a b/")),
        *((text, ResponseError) for text in ("https://\\evil/", "https://\u00e9.example/", "https://h%00.evil/")),
        *((text, ResponseError) for text in ("https://[fe80::1%25eth0]/", "https://-h/", "https://h:0/")),
        *((text, PolicyError) for text in ("http://h.example/a", "ftp://h.example/", "file:///etc/passwd")),
        *((text, PolicyError) for text in ("data:,x", "gopher://h/", "https://u:secret@h/", "//u:secret@x/")),
        *((text, PolicyError) for text in ("https://h\\@evil/", "//h.example@evil/")),
    ],
)
def test_a_location_that_may_not_be_followed_is_refused(location: str | None, error: type[CacheError]) -> None:
    """Each bad Location ends in a typed error that shows no secret of either URL."""
    with pytest.raises(error) as caught:
        next_hop(URL("https://h.example/a?sig=secret"), location, status=302)
    assert "secret" not in str(caught.value)


@given(st.text(string.printable + "é\udc80", max_size=40))
def test_no_location_escapes_the_rules(location: str) -> None:
    """Whatever a server writes, the result is a plain https URL or a typed error."""
    try:
        hop = next_hop(URL("https://h.example/a"), location, status=302)
    except CacheError:
        return
    assert hop.scheme == "https"
    assert hop.raw_user is None
    assert hop.raw_host
    assert str(hop).isascii()
    assert origin_of(str(hop)) == origin_of(hop)


def test_a_dripping_body_is_noticed_after_a_minute() -> None:
    """Under 1 KiB/s over 60 s of waiting is too slow; one byte more is not."""
    slow, fast = SpeedFloor(), SpeedFloor()
    assert [slow.is_too_slow(1.0, 1023) for _ in range(60)] == [False] * 59 + [True]
    assert not any(fast.is_too_slow(1.0, 1024) for _ in range(600))


def test_a_fast_start_does_not_excuse_a_drip_for_ever() -> None:
    """Only the last minute counts."""
    floor = SpeedFloor()
    assert not floor.is_too_slow(0.1, 1 << 30)
    verdicts = [floor.is_too_slow(1.0, 1) for _ in range(200)]
    assert not any(verdicts[:58])
    assert all(verdicts[61:])


def test_a_pause_of_the_consumer_is_not_the_servers_fault() -> None:
    """Chunks that were there at once never count as slow, however small."""
    floor = SpeedFloor()
    assert not any(floor.is_too_slow(0.0, 1) for _ in range(10_000))


def test_the_speed_floor_stays_small_on_a_fast_body() -> None:
    """A million short waits are kept as about sixty slices."""
    floor = SpeedFloor()
    for _ in range(200_000):
        floor.is_too_slow(0.001, 1 << 16)
    assert len(floor._slices) <= 62
