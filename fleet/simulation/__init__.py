"""A fleet that is not there: the worlds of `fleet.worlds` as devices that speak.

plant       devices, models, places, and their reports as they go over the wire
direct      straight into the detector, a site at a time, and what it said
stored      into a store, through the monitor's own ingest
carriers    over MQTT, thousands of devices on a few connections, with acknowledgements
storm       a connection each: a whole fleet that lost its broker comes back
"""
