"""`python -m device_agent` is `lineside-agent`."""

from device_agent.cli import main

if __name__ == "__main__":
    main()
