"""The mail node of a domain: takes submissions, speaks to other nodes and to the TTP, delivers."""
