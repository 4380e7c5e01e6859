"""Commands of the `lineside-fleet` program, one module each."""
