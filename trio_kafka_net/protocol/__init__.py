"""Kafka's wire language: pure functions over memoryviews.

``messages`` has one class per message over all its versions, ``codec`` reads and writes them,
``headers`` what precedes them in a frame; ``api_keys`` and ``error_codes`` are Kafka's numbers.
"""
