"""What is signed and shown: manifest, tokens, envelope head, bindings, bundle, and their verification."""
