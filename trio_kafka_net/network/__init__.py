"""Bytes → frames → requests. Knows sockets and frames; nothing of Kafka's APIs."""
