"""The papers' measures: reconstruction and animation of a test set, scored."""
