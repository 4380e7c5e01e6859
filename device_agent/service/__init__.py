"""The agent as a service of systemd: readiness, watchdog, unit, and why the run before this one ended."""
