"""Social games as batched, pure-functional state machines, with their words."""
