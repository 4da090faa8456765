"""The groups of `secmtp` that belong to neither program. They read files and the clock; the core never does."""
