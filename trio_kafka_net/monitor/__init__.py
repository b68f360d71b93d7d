"""A screen that shows what a server does; it reads metrics and knows nothing else of it."""
