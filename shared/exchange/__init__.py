"""The exchange as state machines without I/O: tables of (state, event) → (next state, actions)."""
