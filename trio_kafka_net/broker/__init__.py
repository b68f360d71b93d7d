"""What a broker knows and stores; no sockets, no APIs."""
