"""A bundle that is brought to a group of devices in waves: who is first, when it goes on, and when it goes back."""
