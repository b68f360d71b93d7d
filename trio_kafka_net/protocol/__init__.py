"""Kafka's wire language: pure functions over memoryviews."""
