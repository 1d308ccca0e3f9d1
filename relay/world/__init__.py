"""A small simulated network: hosts, accounts and a PLC directory that sign and serve real events.

Used by `relay demo`, the tests and the benchmarks; nothing else imports it. It is the independent side of every
check: it has its own DAG-CBOR encoder, CAR writer, Merkle Search Tree and signer, and never imports the ones the relay
verifies with (`relay.protocol.mst`, `inversion`, `commit`, `relay.verify`, `relay.store`). Everything is seeded,
and times are passed in, so that one seed and one clock give the same bytes.
"""
