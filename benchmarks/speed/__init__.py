"""How fast, and how much memory: this library beside others, step by step and block by block."""
