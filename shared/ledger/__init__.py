"""The append-only ledger as values: Merkle tree, signed notes, checkpoints, proofs and entries. No I/O."""
