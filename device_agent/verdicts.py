"""The name by which the agent knows the output to a pipe."""

from device_agent.outputs.printer import Printer

__all__ = ["Printer"]
