"""Group coordination: what consumers have agreed on, and how far they have come."""
