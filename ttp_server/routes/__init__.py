"""HTTP routes: decode, one call, encode. Nothing is decided here."""
