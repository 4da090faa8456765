"""Database migrations of the two programs; run by the programs themselves, imported by nobody."""
