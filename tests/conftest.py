"""What every test gets: property tests that find the same thing each time they run."""

from __future__ import annotations

from hypothesis import settings

# A test run says something about the code, never about luck or the machine's load. To look further:
# make test ARGS="--hypothesis-profile=search"
settings.register_profile("repeatable", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("search", max_examples=2_000, deadline=None, print_blob=True)
settings.load_profile("repeatable")
