"""What the documentation of redicts 1.0 promised, outside of locks, on every store."""

from __future__ import annotations

import subprocess
import sys

from redicts import Pool, Proxy, root, section
from tests.support.servers import RedisServer
from tests.support.stores import CLUSTER, SENTINELS, Clock, Store, together
from tests.support.waiting import eventually

ALSO_ON = (CLUSTER, SENTINELS)


def test_a_value_that_was_set_can_be_got(any_store: Store) -> None:
    """The value set at a key is the value of the proxy that ``get`` returns for that key."""
    shelf = Proxy("library.fiction.shelf")
    shelf.set("books", 17)
    assert shelf.get("books").val() == 17


def test_set_returns_the_proxy_it_was_called_on(any_store: Store) -> None:
    """``set`` returns its own proxy, whose value then has the new key and the older ones."""
    shelf = Proxy("library.fiction.shelf")
    shelf.set("books", 17)
    returned = shelf.set("label", {"colour": "green"})
    assert returned is shelf
    assert returned.val() == {"label": {"colour": "green"}, "books": 17}


def test_values_are_in_one_hierarchy(any_store: Store) -> None:
    """A dotted path is the path through nested dicts: a value is part of every dict above it."""
    Proxy("library.fiction").set("shelf", {"books": 17})
    Proxy("library.fiction.shelf").set("lamp.on", True)
    assert root().val() == {"library": {"fiction": {"shelf": {"books": 17, "lamp": {"on": True}}}}}
    assert Proxy("library.fiction.shelf.lamp.on").val() is True


def test_a_missing_value_is_none(any_store: Store) -> None:
    """An absent value is ``None``, or the given default."""
    assert root().get("nobody").val() is None
    assert root().get("nobody.here").val("a default") == "a default"


def test_a_new_tree_is_empty(any_store: Store) -> None:
    """The root of an empty tree has no value, does not exist and has no names."""
    assert root().val() is None
    assert not root().exists()
    assert list(root()) == []


def test_a_proxy_iterates_over_the_names_below(any_store: Store) -> None:
    """Iteration gives the names directly below, leaves and dicts alike."""
    root().set("left", 1)
    root().set("right", {"deep": {"deeper": 2}})
    names = list(root())
    assert sorted(names) == ["left", "right"]


def test_iter_children_gives_every_leaf(any_store: Store) -> None:
    """``iter_children`` yields a proxy for each leaf below, and ``key`` is its whole dotted path."""
    root().set("left", 1)
    root().set("right", {"deep": {"deeper": 2}, "list": [3, {"in": "one leaf"}]})
    assert {each.key(): each.val() for each in root().iter_children()} == {
        "left": 1,
        "right.deep.deeper": 2,
        "right.list": [3, {"in": "one leaf"}],
    }


def test_iter_children_of_a_leaf_is_the_leaf(any_store: Store) -> None:
    """The leaves at and below a leaf are that leaf; of nothing there are none."""
    root().set("left", 1)
    assert [each.key() for each in Proxy("left").iter_children()] == ["left"]
    assert list(Proxy("nobody").iter_children()) == []


def test_delete_removes_one_key(any_store: Store) -> None:
    """``delete`` removes a key with all below it, and nothing else; what is not there is no error."""
    root().set("left", {"x": 1})
    root().set("right", 2)
    root().delete("left")
    assert not root().get("left").exists()
    assert not root().get("left.x").exists()
    root().delete("left")
    root().delete("never.there")
    assert root().val() == {"right": 2}


def test_delete_takes_a_dotted_path(any_store: Store) -> None:
    """``delete`` takes a dotted key; a dict without leaves is absent."""
    root().set("left", {"x": {"y": 1}, "z": 2})
    root().delete("left.x.y")
    assert root().val() == {"left": {"z": 2}}
    root().delete("left.z")
    assert root().val() is None


def test_clear_removes_all_at_and_below(any_store: Store) -> None:
    """``clear`` removes everything at and below its path, a dict, a leaf or the root, and nothing else."""
    root().set("left", {"x": 1, "y": {"z": 2}})
    root().set("leftover", 3)
    root().set("right", 4)
    Proxy("left").clear()
    assert root().val() == {"leftover": 3, "right": 4}
    Proxy("right").clear()
    assert root().val() == {"leftover": 3}
    root().clear()
    assert not root().exists()
    assert not root().get("leftover").exists()


