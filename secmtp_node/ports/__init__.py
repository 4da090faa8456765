"""What the use cases of a node need from the outside: values, and small interfaces with their promises."""
