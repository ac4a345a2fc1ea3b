"""Which addresses a socket may connect to: the last door before the network."""

from __future__ import annotations

import pytest

from launch.addresses import AddressPolicy

PUBLIC = ("93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c")
PRIVATE = ("10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.1.1", "fd12:3456::1")
LOOPBACK = ("127.0.0.1", "127.255.255.254", "::1")
NEVER = (
    "169.254.169.254",
    "169.254.0.1",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "fd00:ec2::254",
    "fd20:ce::254",
    "fe80::1",
    "fec0::1",
    "0.0.0.0",
    "::",
    "224.0.0.1",
    "ff02::1",
    "240.0.0.1",
    "255.255.255.255",
)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_permitted(address):
    assert AddressPolicy().permits(address)


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_are_permitted_where_an_administrator_says_so(address):
    assert not AddressPolicy().permits(address)
    assert AddressPolicy(allow_private=True).permits(address)


@pytest.mark.parametrize("address", ["172.15.255.255", "172.32.0.0", "11.0.0.0", "9.255.255.255"])
def test_the_neighbours_of_private_networks_are_public(address):
    assert AddressPolicy().permits(address)


@pytest.mark.parametrize("address", LOOPBACK)
def test_loopback_is_for_the_demo_even_where_private_addresses_are_allowed(address):
    assert not AddressPolicy(allow_private=True).permits(address)
    assert AddressPolicy(allow_loopback=True).permits(address)


@pytest.mark.threat("5.1")
@pytest.mark.parametrize("address", NEVER)
def test_link_local_metadata_and_the_rest_are_permitted_to_nobody(address):
    assert not AddressPolicy(allow_private=True, allow_loopback=True).permits(address)


@pytest.mark.threat("5.1")
@pytest.mark.parametrize("inner", ["169.254.169.254", "100.100.100.200", "168.63.129.16"])
def test_an_address_inside_an_address_is_judged_by_the_inner_one(inner):
    policy = AddressPolicy(allow_private=True, allow_loopback=True)
    high, low = (int(part) for part in inner.split(".")[:2]), (int(part) for part in inner.split(".")[2:])
    words = "{:02x}{:02x}:{:02x}{:02x}".format(*high, *low)
    assert not policy.permits(f"::ffff:{inner}")
    assert not policy.permits(f"::ffff:{words}")
    assert not policy.permits(f"64:ff9b::{words}")
    assert not policy.permits(f"2002:{words}::")
    assert not policy.permits(f"::{inner}")


@pytest.mark.threat("5.1")
def test_a_mapped_loopback_or_private_address_is_what_it_carries():
    assert not AddressPolicy(allow_private=True).permits("::ffff:127.0.0.1")
    assert AddressPolicy(allow_loopback=True).permits("::ffff:127.0.0.1")
    assert not AddressPolicy().permits("::ffff:10.0.0.1")
    assert AddressPolicy(allow_private=True).permits("::ffff:10.0.0.1")
    assert AddressPolicy().permits("::ffff:93.184.215.14")


@pytest.mark.threat("5.1")
@pytest.mark.parametrize(
    "text",
    [
        "",
        "localhost",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.1",
        "10.0.0.1.",
        "fe80::1%eth0",
        "::1%1",
    ],
)
def test_what_is_no_plain_address_is_refused(text):
    assert not AddressPolicy(allow_private=True, allow_loopback=True).permits(text)
