"""`python -m device_agent` is `lineside-agent`."""

from device_agent.start import agent

if __name__ == "__main__":
    agent()