def test_exists_is_true_for_leaves_and_dicts(any_store: Store) -> None:
    """``exists`` is true for leaves and dicts, also for values that are false in Python."""
    root().set("tree", {"leaf": 1})
    assert root().exists()
    assert Proxy("tree").exists()
    assert Proxy("tree.leaf").exists()
    assert not Proxy("tree.leaf.below").exists()
    assert not Proxy("tre").exists()
    nothings: tuple[object, ...] = (None, "", 0, 0.0, False, [], {})
    for value in nothings:
        root().set("false", value)
        assert Proxy("false").exists()
        assert Proxy("false").val("default") == value


def test_key_is_the_dotted_path(any_store: Store) -> None:
    """``key`` gives the path as a proxy takes it; that of the root is empty."""
    assert Proxy("a.b").get("c").key() == "a.b.c"
    assert root().key() == ""
    assert root().get("c").key() == "c"


def test_section_is_a_proxy(any_store: Store) -> None:
    """``section`` returns the proxy for a name, and takes the arguments of a proxy."""
    section("settings").set("volume", 11)
    assert root().val() == {"settings": {"volume": 11}}
    assert section("settings") is Proxy("settings")
    assert section("settings", 1, lock_expire_timeout=2) is Proxy("settings", 1, 2)


def test_root_takes_the_arguments_of_a_proxy(any_store: Store) -> None:
    """``root`` gives the proxy of the empty path, and takes the other arguments of a proxy."""
    any_store.reload(names={"other": 1})
    assert root() is Proxy("")
    assert root(lock_acquire_timeout=3) is Proxy("", 3)
    root(db_name="other").set("x", 1)
    assert Proxy("x", db_name="other").val() == 1
    root(db_name="other").clear()
    assert root().val() is None


def test_the_lock_timeouts_are_accepted(any_store: Store) -> None:
    """The timeouts of 1.0 are accepted by position and by name, and do not change which value is meant."""
    Proxy("x", 5, 60).set("y", 1)
    assert Proxy("x", lock_acquire_timeout=1, lock_expire_timeout=2).get("y").val() == 1


def test_another_server_can_be_chosen(redis_server: RedisServer) -> None:
    """The dict of 1.0, with all its fields, chooses a Redis server."""
    Pool().reload(
        cfg={
            "host": redis_server.host,
            "port": redis_server.port,
            "database": 3,
            "max_connections": 5,
            "timeout_secs": 7,
        }
    )
    root().set("here", [1])
    assert redis_server.command("DBSIZE") == 0
    Pool().reload(cfg={"host": redis_server.host, "port": redis_server.port})
    assert root().val() is None
    Pool().reload(cfg={"host": redis_server.host, "port": redis_server.port, "default": 3})
    assert root().val() == {"here": [1]}


def test_fake_redis_needs_no_server() -> None:
    """``reload(fake_redis=True)`` gives a store of its own, empty, whatever was current before."""
    root().set("before", 1)
    Pool().reload(fake_redis=True)
    assert root().val() is None
    root().set("x.y", [1, None])
    assert root().val() == {"x": {"y": [1, None]}}
    root().clear()
    assert not root().exists()


def test_several_databases_have_names(any_store: Store) -> None:
    """The same path in databases of different names holds different values; without a name the default is meant."""
    any_store.reload(default=0, names={"cats": 1, "dogs": 2})
    Proxy("food").set("bowls", 1)
    Proxy("food", db_name="cats").set("bowls", 2)
    Proxy("food", db_name="dogs").set("bowls", 3)
    found = [Proxy("food.bowls").val(), *[Proxy("food.bowls", db_name=name).val() for name in ("cats", "dogs")]]
    assert found == [1, 2, 3]
    root(db_name="cats").clear()
    assert Proxy("food.bowls").val() == 1
    assert Proxy("food.bowls", db_name="dogs").val() == 3
    root(db_name="dogs").clear()


