"""The log on disk, in Kafka's file names and formats."""
