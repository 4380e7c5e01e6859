"""Real agents, a real broker and a real monitor under faults, and the account of every frame afterwards."""
