"""Kafka's APIs: the registry that dispatches them, and one module per family."""
