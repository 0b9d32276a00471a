"""The paper's tables: their networks, printed figures and our counts."""
