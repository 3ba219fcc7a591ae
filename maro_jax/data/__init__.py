"""Episodes on disk: datasets that TFDS reads, how they are written, checked and imported (docs/data.md)."""
