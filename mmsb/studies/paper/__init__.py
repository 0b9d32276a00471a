"""The paper's tables: networks, printed numbers, counts."""
