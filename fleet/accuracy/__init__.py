"""How right the answers are: what counts alone can say, what labels say, and what golden parts say."""
