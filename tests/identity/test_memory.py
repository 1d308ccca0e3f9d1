"""What a worker has at hand of DIDs."""

from relay.identity.memory import Memory
from relay.verify.facts import Identity


def identity(name: str) -> Identity:
    return Identity(f"did:plc:{name}", None, "pds.example.com", 0)


def test_the_one_that_was_unused_longest_is_forgotten_with_its_read() -> None:
    memory = Memory(2)
    memory.put(identity("a"), 1)
    memory.put(identity("b"), 2)
    assert memory.get("did:plc:a") == identity("a")
    memory.put(identity("c"), 3)

    assert [memory.get(f"did:plc:{name}") for name in "abc"] == [identity("a"), None, identity("c")]
    assert [memory.read_of(f"did:plc:{name}") for name in "abc"] == [1, 0, 3]


def test_what_is_put_later_replaces_what_was_there() -> None:
    memory = Memory(2)
    memory.put(identity("a"), 7)
    memory.put(identity("a")._replace(host="new.example.com"), 0)

    assert memory.get("did:plc:a") == identity("a")._replace(host="new.example.com")
    assert memory.read_of("did:plc:a") == 0
