"""Publish and subscribe: who hears what, and what a subscriber may do."""

from __future__ import annotations

import pytest

from kvrepl.engine.client import Client
from kvrepl.engine.propagation import AOF
from kvrepl.resp.values import NO_REPLY
from tests.unit.commands.session import Recorder, Session, argv_of


def heard(client: Client) -> bytes:
    """What the client was sent since it was asked last."""
    data = b"".join(client.out)
    client.out.clear()
    return data


def listener(session: Session, *arguments: object, resp: int = 2) -> Client:
    """A client of its own that subscribes."""
    client = session.engine.connect()
    client.resp = resp
    assert session.engine.apply(client, argv_of(arguments)) is NO_REPLY
    return client


def test_subscribe_answers_once_for_each_channel_with_the_count_so_far(session: Session) -> None:
    client = listener(session, "subscribe", "a", "b", "a")
    assert heard(client) == (
        b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n"
        b"*3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n"
        b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:2\r\n"
    )


def test_unsubscribe_of_everything_answers_for_each_and_for_nobody_once(session: Session) -> None:
    client = listener(session, "psubscribe", "a*", "b*", resp=3)
    heard(client)
    session.engine.apply(client, [b"punsubscribe"])
    assert heard(client) == (
        b">3\r\n$12\r\npunsubscribe\r\n$2\r\na*\r\n:1\r\n"
        b">3\r\n$12\r\npunsubscribe\r\n$2\r\nb*\r\n:0\r\n"
    )
    session.engine.apply(client, [b"unsubscribe"])
    assert heard(client) == b">3\r\n$11\r\nunsubscribe\r\n_\r\n:0\r\n"


def test_shard_subscriptions_are_counted_apart(session: Session) -> None:
    client = listener(session, "subscribe", "a")
    heard(client)
    session.engine.apply(client, [b"ssubscribe", b"s"])
    assert heard(client) == b"*3\r\n$10\r\nssubscribe\r\n$1\r\ns\r\n:1\r\n"


def test_publish_counts_one_for_each_matching_subscription(session: Session) -> None:
    client = listener(session, "psubscribe", "f*", "?oo")
    session.engine.apply(client, [b"subscribe", b"foo"])
    heard(client)
    assert session.run("publish", "foo", "hi") == 3
    assert heard(client).count(b"hi") == 3
    assert session.run("publish", "bar", "hi") == 0
    assert session.run("spublish", "foo", "hi") == 0


def test_publish_speaks_each_subscribers_protocol(session: Session) -> None:
    old, new = (listener(session, "subscribe", "c", resp=resp) for resp in (2, 3))
    heard(old), heard(new)
    session.run("publish", "c", "m")
    assert heard(old) == b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nm\r\n"
    assert heard(new) == b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nm\r\n"


@pytest.mark.parametrize("name", ["publish", "spublish"])
def test_publish_goes_to_replicas_even_unheard_and_never_to_the_aof(
    session: Session, name: str
) -> None:
    aof = Recorder()
    session.engine.propagation._aof = aof
    session.engine.propagation.targets |= AOF
    assert session.propagated(name, "c", "m") == [f"{name} c m"]
    assert aof.commands == []


def test_subscriber_of_resp2_may_only_change_its_subscriptions(session: Session) -> None:
    session.run("subscribe", "a")
    assert session.error("get", "k").startswith("ERR Can't execute 'get': only (P|S)SUBSCRIBE")
    assert session.run("ping") == [b"pong", b""]
    assert session.run("ping", "x") == [b"pong", b"x"]
    session.run("unsubscribe")
    assert session.run("get", "k") is None


def test_subscriber_of_shards_alone_is_one_too(session: Session) -> None:
    session.run("ssubscribe", "a")
    assert session.error("get", "k").startswith("ERR Can't execute 'get'")
    session.run("sunsubscribe", "a")
    assert session.run("get", "k") is None


def test_subscriber_of_resp3_may_do_anything(session3: Session) -> None:
    session3.run("subscribe", "a")
    assert session3.run("get", "k") is None


def test_subscribe_inside_a_transaction_answers_in_its_place(session: Session) -> None:
    for name in ("multi", "subscribe a", "publish a m", "exec"):
        reply = session.run(*name.split())
    assert reply.wire == (
        b"*2\r\n*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n"
        b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nm\r\n:1\r\n"
    )
    assert session.client.out == []


def test_pubsub_tells_channels_patterns_and_numbers(session: Session) -> None:
    listener(session, "subscribe", "foo", "bar")
    listener(session, "subscribe", "foo")
    listener(session, "psubscribe", "f*")
    listener(session, "ssubscribe", "shard")
    assert set(session.run("pubsub", "channels")) == {b"foo", b"bar"}
    assert session.run("pubsub", "channels", "f*") == [b"foo"]
    assert session.run("pubsub", "numsub", "foo", "x") == [b"foo", 2, b"x", 0]
    assert session.run("pubsub", "numpat") == 1
    assert session.run("pubsub", "shardchannels") == [b"shard"]
    assert session.run("pubsub", "shardnumsub", "shard") == [b"shard", 1]
    assert session.error("pubsub", "channels", "a", "b") == (
        "ERR unknown subcommand or wrong number of arguments for 'channels'. Try PUBSUB HELP."
    )


def test_disconnected_subscriber_is_forgotten(session: Session) -> None:
    client = listener(session, "subscribe", "foo")
    session.engine.disconnect(client)
    assert session.run("publish", "foo", "hi") == 0
    assert session.run("pubsub", "channels") == []
