"""What a node does: submit, carry, accept, trade, deliver, report. Decisions only, no sockets, files or clocks."""
