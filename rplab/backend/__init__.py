"""Text models behind one protocol."""
