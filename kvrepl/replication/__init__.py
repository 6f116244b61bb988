"""PSYNC2 as state machines: bytes and time in, ordered actions out, no I/O anywhere.

Read in this order:

    wire        the bytes of the protocol, and the one place of its +1
    history     which stream, and how far: ids, offset, and who may go on from them
    backlog     the tail of the stream, shared by all who read it
    stream      history and backlog together: what a server hands down
    actions     what the shell is asked to do, and in which order it must
    compression  lz4 frames on a link
    links       the master's view of one replica
    ring        what a diskless transfer has in hand, read by each replica at its own pace
    sharing     who shares a snapshot with whom
    silence     keepalives, and who has said nothing for too long
    master      the master's side: PSYNC, snapshots, streams, timeouts
    reasons     why a replica needs a whole snapshot, and what would have spared it
    fullsync    one full sync: phases, progress, how long it takes
    ledger      what a master counts and keeps of synchronizations
    gate        how many full syncs may run at once
    states      the states of a link to a master, and what may follow what
    handshake   what a replica asks, and how it reads the answers
    payload     a snapshot on the wire
    preview     what its first bytes tell
    replica     the replica's side
    apply       which bytes of the stream count as applied
    quorum      WAIT, and who lags
    backpressure  writers wait for a replica that nears its limit
    failover    the planned failover
    roles       both sides joined; what the shell talks to
    report      INFO and ROLE
    settings    what of redis.conf matters here
    page        the tables of docs/PSYNC.md
"""
