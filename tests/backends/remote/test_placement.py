"""Where requests go: to the replica that knows them, unless it is overloaded."""

from __future__ import annotations

from collections import Counter

import pytest

from livemind.backends.remote import placement
from livemind.backends.remote.affinity import LONG_PREFIX_CHARS, digest, prefix_of, ranked, sent
from livemind.backends.remote.placement import Placement

NODES = tuple(f"http://replica-{n}" for n in range(10))


def test_choose_idle_fleet_follows_the_rendezvous_order() -> None:
    fleet = Placement(NODES)
    for key in map(str, range(40)):
        assert fleet.choose(key) == ranked(NODES, key)[0]


def test_choose_idle_fleet_follows_the_order_however_it_was_asked_lately() -> None:
    one, other = Placement(NODES), Placement(NODES)
    keys = [f"conversation {number}" for number in range(400)]
    for key in keys[:200]:  # what one gateway has seen the other has not
        node = one.choose(key)
        one.began(node)
        one.ended(node)
    assert [one.choose(key) for key in keys] == [other.choose(key) for key in keys]


def test_choose_conversation_stays_although_its_order_would_say_otherwise() -> None:
    fleet = Placement(NODES)
    first = fleet.choose("k", resting={ranked(NODES, "k")[0]})
    assert first == ranked(NODES, "k")[1]
    assert [fleet.choose("k") for _ in range(3)] == [first] * 3


def test_choose_home_that_rests_is_left_and_all_resting_are_asked_all_the_same() -> None:
    fleet = Placement(NODES)
    home = fleet.choose("k")
    assert fleet.choose("k", resting={home}) != home
    assert fleet.choose("k", resting=set(NODES)) in NODES


def test_choose_overloaded_replica_gives_new_conversations_to_the_less_loaded_of_two() -> None:
    fleet = Placement(NODES, at_a_time=4)
    order = ranked(NODES, "new")
    for _ in range(6):
        fleet.began(order[0])
    fleet.began(order[1])
    assert fleet.choose("new") == order[2]


def test_choose_known_conversation_waits_longer_the_more_it_would_lose() -> None:
    def stays(grown: int) -> bool:
        fleet = Placement(NODES, at_a_time=20)
        for other in range(200):  # what a move usually loses: 1,000
            fleet.choose(f"other-{other}", size=0)
            fleet.choose(f"other-{other}", size=1000)
        home = fleet.choose("k", size=100)
        for node in NODES:
            for _ in range(25 if node == home else 20):
                fleet.began(node)
        return fleet.choose("k", size=100 + grown) == home

    assert stays(5_000)
    assert not stays(0)


def test_choose_no_replica_gets_much_more_than_its_share_of_one_hot_key_beginning() -> None:
    fleet, sessions = Placement(NODES, at_a_time=4), 200
    asked = Counter(fleet_began(fleet, f"s{n}", "hot") for n in range(sessions))
    assert max(asked.values()) <= 1.2 * placement.SLACK * sessions / len(NODES)


def fleet_began(fleet: Placement, key: str, prefix: str | None) -> str:
    node = fleet.choose(key, prefix)
    fleet.began(node)
    return node


def test_choose_rare_beginnings_are_gathered_and_frequent_ones_spread() -> None:
    fleet = Placement(NODES)
    used: dict[str, set[str]] = {}
    for n in range(2000):
        prefix = "often" if n % 2 else f"rare-{n % 40}"
        node = fleet.choose(f"s{n}", prefix)
        fleet.began(node)
        fleet.ended(node)
        used.setdefault(prefix, set()).add(node)
    assert len(used.pop("often")) >= 5
    assert max(map(len, used.values())) <= 3


def test_ended_frees_what_began_counted() -> None:
    fleet = Placement(NODES)
    for _ in range(3):
        fleet.began(NODES[0])
    for _ in range(3):
        fleet.ended(NODES[0])
    assert fleet.load(NODES[0]) == 0


def test_choose_remembers_a_bounded_number_of_conversations(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(placement, "REMEMBERED", 3)
    fleet = Placement(NODES)
    away = {ranked(NODES, "k0")[0]}
    for n in range(3):
        fleet.choose(f"k{n}", resting=away)
    assert fleet.choose("k0") not in away
    for n in range(1, 4):
        fleet.choose(f"k{n}")
    assert fleet.choose("k0") in away


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("sess_0123abcd", "sess_0123abcd"),
        ("a.b:c-d", "a.b:c-d"),
        ("ann@example.org", digest("ann@example.org")),
        ("Ann Example", digest("Ann Example")),
        ("x\r\nInjected: 1", digest("x\r\nInjected: 1")),
        ("ü" * 10, digest("ü" * 10)),
        ("k" * 129, digest("k" * 129)),
        ("", digest("")),
        ("\ud800", digest("\ud800")),
    ],
)
def test_sent_is_an_id_whatever_the_key(key: str, told: str) -> None:
    assert sent(key) == told
    assert len(told) <= 128
    assert told.isascii()


def test_prefix_of_short_instructions_gather_nothing() -> None:
    assert prefix_of(None) is None
    assert prefix_of("x" * (LONG_PREFIX_CHARS - 1)) is None
    long = "x" * LONG_PREFIX_CHARS
    assert prefix_of(long) == prefix_of(long) != prefix_of(long + "y")


def test_digest_texts_do_not_run_into_each_other() -> None:
    assert len({digest("ab", "c"), digest("a", "bc"), digest("abc"), digest("", "abc")}) == 4
