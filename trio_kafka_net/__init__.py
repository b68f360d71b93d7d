"""Kafka's network layer on trio's structured concurrency, and a broker built on it."""
