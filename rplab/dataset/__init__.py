"""From rows to data sets: convert, normalise, split, views, data card."""
