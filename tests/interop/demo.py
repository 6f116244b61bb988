"""`make demo`: both ends of replication with the real Redis at the other, told step by step.

Every line is a check as well: the demo ends with an error where the servers disagree.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from tests.interop.datasets import Load, populate
from tests.interop.harness import (
    Kind,
    Server,
    follow,
    position,
    sync_counts,
    wait_caught_up,
    wait_same_data,
)
from tests.interop.proxy import Proxy

KEYS = 20_000
CUTS = 5


def tell(text: str) -> None:
    """Print one step of the story."""
    click.echo(f"  {text}")


def full_sync(master: Server, replica: Server, proxy: Proxy) -> None:
    """Attach an empty replica to a filled master."""
    keys = populate(master, KEYS)
    tell(f"{master.kind} holds {keys:,} keys of every type")
    follow(replica, proxy.port)
    digest = wait_same_data(master, replica)
    tell(f"{replica.kind} has synchronised; both have the digest {digest[:12]}...")


def cuts(master: Server, replica: Server, proxy: Proxy) -> None:
    """Cut the link again and again under load."""
    with Load(master) as load:
        for _ in range(CUTS):
            load.wait_for(300)
            seen = proxy.connections
            proxy.cut()
            proxy.wait_reconnected(seen)
    wait_same_data(master, replica)
    full, partial = sync_counts(master)
    assert full == 1, "a cut caused a full synchronisation"
    tell(f"{load.replies:,} writes and {CUTS} cuts later: {partial} partial resyncs, digests equal")


def promotion(master: Server, replica: Server) -> None:
    """Kill the master, promote the replica, take the old master back."""
    wait_caught_up(master, replica)
    replid, offset = position(master)
    master.kill()
    replica.call("REPLICAOF", "NO", "ONE")
    info = replica.info("replication")
    assert (info["master_replid2"], info["second_repl_offset"]) == (replid, offset + 1)
    tell(f"{master.kind} was killed, {replica.kind} promoted; it goes on from offset {offset:,}")
    master.restart()
    follow(master, replica.port)
    wait_same_data(replica, master)
    tell(f"{master.kind} came back as the replica of {replica.kind}; digests equal")


def act(master_kind: Kind, replica_kind: Kind, folder: Path) -> None:
    """Play the whole story for one pair."""
    click.secho(f"master {master_kind}, replica {replica_kind}", bold=True)
    with (
        Server(master_kind, folder / "master", {"repl-backlog-size": "64mb"}) as master,
        Server(replica_kind, folder / "replica") as replica,
        Proxy(master.port) as proxy,
    ):
        full_sync(master, replica, proxy)
        cuts(master, replica, proxy)
        promotion(master, replica)


@click.command()
@click.option("--master", type=click.Choice(["redis", "kvrepl"]), help="Only with this master.")
@click.option("--replica", type=click.Choice(["redis", "kvrepl"]), help="Only with this replica.")
def main(master: Kind | None, replica: Kind | None) -> None:
    """Show kvrepl-server as the replica of redis-server, and then as its master."""
    pairs: list[tuple[Kind, Kind]] = [("redis", "kvrepl"), ("kvrepl", "redis")]
    if master or replica:
        pairs = [(master or "kvrepl", replica or "kvrepl")]
    for pair in pairs:
        with tempfile.TemporaryDirectory(prefix="kvrepl-demo-") as folder:
            act(*pair, Path(folder))


if __name__ == "__main__":
    main()