def test_a_proxy_below_stays_in_its_database(any_store: Store) -> None:
    """Whatever is reached from a proxy is in the same database."""
    any_store.reload(names={"cats": 1})
    cats = Proxy("house", db_name="cats")
    cats.set("tom", {"age": 3})
    assert cats.get("tom.age") is Proxy("house.tom.age", db_name="cats")
    assert [each.val() for each in cats.iter_children()] == [3]
    assert [each.val() for each in cats.children()] == [{"age": 3}]
    assert root().val() is None
    cats.clear()


def test_a_value_with_a_ttl_expires(any_store: Store) -> None:
    """A value with ``expire`` is there until its TTL ends, and then absent for every method."""
    root().set("brief", {"x": "still here"}, expire=0.2)
    root().set("lasting", 1)
    eventually(lambda: not Proxy("brief").exists(), "a TTL of 0.2 seconds ends")
    assert Proxy("brief.x").val() is None
    assert Proxy("brief").time_to_live() == -2
    assert root().val() == {"lasting": 1}
    assert list(root()) == ["lasting"]
    assert [each.key() for each in root().iter_children()] == ["lasting"]


def test_a_ttl_can_be_given_later(any_store: Store) -> None:
    """``expire`` gives a TTL to what has none yet."""
    root().set("brief", "still here")
    assert Proxy("brief").time_to_live() == -1
    root().get("brief").expire(100)
    assert Proxy("brief").time_to_live() in range(50, 101)
    assert Proxy("brief").val() == "still here"
    root().get("brief").expire(0.05)
    eventually(lambda: Proxy("brief").val() is None, "a TTL of 0.05 seconds ends")
    assert Proxy("brief").time_to_live() == -2


def test_time_to_live_counts_down(clock: Clock) -> None:
    """Ten seconds of TTL are 10 at first, 9 after one second, 1 until the end, and -2 from the end on."""
    root().set("x", "still here", expire=10)
    expected = {0: 10, 0.001: 10, 0.999: 10, 1: 9, 1.001: 9, 8.999: 2, 9: 1, 9.5: 1, 9.999: 1, 10: -2, 11: -2}
    start = clock.seconds
    for passed, left in expected.items():
        clock.seconds = start + passed
        assert root().get("x").time_to_live() == left, passed
        assert root().get("x").val() == ("still here" if left > 0 else None), passed
        assert root().get("x").exists() is (left > 0), passed


def test_add_counts(any_store: Store) -> None:
    """``add`` returns the new total; what is not there is set to the count."""
    counter = Proxy("visits.today")
    assert counter.add(3) == 3
    assert counter.add(4) == 7
    assert counter.add(-10) == -3
    assert counter.val() == -3


def test_add_in_threads_loses_nothing(any_store: Store) -> None:
    """Threads that add to one counter at the same time are all counted."""
    Proxy("visits").set("today", 0)

    def count() -> list[int]:
        return [Proxy("visits").get("today").add(1) for _ in range(25)]

    totals = together(count, count, count)
    assert Proxy("visits.today").val() == 75
    assert sorted(total for each in totals for total in each) == list(range(1, 76))


def test_add_in_processes_loses_nothing(any_store: Store) -> None:
    """Two processes add to the same counter, if the store can be shared."""
    shared = Pool().database().backend.capabilities.processes
    assert shared is (any_store.name not in {"memory", "fakeredis"})
    if not shared:
        return
    Proxy("visits").set("today", 0)
    program = (
        "from redicts import Pool, Proxy\n"
        f"Pool().reload(cfg={any_store.configuration!r})\n"
        "input()\n"
        "for _ in range(50): Proxy('visits.today').add(1)\n"
        "Pool().reload(cfg={'backend': 'memory'})\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE) as other:
        assert other.stdin is not None
        other.stdin.write(b"go\n")
        other.stdin.flush()
        for _ in range(50):
            Proxy("visits.today").add(1)
        assert other.wait() == 0
    assert Proxy("visits.today").val() == 100


def test_values_are_what_json_takes(any_store: Store) -> None:
    """Every value that ``json.dumps`` takes can be stored and read."""
    values = ["text", "", 5, -2.5, True, None, [1, [2, {"three": None}]], {"a": {"b": []}}, {}, 10**30]
    for value in values:
        root().set("any", value)
        assert root().get("any").val() == value
