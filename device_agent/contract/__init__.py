"""What crosses a wire or a disk between two programs of lineside."""
