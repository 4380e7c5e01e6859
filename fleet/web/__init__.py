"""The monitor's page: reads the store, writes nothing, needs no network beyond its own address."""
