"""Task files for theory-of-mind sets that lm-evaluation-harness lacks; their data are not shipped."""
