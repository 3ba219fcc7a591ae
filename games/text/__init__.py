"""Text on the device: lexicon, rendering, grammar."""
